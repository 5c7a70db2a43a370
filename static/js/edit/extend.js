/* Extending the picture: edges that can be dragged outwards, and the numbers that say the same. */
(() => {
  "use strict";

  const { $, $$ } = dreamsketch;
  const STEP = 8;
  const DIRECTIONS = { left: [-1, 0], right: [1, 0], top: [0, -1], bottom: [0, 1] };

  class Extension {
    constructor(editor) {
      this.editor = editor;
      this.sides = { ...editor.history.sides };
      this.grown = $("[data-grown]");
      this.fields = Object.fromEntries(Object.keys(DIRECTIONS).map((side) => [side, $(`#${side}`)]));
      for (const edge of $$("[data-edge]")) this.listen(edge);
      for (const field of Object.values(this.fields)) {
        field.addEventListener("change", () => this.commit(this.typed()));
      }
    }

    listen(edge) {
      const [across, down] = DIRECTIONS[edge.dataset.edge];
      let from = null;
      edge.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        event.preventDefault();
        edge.setPointerCapture(event.pointerId);
        // The scale stays what it was when the edge was taken hold of, or it would run away from the pointer.
        from = { x: event.clientX, y: event.clientY, scale: this.editor.viewport.scale, sides: { ...this.sides } };
      });
      edge.addEventListener("pointermove", (event) => {
        if (!from) return;
        const pixels = ((event.clientX - from.x) * across + (event.clientY - from.y) * down) / from.scale;
        const side = edge.dataset.edge;
        this.show({ ...from.sides, [side]: this.bounded(side, from.sides[side] + pixels) });
      });
      for (const name of ["pointerup", "pointercancel"]) {
        edge.addEventListener(name, () => {
          if (!from) return;
          const { sides } = name === "pointerup" ? this : from;
          from = null;
          this.commit(sides);
        });
      }
    }

    bounded(side, pixels) {
      return Math.min(Number(this.fields[side].max), Math.max(0, Math.round(pixels / STEP) * STEP));
    }

    typed() {
      return Object.fromEntries(
        Object.entries(this.fields).map(([side, field]) => [side, Math.max(0, Math.round(Number(field.value) || 0))]),
      );
    }

    /** The arrow keys: outwards at the side they point to. */
    grow(across, down, times) {
      const side = Object.keys(DIRECTIONS).find((name) => String(DIRECTIONS[name]) === String([across, down]));
      this.commit({ ...this.sides, [side]: this.bounded(side, this.sides[side] + STEP * times) });
      dreamsketch.announce(`Extended by ${this.sides[side]} pixels at the ${side}.`);
    }

    commit(sides) {
      const before = this.editor.history.sides;
      if (Object.keys(sides).some((side) => sides[side] !== before[side])) {
        this.editor.history.add({ tool: "extend", sides: { ...sides } });
      } else this.show(sides);
    }

    /** Show `sides` on the stage and in the fields. */
    show(sides) {
      this.sides = { ...sides };
      for (const [side, field] of Object.entries(this.fields)) {
        if (this.typed()[side] !== sides[side]) field.value = sides[side] || "";
      }
      const { width, height } = this.editor.mask;
      const { left, right, top, bottom } = sides;
      const percent = (value, of) => `${(-100 * value) / of}%`;
      Object.assign(this.grown.style, {
        inset: [percent(top, height), percent(right, width), percent(bottom, height), percent(left, width)].join(" "),
      });
      this.grown.hidden = !(left || right || top || bottom);
      const places = { left: ["left", left, width], right: ["right", right, width] };
      Object.assign(places, { top: ["top", top, height], bottom: ["bottom", bottom, height] });
      for (const edge of $$("[data-edge]")) {
        const [property, value, of] = places[edge.dataset.edge];
        edge.style[property] = percent(value, of);
      }
      this.editor.viewport?.show();
    }

    get bounds() {
      const { left, right, top, bottom } = this.sides;
      const { width, height } = this.editor.mask;
      return { left: -left, top: -top, width: width + left + right, height: height + top + bottom };
    }
  }

  dreamsketch.edit.Extension = Extension;
})();
