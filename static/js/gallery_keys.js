/* Keys in grids of images: moving, selecting, and letters that do what a visible control does. */
(() => {
  "use strict";

  const { $, $$, on } = dreamsketch;
  const { cards, cardOf, tickAll, tickBetween, refresh } = dreamsketch.gallery;
  const frameOf = (card) => $(".frame", card);
  const tickOf = (card) => $("[data-tick]", card);

  // One card is in the tab order at its picture; the arrows go to the others. Tab still reaches each card's controls.
  const lettersAreOff = () => document.documentElement.dataset.shortcuts === "off";

  function move(card) {
    if (!card) return;
    frameOf(card).focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  /** The card of the row above (-1) or below (1) that lies nearest. */
  function inNextRow(card, direction) {
    const from = card.getBoundingClientRect();
    const middle = from.left + from.width / 2;
    const all = cards();
    const step = direction > 0 ? 1 : -1;
    let best = null;
    let distance = Infinity;
    let row = null;
    for (let n = all.indexOf(card) + step; n >= 0 && n < all.length; n += step) {
      const box = all[n].getBoundingClientRect();
      const top = Math.round(box.top);
      if (Math.abs(top - Math.round(from.top)) < 4) continue;
      if (row === null) row = top;
      if (Math.abs(top - row) >= 4) break;
      const away = Math.abs(box.left + box.width / 2 - middle);
      if (away < distance) [best, distance] = [all[n], away];
    }
    return best;
  }

  function neighbour(card, key) {
    const all = cards();
    const place = all.indexOf(card);
    const forward = document.documentElement.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
    switch (key) {
      case "ArrowLeft":
      case "ArrowRight":
        return all[place + (key === forward ? 1 : -1)];
      case "ArrowDown":
        return inNextRow(card, 1);
      case "ArrowUp":
        return inNextRow(card, -1);
      case "Home":
        return all[0];
      case "End":
        return all.at(-1);
    }
    return null;
  }

  let anchor = null;
  function extend(card, next) {
    anchor ||= tickOf(card);
    tickBetween(anchor, tickOf(next), true);
    move(next);
  }

  function toggle(card) {
    const box = tickOf(card);
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
    anchor = box;
  }

  /** One action of the selection's bar on this card alone. */
  function act(card, action) {
    const form = $("[data-bulk]");
    if (!form || !window.htmx) return;
    htmx.ajax("POST", form.getAttribute("action"), {
      source: card,
      target: "#results",
      swap: "none",
      values: { action, ids: frameOf(card).querySelector("img").dataset.number },
    });
  }

  const LETTERS = {
    x: toggle,
    f: (card) => $(".favourite button", card)?.click(),
    d: (card, picture) => location.assign(`/i/${picture.dataset.shortId}/download`),
    i: (card) => frameOf(card).click(),
    r: (card, picture) => location.assign(`/create/?from=${picture.dataset.shortId}`),
    p: (card, picture) => act(card, picture.dataset.visibility === "public" ? "unpublish" : "publish"),
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.altKey) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], dialog, [popover]"))
      return;
    if ($("dialog[open]")) return;
    const card = cardOf(event.target.closest?.("#results .card-image"));
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a" && $("#results .card-image")) {
      event.preventDefault();
      tickAll();
      return;
    }
    if (event.ctrlKey || event.metaKey) return;
    if (event.key.toLowerCase() === "z" && !event.shiftKey && !lettersAreOff()) {
      $$("[data-undo]").at(-1)?.click();
      return;
    }
    if (!card) return;
    const picture = $("img[data-number]", card);
    const next = neighbour(card, event.key);
    if (/^(Arrow|Home|End)/.test(event.key)) {
      event.preventDefault();
      if (next && event.shiftKey && tickOf(next)) extend(card, next);
      else {
        anchor = null;
        move(next);
      }
    } else if (event.key === " " && event.target.matches(".frame")) {
      event.preventDefault();
      toggle(card);
    } else if (event.key === "Delete" && !("trashed" in picture.dataset)) {
      event.preventDefault();
      act(card, "trash");
    } else if (event.key === "Enter" && event.target.matches("[data-tick]")) {
      event.preventDefault(); // it would press the form's first button
      frameOf(card).click();
    } else if (!event.shiftKey && !lettersAreOff()) {
      const letter = LETTERS[event.key.toLowerCase()];
      if (!letter || ("trashed" in picture.dataset && letter !== toggle)) return;
      event.preventDefault();
      letter(card, picture);
    }
  });
})();
