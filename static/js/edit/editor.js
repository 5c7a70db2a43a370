/* The edit page put together: the tool in hand, what is sent, what comes back, and what stays in the tab. */
(() => {
  "use strict";

  const { $, $$, on, announce } = dreamsketch;
  const { Mask, History, Viewport, Pen, Keyboard, Extension } = dreamsketch.edit;
  const ROUGHER = 1.25;
  const SVG = "http://www.w3.org/2000/svg";
  /** Fields that are kept with the mask. */
  const KEPT = "textarea, select, input:not([type=hidden], [type=file], [name=tool])";

  class Editor {
    constructor(form) {
      this.form = form;
      this.stage = $("#edit-stage");
      this.mask = new Mask($("#edit-mask"), Number(this.stage.dataset.width), Number(this.stage.dataset.height));
      this.history = new History(form.dataset.edit, () => this.refresh());
      this.history.fields = () => this.values();
      this.extension = new Extension(this);
      this.viewport = new Viewport(
        this.stage,
        $("#edit-sheet"),
        () => this.extension.bounds,
        (scale) => this.scaled(scale),
      );
      this.stage.tabIndex = 0;
      this.stage.setAttribute("role", "application");
      this.pen = new Pen(this);
      this.keyboard = new Keyboard(this);
      this.listen();
      this.adapt();
      this.restore();
      $("#edit-chain [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    }

    get tool() {
      return $("[name=tool]:checked").value;
    }

    /** Of the brush, in the picture's pixels. */
    get radius() {
      return Number($("#brush-size").value) / 2;
    }

    listen() {
      const { form } = this;
      on("click", "[data-do]", (event, button) => this.run(button.dataset.do));
      form.addEventListener("submit", (event) => this.send(event), true);
      form.addEventListener("change", (event) => this.changed(event));
      form.addEventListener("input", (event) => this.typed(event));
      form.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        form.requestSubmit($(".generate", form));
      });
      document.addEventListener("htmx:after:swap", () => this.swapped());
      document.addEventListener("job-done", () => this.swapped());
      addEventListener("beforeunload", (event) => {
        if (this.history.operations.length && !this.history.kept) event.preventDefault();
      });
    }

    changed({ target }) {
      if (target.name === "mask") this.load(target.files[0]);
      if (target.name === "tool") this.chosen();
      if (target.id === "model") this.adapt();
      if (target.matches("#model, #num_images, #strength, #left, #right, #top, #bottom")) this.estimate();
      this.history.keep();
    }

    typed({ target }) {
      if (target.id === "mask-opacity") this.stage.style.setProperty("--mask-opacity", target.value / 100);
      if (target.id === "mask_blur") this.scaled(this.viewport.scale);
      if (target.matches(KEPT)) this.history.keep();
    }

    estimate() {
      if (window.htmx) htmx.trigger($("#cost"), "estimate");
    }

    /** Show what the chosen model can do, and nothing else. */
    adapt() {
      this.model = $("#model");
      const { modes, summary } = this.model.selectedOptions[0].dataset;
      $("#model-summary").textContent = summary;
      for (const part of $$("[data-mode]")) {
        part.hidden = !modes.split(" ").includes(part.dataset.mode);
        for (const control of $$("input, button", part)) control.disabled = part.hidden;
      }
      if ($("[name=tool]:checked").disabled) $("[name=tool]:not(:disabled)").checked = true;
      this.refresh();
    }

    chosen() {
      const extending = this.tool === "extend";
      for (const edge of $$("[data-edge]")) edge.hidden = !extending;
      this.stage.dataset.tool = this.tool;
      this.showCursor(null);
    }

    run(command, factor = ROUGHER) {
      const { history, viewport } = this;
      if (command === "undo" || command === "redo") history[command]();
      else if (command === "invert" || command === "clear") history.add({ tool: command });
      else if (command === "zoom-in") viewport.zoomBy(factor);
      else if (command === "zoom-out") viewport.zoomBy(1 / factor);
      else if (command === "zoom-fit") viewport.fit();
      else if (command === "smaller" || command === "larger") this.resize(command === "larger" ? ROUGHER : 1 / ROUGHER);
      else if (command.startsWith("rectangle")) this.rectangle(command.endsWith("away"));
    }

    resize(factor) {
      const size = $("#brush-size");
      size.value = Math.round(Number(size.value) * factor);
      announce(`Brush of ${size.value} pixels.`);
      this.showCursor(this.keyboard.cursor);
    }

    rectangle(away) {
      const points = ["x", "y", "width", "height"].map((name) => Number($(`#rectangle-${name}`).value) || 0);
      this.history.add({ tool: "rectangle", points, ...(away && { away }) });
      announce(away ? "Rectangle taken away from the mask." : "Rectangle added to the mask.");
    }

    /** An operation that is not finished yet: strokes go on the mask at once, outlines above it. */
    sketch(operation) {
      const { points, tool } = operation;
      if (tool === "brush" || tool === "eraser") {
        this.mask.apply({ ...operation, points: points.slice(Math.max(0, (this.drawn || 0) - 3)) });
        this.drawn = points.length;
        return;
      }
      const outline = document.createElementNS(SVG, "polygon");
      const [x, y, width, height] = points;
      const corners = [x, y, x + width, y, x + width, y + height, x, y + height];
      outline.setAttribute("points", (tool === "rectangle" ? corners : points).join(" "));
      $("#edit-sketch").replaceChildren(outline);
    }

    /** The operation is finished, or null: given up. */
    finish(operation) {
      this.drawn = 0;
      $("#edit-sketch").replaceChildren();
      if (operation) this.history.add(operation);
      else this.refresh();
    }

    /** Everything on the page as the history has it. */
    refresh() {
      const { history } = this;
      this.mask.replay(history.operations);
      this.extension?.show(history.sides);
      if (this.viewport) this.estimateExtension();
      $("[data-do=undo]").disabled = !history.operations.length;
      $("[data-do=redo]").disabled = !history.undone.length;
    }

    /** Ask for the cost again where undo or an edge changed the size. */
    estimateExtension() {
      const size = Object.values(this.history.sides).join();
      if (this.size !== undefined && this.size !== size) this.estimate();
      this.size = size;
    }

    /** What is drawn in screen pixels follows the zoom. */
    scaled(scale) {
      const { width, height } = this.mask;
      $("#edit-sketch").setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.stage.style.setProperty("--feather", Number($("#mask_blur").value || $("#mask_blur").placeholder) * scale);
      $("#zoom").textContent = `${Math.round(100 * scale)} %`;
    }

    showCursor(point) {
      const cursor = $("#edit-cursor");
      cursor.hidden = !point || this.tool === "move" || this.tool === "extend";
      if (cursor.hidden) return;
      const [left, top] = this.viewport.toStage(...point);
      const round = this.tool === "brush" || this.tool === "eraser";
      const size = round ? Math.max(4, this.radius * 2 * this.viewport.scale) : 16;
      cursor.classList.toggle("cross", !round);
      Object.assign(cursor.style, { left: `${left}px`, top: `${top}px`, width: `${size}px`, height: `${size}px` });
    }

    /** A mask from a file becomes the mask, and can be undone like any other change. */
    async load(file) {
      if (!file) return;
      const reader = new FileReader();
      reader.addEventListener("load", async () => {
        try {
          await this.mask.read(reader.result);
        } catch {
          announce("This file is not a picture that can be read.", true);
          return;
        }
        this.history.add({ tool: "file", url: reader.result });
        announce("The mask of the file is on the picture.");
      });
      reader.readAsDataURL(file);
    }

    /** Put the mask into the form's file field, where a person without scripts puts theirs. */
    send() {
      const files = new DataTransfer();
      if (!this.mask.isEmpty()) files.items.add(this.mask.toFile());
      $("#mask").files = files.files;
    }

    /** The named fields as they stand, for another visit. */
    values() {
      const fields = $$(KEPT, this.form).filter((field) => field.type !== "radio" || field.checked);
      return fields.map((field) => [field.name || field.id, field.type === "checkbox" ? field.checked : field.value]);
    }

    fill(values) {
      for (const [name, value] of values) {
        const field = this.form.elements[name];
        const options = [...(field?.options || (field instanceof RadioNodeList ? field : []))].map(
          ({ value }) => value,
        );
        if (field?.type === "checkbox") field.checked = value;
        else if (field && (!options.length || options.includes(value))) field.value = value;
      }
    }

    async restore() {
      const state = this.history.restore();
      this.fill(state?.fields || []);
      this.typed({ target: $("#mask-opacity") });
      const urls = this.history.operations.filter(({ tool }) => tool === "file").map(({ url }) => url);
      await Promise.allSettled(urls.map((url) => this.mask.read(url)));
      this.adapt();
      this.chosen();
      this.swapped();
      if (this.history.operations.length) announce("Your mask from before is on the picture.");
    }

    /** A new job: what was said about the request before it is taken away. */
    accepted(outcome) {
      for (const message of $$(".alert, .field-error", this.form)) message.remove();
      for (const field of $$(".invalid", this.form)) field.classList.remove("invalid");
      for (const control of $$("[aria-invalid]", this.form)) control.removeAttribute("aria-invalid");
      outcome.scrollIntoView({ block: "nearest" });
    }

    /** New fields came with a refusal; or a job of this page has ended, whose pictures are fetched. */
    swapped() {
      if ($("#model") !== this.model) this.adapt();
      const outcome = $("#edit-outcome");
      const job = $("[data-job]", outcome);
      if (!job || !window.htmx) return;
      if (job.hasAttribute("data-active")) {
        if (outcome.dataset.shown !== job.dataset.job) this.accepted(outcome);
        outcome.dataset.shown = job.dataset.job;
        outcome.dataset.running = job.dataset.job;
      } else if (outcome.dataset.running === job.dataset.job) {
        outcome.dataset.running = "";
        const url = `${outcome.dataset.outcomeUrl}?job=${job.dataset.job}`;
        htmx.ajax("GET", url, { source: outcome, target: outcome, swap: "innerHTML" });
      }
    }
  }

  const form = $("[data-edit]");
  if (form) dreamsketch.editor = new Editor(form);
})();
