/* What the other scripts share, as `dreamsketch`. Every page works without any of them.
   Plain scripts: no modules, no inline handlers, nothing evaluated. Listeners sit on the document, so that what htmx
   swaps in needs no set-up; `onReady` is for the little that must touch new elements. */
window.dreamsketch = (() => {
  "use strict";

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (type, selector, handle) =>
    document.addEventListener(type, (event) => {
      const match = event.target.closest?.(selector);
      if (match) handle(event, match);
    });

  const store = {
    get(key) {
      try {
        return localStorage.getItem(key);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        localStorage.setItem(key, value);
      } catch {
        /* private mode: nothing is kept */
      }
    },
    drop(key) {
      try {
        localStorage.removeItem(key);
      } catch {
        /* as above */
      }
    },
  };

  const initializers = [];

  /** Have `initialize(root)` called for the page, and again for what is new in it. */
  function onReady(initialize) {
    initializers.push(initialize);
    initialize(document);
  }

  function ready(root) {
    for (const initialize of initializers) initialize(root);
  }

  /** What began a request of htmx. After a swap that took it away, htmx itself names the target instead. */
  const sources = new WeakMap();
  const sourceOf = (event) => sources.get(event.detail?.ctx) ?? event.detail?.ctx?.sourceElement;
  document.addEventListener(
    "htmx:before:request",
    ({ detail }) => sources.set(detail.ctx, detail.ctx.sourceElement),
    true,
  );

  document.documentElement.classList.add("js");
  document.addEventListener("htmx:after:swap", () => ready(document.body));

  return { $, $$, on, store, onReady, ready, sourceOf, DRAFT: "dreamsketch.draft" };
})();
