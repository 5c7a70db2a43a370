/* Small helpers at single controls: copying, passwords, steppers, and the keyboard. */
(() => {
  "use strict";

  const { $, $$, on, onReady, store, announce, DRAFT } = dreamsketch;

  on("click", "[data-copy]", async (event, button) => {
    const source = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      announce("Copied.");
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    } catch {
      getSelection().selectAllChildren(source);
      announce("Selected. Press Ctrl and C to copy.");
    }
  });

  on("click", "[data-step]", (event, button) => {
    const field = $("input", button.closest("[data-stepper]"));
    const from = field.value === "" ? Number(field.placeholder || field.min) : Number(field.value);
    const low = Number(field.min);
    const high = Number(field.max || Infinity);
    // Rounded, or 0.1 + 0.2 would not be 0.3.
    field.value = Number(Math.min(high, Math.max(low, from + Number(button.dataset.step))).toFixed(6));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });

  on("click", "[data-show-password]", (event, button) => {
    const field = $("input", button.closest(".password-box"));
    const show = field.type === "password";
    field.type = show ? "text" : "password";
    button.setAttribute("aria-pressed", String(show));
  });

  function icon(name) {
    const SVG = "http://www.w3.org/2000/svg";
    const sprite = $("use")?.getAttribute("href")?.split("#")[0];
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", `${sprite}#${name}`);
    svg.append(use);
    return svg;
  }

  /** Put a password field into a box with a button that shows what was typed. */
  function passwordBox(field) {
    const box = document.createElement("span");
    box.className = "password-box";
    field.replaceWith(box);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "iconbutton";
    button.dataset.showPassword = "";
    button.setAttribute("aria-label", "Show the password");
    button.setAttribute("aria-pressed", "false");
    button.append(icon("eye"));
    box.append(field, button);
  }

  onReady((root) => {
    const scripted = ["data-copy", "data-step", "data-select-toggle", "data-toast-close"];
    for (const button of $$(scripted.map((name) => `[${name}][hidden]`).join(), root)) button.hidden = false;
    for (const field of $$("input[type=password]", root)) {
      if (!field.closest(".password-box")) passwordBox(field);
    }
  });

  // Who signs out leaves no draft behind.
  document.addEventListener("submit", (event) => {
    if (event.target.getAttribute("action")?.endsWith("/logout/")) store.drop(DRAFT);
  });

  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "ArrowLeft") $("[data-newer]")?.click();
    if (event.key === "ArrowRight") $("[data-older]")?.click();
  });

  // A control that htmx replaces gets the focus back; one that goes away says where the focus goes.
  // Swaps overlap: each remembers its own.
  const focusAfterSwap = new WeakMap();
  document.addEventListener("htmx:before:swap", ({ detail }) => {
    const { keepFocus, focusAfter } = document.activeElement?.dataset || {};
    const selector = focusAfter || (keepFocus && `[data-keep-focus="${CSS.escape(keepFocus)}"]`);
    if (selector && detail?.ctx) focusAfterSwap.set(detail.ctx, selector);
  });
  document.addEventListener("htmx:after:swap", ({ detail }) => {
    const selector = focusAfterSwap.get(detail?.ctx);
    if (selector && document.activeElement === document.body) $(selector)?.focus();
  });
})();
