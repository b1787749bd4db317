// The frame with its masks, as large as there is room, zoomed and moved.

export class Stage {
  constructor(canvas, [height, width]) {
    this.canvas = canvas;
    this.height = height;
    this.width = width;
    this.picture = null;
    this.mask = null;
    this.colors = new Map(); // id to [r, g, b]
    this.masksShown = true;
    this.preview = null; // draws what a tool is about to do, in frame coordinates
    this.scale = 1;
    this.left = 0; // of the frame on the canvas, in its pixels
    this.top = 0;
    this.fitted = true;
    this.layer = Object.assign(document.createElement("canvas"), { width, height });
    this.paper = this.layer.getContext("2d");
    this.image = this.paper.createImageData(width, height);
    this.words = new Uint32Array(this.image.data.buffer); // a pixel each, little-endian ABGR
    canvas.parentElement.style.setProperty("--aspect", width / height);
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  show(picture, mask) {
    this.picture = picture;
    this.mask = mask;
    this.recolor();
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    this.canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
    this.canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
    if (this.fitted) this.fit();
    else this.draw();
  }

  fit() {
    const { width, height } = this.canvas;
    this.scale = Math.min(width / this.width, height / this.height);
    this.left = (width - this.width * this.scale) / 2;
    this.top = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.draw();
  }

  // `x` and `y` are canvas pixels that stay where they are; without them the middle does.
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const least = Math.min(this.canvas.width / this.width, this.canvas.height / this.height);
    const scale = Math.min(64, Math.max(least, this.scale * factor));
    if (scale === least) return this.fit();
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  move(x, y) {
    this.left += x;
    this.top += y;
    this.fitted = false;
    this.draw();
  }

  // A place of the page in canvas pixels, and in those of the frame.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = (event.clientX - box.left) * devicePixelRatio;
    const y = (event.clientY - box.top) * devicePixelRatio;
    return { x, y, u: (x - this.left) / this.scale, v: (y - this.top) / this.scale };
  }

  // Color the mask anew, whole or between two corners (the second one outside).
  recolor(left = 0, top = 0, right = this.width, bottom = this.height) {
    if (!this.mask) return;
    const { mask, width: W, height: H, words } = this;
    const inside = new Uint32Array(256);
    const edge = new Uint32Array(256);
    for (const [id, [r, g, b]] of this.colors) {
      inside[id] = (115 << 24) | (b << 16) | (g << 8) | r;
      edge[id] = (255 << 24) | (b << 16) | (g << 8) | r;
    }
    const thin = Math.max(1, Math.round(Math.min(H, W) / 300));
    left = Math.max(0, left - thin); top = Math.max(0, top - thin);
    right = Math.min(W, right + thin); bottom = Math.min(H, bottom + thin);
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const at = y * W + x;
        const id = mask[at];
        const line = id && ((x >= thin && mask[at - thin] !== id) || (x + thin < W && mask[at + thin] !== id)
          || (y >= thin && mask[at - thin * W] !== id) || (y + thin < H && mask[at + thin * W] !== id));
        words[at] = line ? edge[id] : inside[id];
      }
    }
    this.paper.putImageData(this.image, 0, 0, left, top, right - left, bottom - top);
    this.draw();
  }

  // Draw at the next chance, once however often it is asked for.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.picture) return;
    pen.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    pen.imageSmoothingEnabled = this.scale < 3;
    pen.drawImage(this.picture, 0, 0, this.width, this.height);
    if (this.masksShown) pen.drawImage(this.layer, 0, 0);
    if (this.preview) this.preview(pen, this.scale / devicePixelRatio);
  }
}
