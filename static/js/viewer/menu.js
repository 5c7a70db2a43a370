/* The menu of a card or a finished picture: its actions, fetched when they are wanted, beside the button or as a sheet
   on a phone. */
(() => {
  "use strict";

  const { $, $$, on } = dreamsketch;
  const LINKS = "main a[data-view]:not([data-neighbour])";
  let opener = null;

  function menu() {
    const known = $("#picture-menu");
    if (known) return known;
    const made = document.createElement("div");
    Object.assign(made, { id: "picture-menu", className: "pop picture-menu", popover: "auto" });
    made.setAttribute("role", "dialog");
    made.setAttribute("aria-label", "Actions");
    document.body.append(made);
    made.addEventListener("toggle", (event) => {
      if (event.newState !== "closed") return;
      opener?.setAttribute("aria-expanded", "false");
      if (document.activeElement === document.body) opener?.focus({ preventScroll: true });
    });
    return made;
  }

  /** Under the button where there is room, else above it; never beyond the window. */
  function place(box) {
    const button = opener.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = box;
    const below = button.bottom + 6;
    const top = below + offsetHeight < innerHeight ? below : Math.max(8, button.top - 6 - offsetHeight);
    const left = Math.min(Math.max(8, button.right - offsetWidth), innerWidth - offsetWidth - 8);
    Object.assign(box.style, { top: `${Math.min(top, innerHeight - offsetHeight - 8)}px`, left: `${left}px` });
  }

  on("click", "[data-menu]", async (event, button) => {
    if (!window.htmx) return;
    event.preventDefault();
    const box = menu();
    opener = button;
    box.replaceChildren();
    await htmx.ajax("GET", button.dataset.menu, { source: button, target: box, swap: "innerHTML" });
    if (opener !== button || !box.childElementCount) return;
    box.showPopover();
    button.setAttribute("aria-expanded", "true");
    place(box);
    $("button, a[href]", box)?.focus({ preventScroll: true });
  });

  // What lies under an open menu is not where it was once the page scrolls or turns.
  addEventListener("resize", () => $("#picture-menu:popover-open")?.hidePopover());

  // A refusal stays open beside its button. What came of the rest is said in a message, which must be seen; so the
  // menu closes, and the focus is back at its button, or beside the card that leaves.
  let leaving = null;
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx } = event.detail || {};
    const form = ctx?.sourceElement;
    if (ctx?.response?.status !== 200 || !form?.matches?.("#picture-menu :is([data-making], [data-trash])")) return;
    $("#picture-menu").hidePopover();
    if (!form.dataset.trash) return;
    leaving = ctx;
    const links = $$(LINKS);
    const index = links.findIndex((link) => link.dataset.view === form.dataset.trash);
    (links[index + 1] || links[index - 1] || $("#main")).focus({ preventScroll: true });
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (!leaving || event.detail?.ctx !== leaving) return;
    leaving = null;
    dreamsketch.gallery?.refresh(true);
  });

  // The second click of a double click would be a second wish.
  document.addEventListener(
    "click",
    (event) => {
      if (event.detail > 1 && event.target.closest?.("[data-making] button")) event.preventDefault();
    },
    true,
  );
})();
