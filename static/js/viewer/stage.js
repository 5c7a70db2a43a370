/* One picture on a stage: fitted, enlarged by wheel, pinch, double tap or click, moved by dragging, swiped away. */
(() => {
  "use strict";

  const MOST = 8;
  const TAP_MS = 300;
  const TAP_PX = 12;
  const SWIPE_PX = 56;

  const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
  const within = (value, low, high) => Math.min(high, Math.max(low, value));

  /** `told` has `swiped(steps)`, `dismissed()`, `zoomed(percent)` and `troubled(isBroken)`. Points are in pixels from
      the middle of the stage. */
  class Stage {
    constructor(element, told) {
      this.element = element;
      this.told = told;
      this.pointers = new Map();
      this.picture = new Image();
      this.picture.className = "lightbox-picture";
      this.picture.draggable = false;
      element.prepend(this.picture);
      new ResizeObserver(() => this.resize()).observe(element);
      element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      element.addEventListener("pointerdown", (event) => this.down(event));
      element.addEventListener("pointermove", (event) => this.move(event));
      for (const type of ["pointerup", "pointercancel"]) element.addEventListener(type, (event) => this.up(event));
    }

    /** Show the small picture at once and the whole one when it is there. */
    async show(item) {
      this.item = item;
      const { picture } = this;
      Object.assign(picture, { alt: item.alt, src: item.thumb });
      Object.assign(picture.style, { width: `${item.width}px`, height: `${item.height}px` });
      this.told.troubled(false);
      this.element.classList.add("loading");
      this.fit();
      const whole = new Image();
      whole.src = item.full;
      try {
        await whole.decode();
        if (this.item === item) picture.src = item.full;
      } catch {
        if (this.item === item) this.told.troubled(true);
      } finally {
        if (this.item === item) this.element.classList.remove("loading");
      }
    }

    get fitting() {
      const { clientWidth, clientHeight } = this.element;
      return Math.min(clientWidth / this.item.width, clientHeight / this.item.height, MOST) || 1;
    }

    get isFitted() {
      return Math.abs(this.scale - this.fitting) < 0.005;
    }

    get isMovable() {
      return this.scale > this.fitting + 0.005;
    }

    fit() {
      this.place(this.fitting, 0, 0);
    }

    /** The whole picture, or every pixel of it: twice its size where those are nearly the same. */
    toggle(point) {
      if (!this.isFitted) return this.fit();
      const near = Math.abs(Math.log(this.fitting)) < 0.1;
      return this.zoomTo(near ? this.fitting * 2 : 1, point);
    }

    zoomBy(factor, point) {
      this.zoomTo(this.scale * factor, point);
    }

    /** What is under `point` stays there. */
    zoomTo(scale, point = { x: 0, y: 0 }) {
      const target = within(scale, Math.min(this.fitting, 1), MOST * Math.max(1, this.fitting));
      const ratio = target / this.scale;
      this.place(target, point.x + (this.x - point.x) * ratio, point.y + (this.y - point.y) * ratio);
    }

    moveBy(x, y) {
      this.place(this.scale, this.x + x, this.y + y);
    }

    place(scale, x, y) {
      const room = (side, shown) => Math.max(0, (side * scale - shown) / 2);
      const across = room(this.item.width, this.element.clientWidth);
      const down = room(this.item.height, this.element.clientHeight);
      this.scale = scale;
      this.x = within(x, -across, across);
      this.y = within(y, -down, down);
      this.draw(this.x, this.y);
      this.element.classList.toggle("movable", this.isMovable);
      this.told.zoomed(Math.round(scale * 100));
    }

    draw(x, y) {
      this.picture.style.transform = `translate(-50%, -50%) translate(${x}px, ${y}px) scale(${this.scale})`;
    }

    resize() {
      if (!this.item) return;
      if (this.isMovable) this.moveBy(0, 0);
      else this.fit();
    }

    point(event) {
      const box = this.element.getBoundingClientRect();
      return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
    }

    wheel(event) {
      event.preventDefault();
      const pixels = event.deltaMode ? event.deltaY * 16 : event.deltaY;
      this.zoomBy(Math.exp(-within(pixels, -240, 240) * (event.ctrlKey ? 0.01 : 0.002)), this.point(event));
    }

    down(event) {
      if (event.button || event.target.closest("button")) return;
      this.element.setPointerCapture(event.pointerId);
      const point = this.point(event);
      this.pointers.set(event.pointerId, point);
      if (this.pointers.size === 1) this.gesture = { from: point, at: event.timeStamp, far: false };
      else Object.assign(this.gesture, { far: true, pinched: true });
    }

    move(event) {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const point = this.point(event);
      if (this.pointers.size === 2) this.pinch(event.pointerId, before, point);
      else if (this.pointers.size === 1) this.drag(event, before, point);
      this.pointers.set(event.pointerId, point);
    }

    pinch(id, before, point) {
      const other = [...this.pointers].find(([key]) => key !== id)[1];
      const [from, to] = [middle(before, other), middle(point, other)];
      this.zoomBy(distance(point, other) / (distance(before, other) || 1), to);
      this.moveBy(to.x - from.x, to.y - from.y);
    }

    drag(event, before, point) {
      const { gesture } = this;
      gesture.far ||= distance(gesture.from, point) > TAP_PX;
      if (this.isMovable) this.moveBy(point.x - before.x, point.y - before.y);
      else if (event.pointerType !== "mouse" && gesture.far && !gesture.pinched) {
        this.draw(point.x - gesture.from.x, Math.max(0, point.y - gesture.from.y));
      }
    }

    up(event) {
      if (!this.pointers.delete(event.pointerId) || this.pointers.size) return;
      const { gesture } = this;
      const point = this.point(event);
      const isFinger = event.type === "pointerup" && event.pointerType !== "mouse";
      if (isFinger && gesture.far && !gesture.pinched && !this.isMovable) {
        this.swipe(point.x - gesture.from.x, point.y - gesture.from.y);
      } else if (event.type === "pointerup" && !gesture.far) this.tap(event, point);
      if (!this.isMovable) this.draw(this.x, this.y);
    }

    swipe(x, y) {
      if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 1.4 * Math.abs(y)) this.told.swiped(x < 0 ? 1 : -1);
      else if (y > 2 * SWIPE_PX && y > 1.4 * Math.abs(x)) this.told.dismissed();
    }

    /** A click of the mouse, or the second of two taps. */
    tap(event, point) {
      if (event.pointerType === "mouse") return this.toggle(point);
      const { lastTap } = this;
      const isSecond = lastTap && event.timeStamp - lastTap.at < TAP_MS && distance(lastTap.point, point) < 3 * TAP_PX;
      this.lastTap = isSecond ? null : { at: event.timeStamp, point };
      if (isSecond) this.toggle(point);
    }
  }

  dreamsketch.Stage = Stage;
})();
