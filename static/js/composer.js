/* The composer: the draft, the cost, fields that follow the model, and ideas that fill the prompt. */
(() => {
  "use strict";

  const { $, $$, on, store, announce, DRAFT } = dreamsketch;
  const FINE_TUNE = "dreamsketch.finetune";
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
  on("change", "#composer :is([name=shape], #steps, #num_images, #width, #height)", estimate);

  on("change", "#model", (event, select) => {
    const spec = select.selectedOptions[0].dataset;
    $("#model-summary").textContent = spec.summary;
    Object.assign($("#steps"), { max: spec.maxSteps, placeholder: spec.steps });
    Object.assign($("#guidance"), { max: spec.maxGuidance, placeholder: spec.guidance });
    for (const side of [$("#width"), $("#height")]) {
      Object.assign(side, { max: spec.maxSide, min: spec.minSide, step: spec.multiple });
    }
    showFeatures(spec.features.split(" "));
    estimate();
  });

  /** Show the controls of what the chosen model can do, and no others; what is hidden is not sent. */
  function showFeatures(features) {
    for (const holder of $$("#composer [data-feature]")) {
      holder.hidden = !features.includes(holder.dataset.feature);
      for (const control of $$("input, select", holder)) control.disabled = holder.hidden;
    }
  }

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

  on("click", "[data-fill]", (event, pill) => {
    const field = prompt() || $("#hero-prompt");
    if (!field || event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    field.value = pill.dataset.fill;
    promptChanged();
    field.focus();
    announce("The idea is in the field.");
  });

  on("keydown", "[data-composer] :is(input, textarea, select)", (event, field) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    field.form.requestSubmit($(".generate", field.form));
  });

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail || {};
    if (ctx?.sourceElement?.matches?.("[data-composer]") && ctx.response?.status === 200) accepted();
  });

  /** Take away what was said about the request before this one. */
  function accepted() {
    for (const message of $$("#composer-alerts .alert, #composer .field-error")) message.remove();
    for (const field of $$("#composer .invalid")) field.classList.remove("invalid");
    for (const control of $$("#composer [aria-invalid]")) control.removeAttribute("aria-invalid");
    if (matchMedia("(max-width: 959px)").matches) $("#jobs")?.scrollIntoView({ block: "start" });
  }

  function showConnection() {
    const note = $("#offline-note");
    if (!note) return;
    note.hidden = navigator.onLine;
    $(".generate").disabled = !navigator.onLine;
  }
  addEventListener("online", showConnection);
  addEventListener("offline", showConnection);

  const field = prompt();
  if (field) {
    if (!field.value && !location.search) field.value = store.get(DRAFT) || "";
    promptChanged();
    if (store.get(FINE_TUNE) === "open") $("#finetune").open = true;
    showConnection();
  }
})();
