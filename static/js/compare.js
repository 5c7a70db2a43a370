/* Two pictures on top of each other with a line between them that can be moved:

     <ds-compare><img …the earlier one…><img …the later one…></ds-compare>

   The later picture gives the size. A part of an `<a>` or `<picture>` may stand for either. Where the earlier picture
   is only a part of the later one, the style of its element says where: --across and --down (its size) and --left and
   --top (its place), all in percent of the later one. Without scripts the two stand side by side. */
(() => {
  "use strict";

  const MIDDLE = 50;

  class Compare extends HTMLElement {
    connectedCallback() {
      if (this.slider) return;
      this.slider = document.createElement("input");
      Object.assign(this.slider, { type: "range", min: 0, max: 100, step: 1, value: MIDDLE, dir: "ltr" });
      this.slider.setAttribute("aria-label", this.dataset.label || "Before and after");
      this.slider.addEventListener("input", () => this.show());
      this.append(this.caption("Before", "start"), this.caption("After", "end"), this.line(), this.slider);
      this.addEventListener("pointerdown", (event) => this.grab(event));
      this.addEventListener("pointermove", (event) => {
        if (this.hasPointerCapture(event.pointerId)) this.follow(event);
      });
      // A picture under the pointer would be dragged away as a file.
      this.addEventListener("dragstart", (event) => event.preventDefault());
      this.show();
    }

    caption(text, side) {
      const caption = document.createElement("span");
      caption.className = `compare-caption ${side}`;
      caption.textContent = text;
      caption.setAttribute("aria-hidden", "true");
      return caption;
    }

    line() {
      const line = document.createElement("span");
      line.className = "compare-line";
      line.setAttribute("aria-hidden", "true");
      return line;
    }

    /** The line jumps to where it is pressed and follows from there; a swipe up or down still scrolls the page. */
    grab(event) {
      if (event.button || !event.isPrimary) return;
      this.setPointerCapture(event.pointerId);
      this.slider.focus({ preventScroll: true });
      this.follow(event);
    }

    follow(event) {
      const box = this.getBoundingClientRect();
      this.slider.value = (100 * (event.clientX - box.left)) / box.width;
      this.show();
    }

    show() {
      const { value } = this.slider;
      this.style.setProperty("--at", value);
      this.slider.setAttribute("aria-valuetext", `${value} % before, ${100 - value} % after`);
    }
  }

  customElements.define("ds-compare", Compare);
})();
