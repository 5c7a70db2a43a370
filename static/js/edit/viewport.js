/* Which part of the picture the stage shows and how large: zoom and pan by wheel, pinch, buttons and keys. */
(() => {
  "use strict";

  const MOST = 16;
  const MARGIN = 0.96;
  const WHEEL = 0.0022;
  const LINE = 16; // pixels, where a wheel counts lines

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  class Viewport {
    /** `bounds()`: left, top, width and height of what there is to see, in the picture's pixels. */
    constructor(stage, sheet, bounds, changed) {
      Object.assign(this, { stage, sheet, bounds, changed, zoom: 1, centre: null });
      this.width = Number(stage.dataset.width);
      this.height = Number(stage.dataset.height);
      new ResizeObserver(() => this.show()).observe(stage);
      stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.show();
    }

    /** Screen pixels for one of the picture's. */
    get scale() {
      const { width, height } = this.bounds();
      const fit = Math.min(this.stage.clientWidth / width, this.stage.clientHeight / height);
      return fit * (width === this.width && height === this.height ? 1 : MARGIN) * this.zoom;
    }

    show() {
      const { left, top, width, height } = this.bounds();
      const { scale, stage, sheet } = this;
      const [across, down] = [stage.clientWidth / scale / 2, stage.clientHeight / scale / 2];
      const centre = this.centre || { x: left + width / 2, y: top + height / 2 };
      const within = (at, from, size, half) =>
        half * 2 >= size ? from + size / 2 : clamp(at, from + half, from + size - half);
      this.at = { x: within(centre.x, left, width, across), y: within(centre.y, top, height, down) };
      this.centre = this.zoom === 1 ? null : this.at;
      Object.assign(sheet.style, {
        left: `${stage.clientWidth / 2 - this.at.x * scale}px`,
        top: `${stage.clientHeight / 2 - this.at.y * scale}px`,
        width: `${this.width * scale}px`,
        height: `${this.height * scale}px`,
      });
      this.changed?.(scale);
    }

    /** Zoom in (or, below 1, out) by `factor` and keep what lies under the point in its place. */
    zoomBy(factor, clientX, clientY) {
      const box = this.stage.getBoundingClientRect();
      const [x, y] = [clientX ?? box.left + box.width / 2, clientY ?? box.top + box.height / 2];
      const [fixedX, fixedY] = this.toPicture({ clientX: x, clientY: y });
      this.zoom = clamp(this.zoom * factor, 1, MOST);
      const { scale } = this;
      this.centre = {
        x: fixedX - (x - box.left - box.width / 2) / scale,
        y: fixedY - (y - box.top - box.height / 2) / scale,
      };
      this.show();
    }

    /** Shift what is seen by so many screen pixels; says whether it moved. */
    panBy(across, down) {
      if (this.zoom === 1) return false;
      const { at, scale } = this;
      this.centre = { x: at.x + across / scale, y: at.y + down / scale };
      this.show();
      return Math.abs(this.at.x - at.x) + Math.abs(this.at.y - at.y) > 0.01;
    }

    fit() {
      Object.assign(this, { zoom: 1, centre: null });
      this.show();
    }

    /** With Ctrl (as pinching a touchpad says it) zoom; else pan what is zoomed in, and at its end let the page scroll. */
    wheel(event) {
      const unit = event.deltaMode ? LINE : 1;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY * unit * WHEEL), event.clientX, event.clientY);
      } else if (this.panBy(event.deltaX * unit, event.deltaY * unit)) event.preventDefault();
    }

    toPicture({ clientX, clientY }) {
      const box = this.sheet.getBoundingClientRect();
      return [((clientX - box.left) / box.width) * this.width, ((clientY - box.top) / box.height) * this.height];
    }

    /** A point of the picture, in pixels from the stage's corner. */
    toStage(x, y) {
      const { scale } = this;
      return [parseFloat(this.sheet.style.left) + x * scale, parseFloat(this.sheet.style.top) + y * scale];
    }

    /** Pan as far as the point needs to be seen. */
    reveal(x, y) {
      const [left, top] = this.toStage(x, y);
      const beyond = (at, size) => Math.min(0, at) + Math.max(0, at - size);
      this.panBy(beyond(left, this.stage.clientWidth), beyond(top, this.stage.clientHeight));
    }
  }

  dreamsketch.edit.Viewport = Viewport;
})();
