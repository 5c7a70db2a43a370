/* What HTML cannot do by itself. Every page works without this file.
   Plain script: no modules, no inline handlers, nothing evaluated. Listeners sit on the document, so that
   what htmx swaps in needs no set-up; `ready(root)` does the little that must touch new elements. */
(() => {
  "use strict";

  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (type, selector, handle) => document.addEventListener(type, (event) => {
    const found = event.target.closest?.(selector);
    if (found) handle(event, found);
  });
  const store = {
    get(key) { try { return localStorage.getItem(key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, value); } catch { /* private mode: nothing is kept */ } },
    drop(key) { try { localStorage.removeItem(key); } catch { /* as above */ } },
  };
  document.documentElement.classList.add("js");

  /* --- Screen readers and toasts --- */

  function announce(text, assertive) {
    const region = $(assertive ? "#announcer-now" : "#announcer");
    if (!region || !text) return;
    region.textContent = "";
    setTimeout(() => { region.textContent = text; }, 60);  // a change, also when the words are the same
  }
  document.addEventListener("announce", (event) => announce(event.detail?.text, event.detail?.assertive));

  const TOAST_MS = 9000;
  function toast(text) {
    const box = document.createElement("div");
    box.className = "toast error";
    box.dataset.toast = "";
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "iconbutton toast-close";
    close.dataset.toastClose = "";
    close.setAttribute("aria-label", "Close this message");
    close.textContent = "×";
    box.append(words, close);
    $("#toasts")?.append(box);
    ready(box);
  }
  function keepTime(box) {
    if (box.dataset.timed) return;
    box.dataset.timed = "yes";
    let timer;
    const start = () => { clearTimeout(timer); timer = setTimeout(() => box.remove(), TOAST_MS); };
    const stop = () => clearTimeout(timer);
    if (box.classList.contains("error")) return;  // stays until it is closed
    box.addEventListener("pointerenter", stop);
    box.addEventListener("focusin", stop);
    box.addEventListener("pointerleave", start);
    box.addEventListener("focusout", start);
    start();
  }
  on("click", "[data-toast-close]", (event, button) => button.closest("[data-toast]")?.remove());

  /* --- Answers of htmx --- */

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
    toast(navigator.onLine ? "No answer. Check the connection and try again." : "You are offline. What you typed is saved here.");
  });

  let focusAfter = null, firstTicked = -1;
  document.addEventListener("htmx:before:swap", () => {
    firstTicked = $$(".card-image").findIndex((card) => $("[data-tick]:checked", card));
    focusAfter = document.activeElement?.dataset?.keepFocus || null;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail || {};
    ready(document.body);
    if (ctx?.sourceElement?.closest?.("[data-bulk]") && firstTicked >= 0 && document.activeElement === document.body) {
      // Where the cards were, else what is left before them, else the top of the page.
      const frames = $$(".card-image .frame");
      (frames[firstTicked] || frames.at(-1) || $("#main")).focus({ preventScroll: true });
    }
    firstTicked = -1;
    if (focusAfter && document.activeElement === document.body) $(`[data-keep-focus="${CSS.escape(focusAfter)}"]`)?.focus();
    focusAfter = null;
    if (ctx?.sourceElement?.matches?.("[data-composer]") && ctx.response?.status === 200) accepted();
    if (cardsBefore && $$(".card-image").length > cardsBefore) {
      $$(".card-image")[cardsBefore].querySelector(".frame").focus({ preventScroll: true });
      cardsBefore = 0;
    }
    countSelected();
  });
  let cardsBefore = 0;
  on("click", "[data-load-more]", () => { cardsBefore = $$(".card-image").length; });

  /* --- Theme: shown at once, kept by the server in a cookie --- */

  const night = matchMedia("(prefers-color-scheme: dark)");
  function setTheme(form, theme) {
    document.documentElement.dataset.theme = theme;
    $$("[data-theme-choice] button").forEach((one) => one.setAttribute("aria-pressed", String(one.value === theme)));
    const data = new FormData(form);
    data.set("theme", theme);
    fetch(form.getAttribute("action"), { method: "POST", body: data, headers: { "HX-Request": "true" }, credentials: "same-origin" })
      .catch(() => { /* offline: the look holds for this page */ });
  }
  document.addEventListener("submit", (event) => {
    if (event.target.matches("[data-theme-form]")) {
      event.preventDefault();
      const now = document.documentElement.dataset.theme;
      const dark = now === "dark" || (now !== "light" && night.matches);
      setTheme(event.target, dark ? "light" : "dark");
    } else if (event.target.matches("[data-theme-choice]")) {
      event.preventDefault();
      setTheme(event.target, event.submitter?.value || "system");
    } else if (event.target.getAttribute("action")?.endsWith("/logout/")) {
      store.drop(DRAFT);
    }
  });

  /* --- Composer --- */

  const DRAFT = "dreamsketch.draft";
  const FINETUNE = "dreamsketch.finetune";
  const prompt = () => $("[data-prompt]");

  function promptChanged() {
    const field = prompt();
    if (!field) return;
    const count = $("[data-count]");
    if (count) count.textContent = [...field.value].length;
    store.set(DRAFT, field.value);
  }
  on("input", "[data-prompt]", promptChanged);

  function estimate() {
    const cost = $("#cost");
    if (cost && window.htmx) htmx.trigger(cost, "estimate");
  }
  on("change", "#composer [name=shape], #composer [name=steps], #composer [name=num_images], #composer [name=width], #composer [name=height]", estimate);
  on("change", "#model", (event, select) => {
    const spec = select.selectedOptions[0].dataset;
    $("#model-summary").textContent = spec.summary;
    const steps = $("#steps"), guidance = $("#guidance");
    steps.max = spec.maxSteps; steps.placeholder = spec.steps;
    guidance.max = spec.maxGuidance; guidance.placeholder = spec.guidance;
    for (const side of [$("#width"), $("#height")]) {
      side.max = spec.maxSide; side.min = spec.minSide; side.step = spec.multiple;
    }
    estimate();
  });
  on("change", "#width, #height", () => { const own = $("#composer [name=shape][value=custom]"); if (own) own.checked = true; });
  on("change", "#composer [name=shape][value=custom]", () => { $("#finetune").open = true; $("#width").focus(); });
  document.addEventListener("toggle", (event) => {
    if (event.target.id === "finetune") store.set(FINETUNE, event.target.open ? "open" : "");
  }, true);

  function accepted() {
    $$("#composer-alerts .alert, #composer .field-error").forEach((one) => one.remove());
    $$("#composer .invalid").forEach((one) => one.classList.remove("invalid"));
    $$("#composer [aria-invalid]").forEach((one) => one.removeAttribute("aria-invalid"));
    if (matchMedia("(max-width: 959px)").matches) $("#jobs")?.scrollIntoView({ block: "start" });
  }

  on("click", "[data-step]", (event, button) => {
    const field = $("input", button.closest("[data-stepper]"));
    const by = Number(button.dataset.step);
    const from = field.value === "" ? Number(field.placeholder || field.min) : Number(field.value);
    const low = Number(field.min), high = Number(field.max || Infinity);
    field.value = Math.min(high, Math.max(low, from + by));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });
  on("click", "[data-fill]", (event, pill) => {
    const field = prompt() || $("#hero-prompt");
    if (!field || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    field.value = pill.dataset.fill;
    promptChanged();
    field.focus();
    announce("The idea is in the field.");
  });
  function offline() {
    const note = $("#offline-note");
    if (!note) return;
    note.hidden = navigator.onLine;
    $(".generate").disabled = !navigator.onLine;
  }
  addEventListener("online", offline);
  addEventListener("offline", offline);

  function startComposer() {
    const field = prompt();
    if (!field) return;
    if (!field.value && !location.search) field.value = store.get(DRAFT) || "";
    promptChanged();
    if (store.get(FINETUNE) === "open") $("#finetune").open = true;
    offline();
  }

  /* --- Live jobs --- */

  const title = document.title;
  const said = (event) => { try { return JSON.parse(event.detail.data); } catch { return {}; } };
  const pageOfJobs = () => $("[data-job]");
  for (const name of ["job-queued", "job-started", "job-cancelled", "job-done", "job-failed"]) {
    document.addEventListener(name, (event) => {
      const about = said(event);
      announce(about.say, name === "job-failed");
      if (name === "job-done" || name === "job-failed" || name === "job-cancelled") document.title = title;
      if (name === "job-done") $("#first-sketch")?.remove();
    });
  }
  document.addEventListener("job-progress", (event) => {
    const { pct } = said(event);
    if (pageOfJobs()) document.title = `(${pct} %) ${title}`;
    if (pct >= 50 && pct < 60) announce("Half done.");
  });
  document.addEventListener("gallery-changed", () => { const pill = $("#new-pill"); if (pill) pill.hidden = false; });

  function refreshPanels() {
    if (!window.htmx) return;
    for (const job of $$("[data-job][data-active]")) {
      htmx.ajax("GET", job.dataset.panelUrl, { source: job, target: job, swap: "outerMorph" });
    }
  }
  // The stream is trusted once it has said something; a proxy that buffers it says nothing.
  let streamSpeaks = false, silentSince = Date.now(), connections = 0;
  document.addEventListener("htmx:sse:after:connection", () => {
    silentSince = Date.now();
    // What ended while we were away is in no later message.
    if (connections++) setTimeout(refreshPanels, 400);
  });
  document.addEventListener("htmx:sse:after:message", () => { streamSpeaks = true; });
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
    document.addEventListener(name, () => { streamSpeaks = false; silentSince = Date.now(); });
  }
  document.addEventListener("stream-end", () => {
    setTimeout(() => {
      $("#bus-slot")?.replaceChildren();
      refreshPanels();
    }, 50);
  });
  setInterval(() => {
    if (!streamSpeaks && !document.hidden && Date.now() - silentSince > 5000 && $("[data-job][data-active]")) refreshPanels();
  }, 2500);
  addEventListener("pageshow", (event) => { if (event.persisted) refreshPanels(); });

  /* --- Gallery: selection --- */

  let lastTick = null;
  function countSelected() {
    const count = $$("[data-tick]:checked").length;
    const shown = $("[data-bulk-count]");
    if (shown) shown.textContent = count || "";
  }
  on("change", "[data-tick]", countSelected);
  on("click", "[data-tick]", (event, box) => {
    const all = $$("[data-tick]");
    if (event.shiftKey && lastTick && all.includes(lastTick)) {
      const [from, to] = [all.indexOf(lastTick), all.indexOf(box)].sort((a, b) => a - b);
      all.slice(from, to + 1).forEach((one) => { one.checked = box.checked; });
      countSelected();
    }
    lastTick = box;
  });
  // While selecting, a click on a picture ticks it instead of opening it.
  on("click", ".card-image .frame", (event, frame) => {
    if (!document.body.classList.contains("selecting") || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    $("[data-tick]", frame.parentElement)?.click();
  });
  function selecting(yes) {
    document.body.classList.toggle("selecting", yes);
    $("[data-select-toggle]")?.setAttribute("aria-pressed", String(yes));
    if (!yes) $$("[data-tick]:checked").forEach((one) => { one.checked = false; });
    countSelected();
  }
  on("click", "[data-select-toggle]", () => selecting(!document.body.classList.contains("selecting")));
  on("click", "[data-bulk-clear]", () => setTimeout(() => selecting(false)));

  /* --- Small helpers --- */

  on("click", "[data-copy]", async (event, button) => {
    const text = $(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      announce("Copied.");
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    } catch {
      getSelection().selectAllChildren($(button.dataset.copy));
      announce("Selected. Press Ctrl and C to copy.");
    }
  });
  on("click", "[data-show-password]", (event, button) => {
    const field = $("input", button.closest(".password-box"));
    const show = field.type === "password";
    field.type = show ? "text" : "password";
    button.setAttribute("aria-pressed", String(show));
  });
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
    const sprite = $("use")?.getAttribute("href")?.split("#")[0];
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    icon.setAttribute("class", "icon");
    icon.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${sprite}#eye`);  // icon('eye')
    icon.append(use);
    button.append(icon);
    box.append(field, button);
  }

  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && field?.closest("[data-composer]")) {
      event.preventDefault();
      field.form.requestSubmit($(".generate", field.form));
      return;
    }
    if (event.key === "Escape" && $("[data-bulk]") && !event.target.closest?.("[popover]")) selecting(false);
    if (field || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "ArrowLeft") $("[data-newer]")?.click();
    if (event.key === "ArrowRight") $("[data-older]")?.click();
  });

  function ready(root) {
    $$("[data-copy][hidden], [data-step][hidden], [data-select-toggle][hidden], [data-toast-close][hidden]", root)
      .forEach((one) => { one.hidden = false; });
    $$("[data-toast]", root).forEach(keepTime);
    if (root.matches?.("[data-toast]")) keepTime(root);
    $$("input[type=password]", root).forEach((field) => { if (!field.closest(".password-box")) passwordBox(field); });
    $$("time[data-local-time]", root).forEach((time) => {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.valueOf())) time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    });
  }

  ready(document);
  startComposer();
  countSelected();
})();
