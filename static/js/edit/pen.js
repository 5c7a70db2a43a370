/* Mouse, touch and pen on the stage: strokes, rectangles and lassos; two fingers, the middle button and Move pan. */
(() => {
  "use strict";

  const PEN_ERASER = 32; // among `buttons`
  const ERASER_END = 5; // as `button`
  const LIGHTEST = 0.35; // of the size, for a pen that hardly touches

  class Pen {
    constructor(editor) {
      this.editor = editor;
      this.fingers = new Map();
      const { stage } = editor;
      stage.addEventListener("pointerdown", (event) => this.down(event));
      stage.addEventListener("pointermove", (event) => this.move(event));
      for (const name of ["pointerup", "pointercancel"]) {
        stage.addEventListener(name, (event) => this.up(event, name === "pointercancel"));
      }
      stage.addEventListener("pointerleave", () => editor.showCursor(null));
    }

    down(event) {
      if (event.target.closest("[data-edge]") || (event.button > 1 && event.button !== ERASER_END)) return;
      const { editor } = this;
      event.preventDefault(); // neither text nor the picture is selected
      editor.stage.focus({ preventScroll: true });
      editor.stage.setPointerCapture(event.pointerId);
      if (event.pointerType === "touch") this.fingers.set(event.pointerId, event);
      if (this.fingers.size > 1) return this.giveUp();
      if (this.pointer !== undefined) return;
      this.pointer = event.pointerId;
      const tool = event.buttons & PEN_ERASER ? "eraser" : editor.tool;
      this.panning = event.button === 1 || tool === "move" || tool === "extend" ? event : null;
      if (!this.panning) this.begin(tool, event);
    }

    begin(tool, event) {
      const [x, y] = this.editor.viewport.toPicture(event);
      this.operation = { tool, points: [] };
      if (event.altKey && (tool === "rectangle" || tool === "lasso")) this.operation.away = true;
      if (tool === "rectangle") this.operation.points = [x, y, 0, 0];
      else this.extend(event);
      this.editor.sketch(this.operation);
    }

    move(event) {
      if (this.fingers.has(event.pointerId)) {
        const before = this.fingers.get(event.pointerId);
        this.fingers.set(event.pointerId, event);
        if (this.fingers.size > 1) return this.pinch(before, event);
      }
      this.editor.showCursor(event.pointerType === "touch" ? null : this.editor.viewport.toPicture(event));
      if (event.pointerId !== this.pointer) return;
      if (this.panning) {
        this.editor.viewport.panBy(this.panning.clientX - event.clientX, this.panning.clientY - event.clientY);
        this.panning = event;
        return;
      }
      if (!this.operation) return;
      const samples = event.getCoalescedEvents?.() || [];
      for (const sample of samples.length ? samples : [event]) this.extend(sample);
      this.editor.sketch(this.operation);
    }

    /** The operation at hand, up to where the pointer is now. */
    extend(event) {
      const { operation, editor } = this;
      const [x, y] = editor.viewport.toPicture(event).map((at) => Math.round(at * 10) / 10);
      const { points, tool } = operation;
      if (tool === "rectangle") {
        [points[2], points[3]] = [x - points[0], y - points[1]];
      } else if (tool === "lasso") points.push(x, y);
      else {
        const pressed = event.pointerType === "pen" && event.pressure > 0;
        const share = pressed ? LIGHTEST + (1 - LIGHTEST) * event.pressure : 1;
        points.push(x, y, Math.round(editor.radius * share * 10) / 10);
      }
    }

    up(event, cancelled) {
      this.fingers.delete(event.pointerId);
      if (event.pointerId !== this.pointer) return;
      this.pointer = undefined;
      this.panning = null;
      const { operation } = this;
      this.operation = null;
      if (operation) this.editor.finish(cancelled ? null : operation);
    }

    /** A second finger came down: what the first one began was no stroke. */
    giveUp() {
      this.pointer = undefined;
      this.panning = null;
      if (this.operation) this.editor.finish(null);
      this.operation = null;
    }

    pinch(before, now) {
      const other = [...this.fingers.values()].find(({ pointerId }) => pointerId !== now.pointerId);
      const apart = (event) => Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY) || 1;
      const { viewport } = this.editor;
      viewport.zoomBy(apart(now) / apart(before), (now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2);
      viewport.panBy((before.clientX - now.clientX) / 2, (before.clientY - now.clientY) / 2);
    }
  }

  dreamsketch.edit.Pen = Pen;
})();
