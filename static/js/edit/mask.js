/* The mask of the edit page: a canvas in the picture's shape, drawn from a list of operations.

   An operation is plain data in the picture's pixels, so that undo is drawing the list again without its end, and the
   list can be kept over a reload:
     {tool: "brush" | "eraser", points: [x, y, radius, …]}     {tool: "rectangle", points: [x, y, width, height], away}
     {tool: "lasso", points: [x, y, …], away}     {tool: "invert"}     {tool: "clear"}     {tool: "file", url}
     {tool: "extend", sides}, which is not of the mask */
(() => {
  "use strict";

  const MOST_PIXELS = 2048; // along one side: finer masks only cost time
  const BEGIN = Math.PI * 2;

  class Mask {
    constructor(canvas, width, height) {
      this.width = width;
      this.height = height;
      this.scale = Math.min(1, MOST_PIXELS / Math.max(width, height));
      this.canvas = canvas;
      canvas.width = Math.round(width * this.scale);
      canvas.height = Math.round(height * this.scale);
      this.context = canvas.getContext("2d");
      this.colour = getComputedStyle(canvas).color;
      this.files = new Map();
    }

    replay(operations) {
      this.apply({ tool: "clear" });
      // What was there before the last clearing need not be drawn.
      const from = operations.findLastIndex(({ tool }) => tool === "clear" || tool === "file");
      for (const operation of operations.slice(Math.max(0, from))) this.apply(operation);
    }

    apply(operation) {
      const { context } = this;
      context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
      context.globalCompositeOperation =
        operation.tool === "eraser" || operation.away ? "destination-out" : "source-over";
      Object.assign(context, { fillStyle: this.colour, strokeStyle: this.colour, lineCap: "round" });
      this[operation.tool]?.(operation);
    }

    brush({ points }) {
      for (let at = 0; at < points.length; at += 3) this.segment(points, at);
    }

    eraser(operation) {
      this.brush(operation);
    }

    /** A round dot, and the line that leads to it from the point before. */
    segment(points, at) {
      const { context } = this;
      const [x, y, radius] = points.slice(at, at + 3);
      context.beginPath();
      context.arc(x, y, radius, 0, BEGIN);
      context.fill();
      if (!at) return;
      context.beginPath();
      context.lineWidth = radius + points[at - 1];
      context.moveTo(points[at - 3], points[at - 2]);
      context.lineTo(x, y);
      context.stroke();
    }

    rectangle({ points }) {
      this.context.fillRect(...points);
    }

    lasso({ points }) {
      this.context.beginPath();
      for (let at = 0; at < points.length; at += 2) this.context.lineTo(points[at], points[at + 1]);
      this.context.fill();
    }

    invert() {
      this.context.globalCompositeOperation = "source-out";
      this.context.fillRect(0, 0, this.width, this.height);
    }

    clear() {
      this.context.clearRect(0, 0, this.width, this.height);
    }

    file({ url }) {
      const picture = this.files.get(url);
      if (picture) this.context.drawImage(picture, 0, 0, this.width, this.height);
    }

    /** Have the mask of a file ready for `apply`: what is white in it is painted. Throws where it is no picture. */
    async read(url) {
      if (this.files.has(url)) return;
      const picture = new Image();
      picture.src = url;
      await picture.decode();
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: this.canvas.width, height: this.canvas.height });
      const context = canvas.getContext("2d");
      context.fillStyle = "black";
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
      const { data } = pixels;
      for (let at = 0; at < data.length; at += 4) {
        data[at + 3] = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      }
      context.putImageData(pixels, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.fillStyle = this.colour;
      context.fillRect(0, 0, canvas.width, canvas.height);
      this.files.set(url, canvas);
    }

    isEmpty() {
      const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
      for (let at = 3; at < data.length; at += 4) if (data[at] >= 128) return false;
      return true;
    }

    /** The mask as the server takes it: a PNG, white on black. */
    toFile() {
      const sheet = document.createElement("canvas");
      Object.assign(sheet, { width: this.canvas.width, height: this.canvas.height });
      const context = sheet.getContext("2d");
      context.drawImage(this.canvas, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.fillStyle = "white";
      context.fillRect(0, 0, sheet.width, sheet.height);
      context.globalCompositeOperation = "destination-over";
      context.fillStyle = "black";
      context.fillRect(0, 0, sheet.width, sheet.height);
      const bytes = Uint8Array.from(atob(sheet.toDataURL("image/png").split(",")[1]), (byte) => byte.charCodeAt(0));
      return new File([bytes], "mask.png", { type: "image/png" });
    }
  }

  dreamsketch.edit = { Mask };
})();
