/* The gallery: selecting images, and the focus when cards come and go. */
(() => {
  "use strict";

  const { $, $$, on } = dreamsketch;

  function countSelected() {
    const count = $("[data-bulk-count]");
    if (count) count.textContent = $$("[data-tick]:checked").length || "";
  }
  on("change", "[data-tick]", countSelected);

  let lastTick = null;
  on("click", "[data-tick]", (event, box) => {
    const boxes = $$("[data-tick]");
    if (event.shiftKey && lastTick && boxes.includes(lastTick)) {
      const [from, to] = [boxes.indexOf(lastTick), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const between of boxes.slice(from, to + 1)) between.checked = box.checked;
      countSelected();
    }
    lastTick = box;
  });

  // While selecting, a click on a picture ticks it instead of opening it.
  const isSelecting = () => document.body.classList.contains("selecting");
  on("click", ".card-image .frame", (event, frame) => {
    if (!isSelecting() || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    $("[data-tick]", frame.parentElement)?.click();
  });

  function setSelecting(selecting) {
    document.body.classList.toggle("selecting", selecting);
    $("[data-select-toggle]")?.setAttribute("aria-pressed", String(selecting));
    if (!selecting) for (const box of $$("[data-tick]:checked")) box.checked = false;
    countSelected();
  }
  on("click", "[data-select-toggle]", () => setSelecting(!isSelecting()));
  on("click", "[data-bulk-clear]", () => setTimeout(() => setSelecting(false)));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $("[data-bulk]") && !event.target.closest?.("[popover]")) setSelecting(false);
  });

  let firstTicked = -1;
  document.addEventListener("htmx:before:swap", () => {
    firstTicked = $$(".card-image").findIndex((card) => $("[data-tick]:checked", card));
  });
  let cardsBefore = 0;
  on("click", "[data-load-more]", () => {
    cardsBefore = $$(".card-image").length;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const source = event.detail?.ctx?.sourceElement;
    const frames = $$(".card-image .frame");
    if (source?.closest?.("[data-bulk]") && firstTicked >= 0 && document.activeElement === document.body) {
      // Where the cards were, else what is left before them, else the top of the page.
      (frames[firstTicked] || frames.at(-1) || $("#main")).focus({ preventScroll: true });
    }
    firstTicked = -1;
    if (cardsBefore && frames.length > cardsBefore) {
      frames[cardsBefore].focus({ preventScroll: true });
      cardsBefore = 0;
    }
    countSelected();
  });
  countSelected();

  document.addEventListener("gallery-changed", () => {
    const pill = $("#new-pill");
    if (pill) pill.hidden = false;
  });
})();
