// The page of one session: its parts, and what they share.

import { ask, listen, tab } from "./api.js";
import { Drawing } from "./drawing.js";
import { Frames } from "./frames.js";
import { bindKeys } from "./keys.js";
import { Objects } from "./objects.js";
import { $, attempt, toast } from "./page.js";
import { Runs } from "./runs.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { Tools } from "./tools.js";

export async function showWork(id, about) {
  const session = await ask("GET", `/api/sessions/${id}`);
  $("work").hidden = false;
  $("title").textContent = document.title = session.name;
  const work = new Work(session, about);
  await work.show(session.done[0] ?? 0);
}

class Work {
  constructor(session, about) {
    this.about = about;
    this.session = session;
    this.path = `/api/sessions/${session.id}`;
    this.frames = new Frames(session);
    this.frame = 0;
    this.wanted = 0;
    this.selected = session.objects[0]?.id ?? null;
    this.stage = new Stage($("canvas"), session.size);
    this.drawing = new Drawing(this);
    this.tools = new Tools(this.stage, this);
    this.timeline = new Timeline(this);
    this.objects = new Objects(this);
    this.runs = new Runs(this);
    this.#buttons();
    bindKeys(this);
    listen(`${this.path}/events`, attempt((message) => this.#told(message)), attempt(() => this.reload(true)));
    this.colorsChanged();
    this.drawAll();
  }

  // Show a frame; of several that are asked for in a hurry, the last.
  async show(index) {
    this.wanted = index;
    const [picture, mask] = await Promise.all([this.frames.picture(index), this.frames.mask(index)]);
    if (this.wanted !== index) return;
    if (this.frame !== index) this.tools.give_up();
    this.frame = index;
    this.stage.show(picture, mask);
    this.timeline.draw();
    this.runs.draw();
    this.#hint();
  }

  // What the server knows, anew; with `masks`, what is shown too.
  async reload(masks = false) {
    await this.#take(await ask("GET", this.path), masks);
  }

  async #take(session, masks) {
    if (this.drawing.saving) { // the server does not know these yet
      session.drawn = this.session.drawn;
      session.done = [...this.frames.done];
    }
    const followed = () => this.session.objects.filter((object) => !object.locked).length;
    const before = followed();
    this.session = session;
    this.frames.done = new Set(session.done);
    if (followed() !== before) attempt(() => this.runs.measure())(); // the speed hangs on it
    if (!session.objects.some((object) => object.id === this.selected)) this.selected = session.objects[0]?.id ?? null;
    if (masks) {
      this.drawing.forget();
      this.frames.masks.forget();
      await this.show(this.frame);
    }
    this.colorsChanged();
    this.drawAll();
  }

  async #told(message) {
    if (message.removed) return toast("This session was removed in another tab.");
    if (message.run) await this.#ran(message.run);
    if (message.session && !(message.drawn !== undefined && message.by === tab)) {
      if (message.drawn !== undefined) this.frames.masks.forget(message.drawn);
      await this.#take(message.session, message.masks);
      if (message.drawn === this.frame) await this.show(this.frame);
    }
  }

  async #ran(run) {
    const before = this.session.run?.frame;
    this.session.run = run;
    if (run.frame !== null && run.frame !== before) {
      this.frames.masks.forget(run.frame);
      this.frames.done.add(run.frame);
      if ($("watch").checked && !this.timeline.playing) await this.show(run.frame);
      else if (run.frame === this.frame) await this.show(this.frame);
    }
    if (!this.runs.active) {
      await this.reload(true);
      if (this.runs.seconds === null) attempt(() => this.runs.measure())(); // the page was opened during the run
    }
    this.drawAll();
  }

  select(id) {
    this.selected = id;
    this.objects.draw();
    this.#hint();
  }

  tool(name) {
    this.tools.choose(name);
    for (const button of $("tools").children) button.ariaPressed = String(button.dataset.tool === name);
    this.#hint();
  }

  resizeBrush(by, to) {
    const size = to ?? this.tools.size + by * Math.max(1, Math.round(this.tools.size / 6));
    this.tools.size = Math.min(Number($("size").max), Math.max(1, size));
    $("size").value = $("size-value").value = this.tools.size;
    this.stage.draw();
  }

  // For the tools: the object to draw, or null with the reason told.
  canDraw() {
    if (!this.idle()) return null;
    if (this.selected === null) {
      toast("There is no object: add one first.", false);
      return null;
    }
    if (this.locked().has(this.selected)) {
      toast("This object is locked; unlock it to draw it.");
      return null;
    }
    if (this.timeline.playing) this.timeline.pause();
    return this.selected;
  }

  idle() {
    if (this.runs.active) toast("Objects are being followed: stop that first.", false);
    return !this.runs.active;
  }

  locked() { return new Set(this.session.objects.filter((object) => object.locked).map((object) => object.id)); }
  before() { this.drawing.remember(); }
  painted() { this.drawing.painted(); }
  clear() { if (this.idle()) this.drawing.clear(); }

  colorsChanged() {
    this.stage.colors = new Map(this.session.objects.map(({ id, color }) =>
      [id, [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))]));
    this.stage.recolor();
  }

  drawAll() {
    this.timeline.draw();
    this.objects.draw();
    this.runs.draw();
    $("undo").disabled = !this.drawing.undone.length || this.runs.active;
    $("redo").disabled = !this.drawing.redone.length || this.runs.active;
    $("clear").disabled = this.runs.active;
    $("coverage").textContent = `${this.frames.done.size} of ${this.session.frames} frames have masks`;
    this.#hint();
  }

  #hint() {
    const first = this.frames.done.size ? "" : "Draw an object on this frame, or on another one; then follow it";
    $("hint").textContent = this.tools.hint() || first;
  }

  #buttons() {
    for (const button of $("tools").children) button.onclick = () => this.tool(button.dataset.tool);
    $("size").oninput = () => this.resizeBrush(0, Number($("size").value));
    $("size").max = Math.max(20, Math.round(Math.min(...this.session.size) / 2));
    this.resizeBrush(0, Math.max(3, Math.round(Math.min(...this.session.size) / 20)));
    $("undo").onclick = attempt(() => this.drawing.undo());
    $("redo").onclick = attempt(() => this.drawing.redo());
    $("clear").onclick = attempt(() => this.clear());
    $("zoom-in").onclick = () => this.stage.zoom(1.3);
    $("zoom-out").onclick = () => this.stage.zoom(1 / 1.3);
    $("zoom-fit").onclick = () => this.stage.fit();
    $("show-masks").onchange = () => { this.stage.masksShown = $("show-masks").checked; this.stage.draw(); };
  }
}
