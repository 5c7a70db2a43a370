/* What is said to people: announcements for screen readers, toasts, and what went wrong with a request. */
(() => {
  "use strict";

  const { $, $$, on, onReady, ready } = dreamsketch;
  const TOAST_MS = 9000;

  function announce(text, assertive) {
    const region = $(assertive ? "#announcer-now" : "#announcer");
    if (!region || !text) return;
    region.textContent = "";
    // Later, so that it is a change also when the words are the same.
    setTimeout(() => {
      region.textContent = text;
    }, 60);
  }
  document.addEventListener("announce", (event) => announce(event.detail?.text, event.detail?.assertive));

  function toast(text) {
    const box = document.createElement("div");
    box.className = "toast error";
    box.dataset.toast = "";
    const paragraph = document.createElement("p");
    paragraph.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "iconbutton toast-close";
    close.dataset.toastClose = "";
    close.setAttribute("aria-label", "Close this message");
    close.textContent = "×";
    box.append(paragraph, close);
    $("#toasts")?.append(box);
    ready(box);
  }

  /** Take a toast away after a while, but not while somebody reads it; errors stay until they are closed. */
  function expire(box) {
    if (box.dataset.timed) return;
    box.dataset.timed = "yes";
    if (box.classList.contains("error")) return;
    let timer;
    const stop = () => clearTimeout(timer);
    const start = () => {
      stop();
      timer = setTimeout(() => box.remove(), TOAST_MS);
    };
    box.addEventListener("pointerenter", stop);
    box.addEventListener("focusin", stop);
    box.addEventListener("pointerleave", start);
    box.addEventListener("focusout", start);
    start();
  }
  on("click", "[data-toast-close]", (event, button) => button.closest("[data-toast]")?.remove());
  onReady((root) => {
    $$("[data-toast]", root).forEach(expire);
    if (root.matches?.("[data-toast]")) expire(root);
  });

  document.addEventListener("htmx:response:error", (event) => {
    const { ctx } = event.detail;
    const status = ctx.response?.status;
    if (ctx.sourceElement?.id === "bus" || status === 422 || status === 429) return;
    if (status === 404) toast("That is no longer there. Reload the page to see what is.");
    else if (status === 403) toast("This page was open for too long. Reload it and try again.");
    else if (status >= 500) toast("The studio did not answer properly. Nothing is lost; try again in a moment.");
    else toast("That could not be done. Reload the page and try again.");
  });
  document.addEventListener("htmx:error", (event) => {
    if (event.detail?.ctx?.sourceElement?.id === "bus" || event.target?.id === "bus") return;
    if (event.detail?.error?.name === "AbortError") return;
    if (navigator.onLine) toast("No answer. Check the connection and try again.");
    else toast("You are offline. What you typed is saved here.");
  });

  Object.assign(dreamsketch, { announce });
})();
