// Brush, eraser, polygon and box. Each makes a shape in frame coordinates, whose pixels get the chosen object.

const HINTS = {
  polygon: "Click the corners; click the first one, double-click or press Enter to close it; Esc gives up",
  box: "Drag a box around the object",
  move: "Drag to move the view, turn the wheel to zoom",
  eraser: "Erases the chosen object",
};

export class Tools {
  // `work` has: canDraw() -> object id or null, before(), painted(), stage.
  constructor(stage, work) {
    this.stage = stage;
    this.work = work;
    this.name = "brush";
    this.size = 18;
    this.panning = false; // the space bar is held
    this.panned = false; // and the view was moved with it
    this.corners = [];
    this.drag = null;
    this.pointer = null;
    const { width, height } = stage;
    this.scratch = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    stage.preview = (pen, zoom) => this.#preview(pen, zoom);
    const canvas = stage.canvas;
    canvas.onpointerdown = (event) => this.#down(event);
    canvas.onpointermove = (event) => this.#moved(event);
    canvas.onpointerup = (event) => this.#up(event);
    canvas.onpointercancel = (event) => this.#up(event);
    canvas.onpointerleave = () => { this.pointer = null; stage.draw(); };
    canvas.ondblclick = () => this.close();
    canvas.oncontextmenu = (event) => event.preventDefault();
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const { x, y } = stage.place(event);
      stage.zoom(Math.exp(-event.deltaY / 400), x, y);
    }, { passive: false });
  }

  choose(name) {
    this.give_up();
    this.name = name;
    this.stage.canvas.style.cursor = name === "move" ? "grab" : "crosshair";
    this.stage.draw();
  }

  hint() { return HINTS[this.name] ?? ""; }

  give_up() {
    this.corners = [];
    this.drag = null;
    this.stage.draw();
  }

  // Close the polygon.
  close() {
    const corners = this.corners;
    this.corners = [];
    if (this.name !== "polygon" || corners.length < 3) return this.stage.draw();
    this.#stroke(() => this.#stamp(corners, "fill"));
  }

  #down(event) {
    this.stage.canvas.focus({ preventScroll: true });
    const place = this.stage.place(event);
    if (event.button === 1 || this.panning || this.name === "move") {
      event.preventDefault();
      this.#begin("move", event, place);
    } else if (event.button === 0 && this.name === "polygon") {
      this.#corner(place);
    } else if (event.button === 0 && this.work.canDraw() !== null) {
      this.#begin(this.name, event, place);
      if (this.name !== "box") {
        this.work.before();
        this.#stamp([[place.u, place.v], [place.u, place.v]], "stroke");
      }
    }
  }

  #begin(kind, event, place) {
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.drag = { kind, from: place, to: place };
  }

  #corner({ u, v }) {
    if (this.work.canDraw() === null) return;
    const near = 9 * devicePixelRatio / this.stage.scale;
    const [first] = this.corners;
    if (this.corners.length > 2 && Math.hypot(u - first[0], v - first[1]) < near) return this.close();
    const last = this.corners.at(-1);
    if (!last || Math.hypot(u - last[0], v - last[1]) > near / 3) this.corners.push([u, v]); // not a double click
    this.stage.draw();
  }

  #moved(event) {
    const place = this.stage.place(event);
    this.pointer = place;
    const drag = this.drag;
    if (drag?.kind === "move") {
      this.panned = true;
      this.stage.move(place.x - drag.to.x, place.y - drag.to.y);
      drag.to = place;
    } else if (drag?.kind === "box") {
      drag.to = place;
    } else if (drag) {
      for (const step of event.getCoalescedEvents?.() ?? [event]) {
        const to = this.stage.place(step);
        this.#stamp([[drag.to.u, drag.to.v], [to.u, to.v]], "stroke");
        drag.to = to;
      }
    }
    this.stage.draw();
  }

  #up(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag || drag.kind === "move") return;
    if (drag.kind === "box") {
      const { from } = drag;
      const to = this.stage.place(event);
      const [left, top] = [Math.round(Math.min(from.u, to.u)), Math.round(Math.min(from.v, to.v))];
      const [right, bottom] = [Math.round(Math.max(from.u, to.u)), Math.round(Math.max(from.v, to.v))];
      if (right > left && bottom > top) {
        this.#stroke(() => this.#stamp([[left, top], [right, top], [right, bottom], [left, bottom]], "fill"));
      }
    } else {
      this.work.painted();
    }
    this.stage.draw();
  }

  #stroke(paint) {
    this.work.before();
    paint();
    this.work.painted();
  }

  // Give the pixels of a shape, filled or drawn as a line of the brush's width, to the chosen object.
  #stamp(points, how) {
    const object = this.work.canDraw();
    if (object === null) return;
    const { width: W, height: H, mask } = this.stage;
    const pen = this.scratch;
    const margin = how === "stroke" ? this.size / 2 + 2 : 2;
    const along = (place) => points.map((point) => point[place]);
    const left = Math.max(0, Math.floor(Math.min(...along(0)) - margin));
    const top = Math.max(0, Math.floor(Math.min(...along(1)) - margin));
    const right = Math.min(W, Math.ceil(Math.max(...along(0)) + margin));
    const bottom = Math.min(H, Math.ceil(Math.max(...along(1)) + margin));
    if (right <= left || bottom <= top) return;
    pen.clearRect(left, top, right - left, bottom - top);
    pen.beginPath();
    points.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (how === "fill") {
      pen.fill();
    } else {
      pen.lineWidth = this.size;
      pen.lineCap = pen.lineJoin = "round";
      pen.stroke();
    }
    const { data } = pen.getImageData(left, top, right - left, bottom - top);
    const erase = this.name === "eraser";
    const locked = this.work.locked();
    for (let y = top, at = 3; y < bottom; y++) {
      for (let x = left; x < right; x++, at += 4) {
        const place = y * W + x;
        if (data[at] < 128 || locked.has(mask[place])) continue; // half a pixel counts: edges are hard
        if (!erase) mask[place] = object;
        else if (mask[place] === object) mask[place] = 0;
      }
    }
    this.stage.recolor(left, top, right, bottom);
  }

  #preview(pen, zoom) {
    const line = (draw) => { // dark under bright: seen on any frame
      for (const [width, color] of [[3, "rgb(0 0 0 / .6)"], [1.4, "#fff"]]) {
        pen.lineWidth = width / zoom;
        pen.strokeStyle = color;
        pen.beginPath();
        draw();
        pen.stroke();
      }
    };
    if (this.drag?.kind === "box") {
      const { from, to } = this.drag;
      line(() => pen.rect(from.u, from.v, to.u - from.u, to.v - from.v));
    }
    if (this.corners.length) {
      line(() => {
        this.corners.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)));
        if (this.pointer) pen.lineTo(this.pointer.u, this.pointer.v);
      });
      const [x, y] = this.corners[0];
      line(() => pen.arc(x, y, 5 / zoom, 0, 7));
    }
    if (this.pointer && !this.panning && (this.name === "brush" || this.name === "eraser")) {
      line(() => pen.arc(this.pointer.u, this.pointer.v, this.size / 2, 0, 7));
    }
  }
}
