/* The composer: counting, the cost, what is wrong and mended, LoRAs, ideas that fill the prompt, and sending it off. */
(() => {
  "use strict";

  const { $, $$, on, onReady, sourceOf, store, announce } = dreamsketch;
  const FINE_TUNE = "dreamsketch.finetune";
  const prompt = () => $("[data-prompt]");

  function count() {
    const field = prompt();
    const shown = $("[data-count]");
    if (field && shown) shown.textContent = [...field.value].length;
  }
  on("input", "[data-prompt]", count);

  /** Put words into the prompt as if they had been typed. */
  function fill(text) {
    const field = prompt();
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function estimate() {
    const cost = $("#cost");
    if (cost && window.htmx) htmx.trigger(cost, "estimate");
  }
  on("change", "#controls :is(input, select, textarea):not(#model, [type=file])", estimate);
  document.addEventListener("quota", estimate);

  on("change", "#width, #height", () => {
    const custom = $("#composer [name=shape][value=custom]");
    if (custom) custom.checked = true;
  });
  on("change", "#composer [name=shape][value=custom]", () => {
    $("#finetune").open = true;
    $("#width").focus();
  });
  document.addEventListener(
    "toggle",
    (event) => {
      if (event.target.id === "finetune") store.set(FINE_TUNE, event.target.open ? "open" : "");
    },
    true,
  );

  // Drawers stay open when the controls come anew.
  let opened = [];
  document.addEventListener("htmx:before:swap", () => {
    opened = $$("#controls details[open]").map((drawer) => drawer.id);
  });
  document.addEventListener("htmx:after:swap", () => {
    for (const id of opened) {
      const drawer = document.getElementById(id);
      if (drawer) drawer.open = true;
    }
    opened = [];
  });

  on("click", "[data-fill]", (event, pill) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || !prompt()) return;
    event.preventDefault();
    fill(pill.dataset.fill);
    prompt().focus();
    announce("The idea is in the field.");
  });

  on("keydown", "[data-composer] :is(input, textarea, select)", (event, field) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    field.form.requestSubmit($(".generate", field.form));
  });

  // --- LoRAs: their words join the prompt, and leave it again ---

  on("change", "[name=lora]", (event, box) => {
    const { trigger } = box.dataset;
    const field = prompt();
    if (!trigger || !field) return;
    const there = field.value.toLowerCase().includes(trigger.toLowerCase());
    if (box.checked && !there) {
      fill(field.value.trim() ? `${field.value.trim()}, ${trigger}` : trigger);
      announce(`Added to the prompt: ${trigger}`);
    } else if (!box.checked && field.value.endsWith(`, ${trigger}`)) {
      fill(field.value.slice(0, -trigger.length - 2));
      announce(`Taken out of the prompt: ${trigger}`);
    }
  });
  on("input", "[data-lora-search] input", (event, search) => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of $$("[data-lora]")) {
      row.hidden = !words.every((word) => row.dataset.lora.includes(word));
      if (!row.hidden) found++;
    }
    $("[data-lora-none]").hidden = found > 0;
  });

  // --- what is wrong goes when it is mended ---

  on("input", "#composer .invalid :is(input, textarea, select)", (event, control) => {
    const holder = control.closest(".invalid");
    holder.classList.remove("invalid");
    control.removeAttribute("aria-invalid");
    $(".field-error", holder)?.remove();
    const line = $(`#composer-alerts a[href="#${CSS.escape(control.id)}"]`)?.closest("li");
    const alert = line?.closest(".alert");
    line?.remove();
    if (alert && !$("li", alert)) alert.remove();
  });
  for (const name of ["job-done", "job-failed", "job-cancelled"]) {
    // A place or an image is free again: what was refused before may be taken now.
    document.addEventListener(name, () => {
      const used = name === "job-done" ? ":not([data-refusal=quota_exceeded])" : "";
      for (const refusal of $$(`[data-refusal]${used}`)) refusal.remove();
      estimate();
    });
  }

  // --- sending it off: the place of the new job is there at once, and nothing moves when it comes ---

  const isComposer = (event) => sourceOf(event)?.matches?.("[data-composer]");
  let sending = null;
  let before = new Set();

  /** What was said of the form before; the answer says what holds now. At once, for later it would move the page. */
  function clearMessages() {
    const past = "#composer-alerts .alert, #composer [data-offer]:has(button), #composer :is(.field-error, .changes)";
    for (const message of $$(past)) message.remove();
    for (const field of $$("#composer .invalid")) field.classList.remove("invalid");
    for (const control of $$("#composer [aria-invalid]")) control.removeAttribute("aria-invalid");
  }

  function reserve() {
    sending?.remove();
    before = new Set($$("#jobs > .job"));
    sending = $("#sending").content.firstElementChild.cloneNode(true);
    const active = $$("#jobs > .job[data-active]").at(-1);
    if (active) active.after(sending);
    else $("#jobs").prepend(sending);
    if (!active) $("#jobs").scrollTo({ left: 0, behavior: "instant" });
    if (matchMedia("(max-width: 959px)").matches) $("#jobs").scrollIntoView({ block: "start" });
  }
  document.addEventListener("htmx:before:request", (event) => {
    if (!isComposer(event)) return;
    clearMessages();
    if ($("#jobs")) reserve();
  });
  document.addEventListener("htmx:finally:request", (event) => {
    if (!isComposer(event)) return;
    sending?.remove();
    sending = null;
  });
  document.addEventListener("htmx:after:swap", (event) => {
    if (!isComposer(event) || event.detail.ctx.response?.status !== 200) return;
    const job = $$("#jobs > .job:not(.sending)").find((card) => !before.has(card));
    if (sending?.isConnected && job) sending.replaceWith(job);
  });

  function showConnection() {
    const note = $("#offline-note");
    if (!note) return;
    note.hidden = navigator.onLine;
    $(".generate").setAttribute("aria-disabled", String(!navigator.onLine));
  }
  addEventListener("online", showConnection);
  addEventListener("offline", showConnection);
  document.addEventListener(
    "submit",
    (event) => {
      if (!event.target.matches("[data-composer]") || navigator.onLine) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      announce("You are offline. Your prompt is saved here.", true);
    },
    true,
  );

  onReady(() => {
    if (!prompt()) return;
    count();
    if (store.get(FINE_TUNE) === "open") $("#finetune").open = true;
    for (const search of $$("[data-lora-search]")) search.hidden = false;
    showConnection();
  });
})();
