/* The stage by keyboard: a cursor that arrow keys move, and the tools at it. Keys count while the stage has the focus;
   undo and redo everywhere but in fields. */
(() => {
  "use strict";

  const { $, announce } = dreamsketch;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STEP = 4; // screen pixels
  const PAN = 40;
  const ZOOM = 1.25;
  const COMMANDS = {
    "+": "zoom-in",
    "=": "zoom-in",
    "-": "zoom-out",
    0: "zoom-fit",
    i: "invert",
    "[": "smaller",
    "]": "larger",
  };

  class Keyboard {
    constructor(editor) {
      this.editor = editor;
      this.cursor = [editor.mask.width / 2, editor.mask.height / 2];
      editor.stage.addEventListener("keydown", (event) => this.key(event));
      editor.stage.addEventListener("blur", () => this.giveUp());
      document.addEventListener("keydown", (event) => {
        if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
        const typing = event.target.closest?.(
          "textarea, select, input:not([type=range], [type=radio], [type=checkbox])",
        );
        const key = event.key.toLowerCase();
        if (typing || (key !== "z" && key !== "y")) return;
        event.preventDefault();
        editor.run(key === "y" || event.shiftKey ? "redo" : "undo");
      });
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const { editor } = this;
      const command = COMMANDS[event.key.toLowerCase()];
      const tool = $(`[name=tool][aria-keyshortcuts="${CSS.escape(event.key.toUpperCase())}"]`);
      if (event.key in ARROWS) this.arrow(...ARROWS[event.key], event.shiftKey ? 10 : 1);
      else if (event.key === " ") this.lower();
      else if (event.key === "Enter") this.set();
      else if (event.key === "Escape") this.giveUp();
      else if (command) editor.run(command, ZOOM);
      else if (tool && !tool.disabled) {
        this.giveUp();
        tool.click();
        announce(tool.parentElement.textContent.trim());
      } else return;
      event.preventDefault();
    }

    arrow(across, down, times) {
      const { editor } = this;
      const { viewport, mask } = editor;
      if (editor.tool === "move") return viewport.panBy(across * PAN * times, down * PAN * times);
      if (editor.tool === "extend") return editor.extension.grow(across, down, times);
      const step = (STEP * times) / viewport.scale;
      this.cursor = [
        Math.min(mask.width, Math.max(0, this.cursor[0] + across * step)),
        Math.min(mask.height, Math.max(0, this.cursor[1] + down * step)),
      ];
      viewport.reveal(...this.cursor);
      editor.showCursor(this.cursor);
      if (!this.operation) return;
      const { points, tool } = this.operation;
      const [x, y] = this.cursor;
      if (tool === "rectangle") [points[2], points[3]] = [x - points[0], y - points[1]];
      else if (tool !== "lasso") points.push(x, y, editor.radius);
      editor.sketch(this.operation);
    }

    /** Space: the brush goes down, or up again. */
    lower() {
      const { editor } = this;
      if (this.operation) return this.finish("Lifted.");
      if (editor.tool !== "brush" && editor.tool !== "eraser") return this.set();
      this.begin([...this.cursor, editor.radius], "Lowered: arrow keys draw.");
    }

    /** Enter: a corner of the rectangle, a point of the lasso; with a brush, one dot. */
    set() {
      const { editor } = this;
      const { tool } = editor;
      if (tool === "rectangle") {
        if (this.operation) this.finish("Rectangle added to the mask.");
        else this.begin([...this.cursor, 0, 0], "First corner set.");
      } else if (tool === "lasso") this.point();
      else if (tool === "brush" || tool === "eraser") {
        if (!this.operation) this.begin([...this.cursor, editor.radius]);
        this.finish("Done.");
      }
    }

    /** One more point of the lasso; where the last one is, it is closed. */
    point() {
      const [x, y] = this.cursor;
      if (!this.operation) return this.begin([x, y], "First point set.");
      const { points } = this.operation;
      if (points.at(-2) === x && points.at(-1) === y) return this.finish("Lasso added to the mask.");
      points.push(x, y);
      this.editor.sketch(this.operation);
      announce("Point set. Enter once more closes the lasso.");
    }

    begin(points, text) {
      this.operation = { tool: this.editor.tool, points };
      this.editor.showCursor(this.cursor);
      this.editor.sketch(this.operation);
      announce(text);
    }

    finish(text) {
      const { operation } = this;
      this.operation = null;
      this.editor.finish(operation);
      announce(text);
    }

    giveUp() {
      if (this.operation) this.editor.finish(null);
      this.operation = null;
      this.editor.showCursor(null);
    }
  }

  dreamsketch.edit.Keyboard = Keyboard;
})();
