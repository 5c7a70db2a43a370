/* The gallery: selecting images, filters and their chips, and the focus when cards come and go.
   What is selected outlives the grid being shown anew after a change, but no change of filters. */
(() => {
  "use strict";

  const { $, $$, on, onReady, announce } = dreamsketch;
  const body = document.body;
  const selected = new Set();

  const cards = () => $$("#results .card-image");
  const ticks = () => $$("#results [data-tick]");
  const cardOf = (element) => element?.closest?.(".card-image");
  /** The ticks of a day, also where it goes on in what was loaded later. */
  function ticksOfDay(box) {
    const found = [];
    let section = box.closest(".day");
    do {
      found.push(...$$("[data-tick]", section));
      section = section.nextElementSibling;
    } while (section?.matches(".day") && !$("[data-day-tick]", section));
    return found;
  }
  const isSelecting = () => body.classList.contains("selecting");

  // --- what is selected

  function show() {
    selected.clear();
    for (const box of ticks()) if (box.checked) selected.add(box.value);
    const all = $("[data-scope-all]");
    const grid = $("#results [name=next]");
    const count = $("[data-bulk-count]");
    if (count) count.textContent = (all?.checked ? grid?.dataset.count : selected.size) || "";
    if (all && grid) $("[data-scope-words]").textContent = grid.dataset.allWords;
    for (const box of $$("[data-day-tick]")) {
      const ofDay = ticksOfDay(box);
      const checked = ofDay.filter((tick) => tick.checked).length;
      box.checked = checked > 0 && checked === ofDay.length;
      box.indeterminate = checked > 0 && checked < ofDay.length;
    }
    document.dispatchEvent(new CustomEvent("select-changed", { detail: { count: selected.size } }));
  }

  function clear() {
    selected.clear();
    for (const box of ticks()) box.checked = false;
    const all = $("[data-scope-all]");
    if (all) all.checked = false;
    show();
  }

  function setSelecting(selecting) {
    body.classList.toggle("selecting", selecting);
    $("[data-select-toggle]")?.setAttribute("aria-pressed", String(selecting));
    if (!selecting) clear();
  }

  /** Tick every card between two, or take the ticks away. */
  function tickBetween(from, to, checked) {
    const boxes = ticks();
    const [first, last] = [boxes.indexOf(from), boxes.indexOf(to)].sort((a, b) => a - b);
    for (const box of boxes.slice(Math.max(first, 0), last + 1)) box.checked = checked;
    show();
  }

  function tickAll() {
    for (const box of ticks()) box.checked = true;
    show();
    announce(`${selected.size} selected.`);
  }

  let anchor = null;
  on("click", "[data-tick]", (event, box) => {
    if (event.shiftKey && anchor?.isConnected) tickBetween(anchor, box, box.checked);
    anchor = box;
  });
  on("change", "[data-tick]", (event, box) => {
    const all = $("[data-scope-all]");
    if (all && !box.checked) all.checked = false;
    show();
  });
  on("change", "[data-day-tick]", (event, box) => {
    for (const tick of ticksOfDay(box)) tick.checked = box.checked;
    if (!box.checked && $("[data-scope-all]")) $("[data-scope-all]").checked = false;
    show();
  });
  on("change", "[data-scope-all]", (event, box) => {
    for (const tick of ticks()) tick.checked = box.checked;
    show();
    if (!box.checked) focusGrid();
  });

  // While selecting, a click on a picture ticks it instead of opening it; with Shift, all from the last one on.
  document.addEventListener(
    "click",
    (event) => {
      const frame = event.target.closest?.("#results .card-image .frame");
      // Enter opens also while selecting: such a click has no pointer.
      if (!frame || event.metaKey || event.ctrlKey || event.button || !event.detail) return;
      if (!isSelecting() && !selected.size && !event.shiftKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      const box = $("[data-tick]", cardOf(frame));
      if (event.shiftKey && anchor?.isConnected) tickBetween(anchor, box, true);
      else {
        box.checked = !box.checked;
        box.dispatchEvent(new Event("change", { bubbles: true }));
      }
      anchor = box;
    },
    true,
  );

  on("click", "[data-select-toggle]", () => setSelecting(!isSelecting()));
  on("click", "[data-bulk-clear]", () => {
    const card = cardOf($("[data-tick]:checked"));
    setTimeout(() => {
      setSelecting(false);
      focusCard(card);
    });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !$("[data-bulk]") || event.defaultPrevented) return;
    if ($("dialog[open]") || $(":popover-open")) return;
    const card = cardOf($("[data-tick]:checked"));
    const inBar = event.target.closest?.("[data-bulk]");
    if (isSelecting() || selected.size) {
      setSelecting(false);
      if (inBar) focusCard(card);
    }
  });
  on("keydown", "[data-enter-presses]", (event, field) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    $(field.dataset.enterPresses).click();
  });

  // --- the focus never falls to nothing

  function focusCard(card) {
    const frame = card?.isConnected ? $(".frame", card) : null;
    if (frame) frame.focus({ preventScroll: false });
    else focusGrid();
  }

  function focusGrid() {
    const frame = $("#results .card-image .frame");
    (frame || $("#result-count") || $("#main")).focus({ preventScroll: true });
  }

  const isLost = () => {
    const active = document.activeElement;
    // The bar goes away with the selection, a moment later.
    if (active?.closest("[data-bulk]") && !selected.size) return true;
    return !active || active === body || !active.checkVisibility?.({ visibilityProperty: true });
  };

  /** Where the focus was: among the cards by place, so that the next one takes it. */
  function placeOfFocus() {
    const card = cardOf(document.activeElement) || cardOf($("[data-tick]:checked"));
    return { id: card?.id, index: card ? cards().indexOf(card) : -1 };
  }

  function restoreFocus(place, wanted) {
    if (!wanted && !isLost()) return;
    const there = place.id && document.getElementById(place.id);
    if (there) focusCard(there);
    else if (place.index >= 0 && cards().length) focusCard(cards()[Math.min(place.index, cards().length - 1)]);
    else focusGrid();
  }

  // --- the grid shown anew, after a change to it

  const LEAVES = /^(trash|restore|delete|empty|uncollect)/;
  let refreshing = null;

  /** Ask for the results of this address again and put them in place of these. */
  function refresh(keepSelection) {
    const results = $("#results");
    if (!results || !window.htmx) return;
    refreshing = { place: placeOfFocus(), keep: keepSelection, numbers: new Set(selected) };
    htmx.ajax("GET", location.pathname + location.search, { source: results, target: results, swap: "outerMorph" });
  }

  // What an undo brings back gets the focus that it had.
  let undone = null;
  let lastGone = null;
  on("click", "[data-undo]", (event, button) => {
    undone = button.closest("[data-toast]");
  });

  let lastAction = "";
  on("click", "[data-bulk] button[name=action]", (event, button) => {
    lastAction = button.value;
  });
  document.addEventListener("gallery-refresh", () => {
    for (const pop of $$("[data-bulk] [popover]:popover-open")) pop.hidePopover();
    const field = $("#new-collection");
    if (field) field.value = "";
    refresh(!LEAVES.test(lastAction));
    if (undone) {
      undone.remove();
      undone = null;
      if (lastGone) Object.assign(refreshing, { place: lastGone, wanted: true });
    } else lastGone = refreshing.place;
    lastAction = "";
  });

  let cardsBefore = 0;
  on("click", "[data-load-more]", () => {
    cardsBefore = cards().length;
  });
  document.addEventListener("htmx:after:swap", () => {
    if (refreshing) {
      const { place, keep, numbers, wanted } = refreshing;
      refreshing = null;
      const all = $("[data-scope-all]");
      for (const box of ticks()) box.checked = keep && (all?.checked || numbers.has(box.value));
      if (!keep && all) all.checked = false;
      body.classList.toggle("selecting", keep && isSelecting());
      if (!keep) $("[data-select-toggle]")?.setAttribute("aria-pressed", "false");
      show();
      restoreFocus(place, wanted);
    }
    const now = cards();
    if (cardsBefore && now.length > cardsBefore) {
      $(".frame", now[cardsBefore]).focus({ preventScroll: true });
      cardsBefore = 0;
    }
    // What is loaded later belongs to everything, too.
    if ($("[data-scope-all]")?.checked) for (const box of ticks()) box.checked = true;
    show();
  });

  // --- filters

  /** Empty the filters of that name (or all) in the form, and have it sent. */
  on("click", "[data-chip]", (event, chip) => {
    const form = $("[data-filters]");
    if (!form || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    for (const field of form.elements) {
      if (field.name && (chip.dataset.chip ? field.name === chip.dataset.chip : field.name !== "sort"))
        field.value = "";
    }
    chipPressed = true;
    form.requestSubmit();
  });
  let chipPressed = false;
  document.addEventListener("htmx:after:swap", () => {
    countFilters();
    if (!chipPressed) return;
    chipPressed = false;
    if (isLost()) ($("#results [data-chip]") || $("#q")).focus({ preventScroll: true });
  });
  function countFilters() {
    const form = $("[data-filters]");
    const badge = $("[data-filter-count]");
    if (!form || !badge) return;
    const on = [...form.elements].filter((field) => field.value && !["q", "sort", ""].includes(field.name));
    badge.textContent = on.length || "";
  }

  // Fields keep what a browser remembers over a reload; the address decides.
  onReady((root) => {
    for (const label of $$("[data-day-select][hidden]", root)) label.hidden = false;
  });
  addEventListener("pageshow", () => show());
  show();

  document.addEventListener("gallery-changed", () => {
    const pill = $("#new-pill");
    if (pill) pill.hidden = false;
  });

  Object.assign(dreamsketch, {
    gallery: { cards, cardOf, selected, show, tickAll, tickBetween, setSelecting, isSelecting, refresh, focusCard },
  });
})();
