// What is drawn: saved at once, and undone. A frame's mask array lives in the cache of `Frames`.

import { call, tab } from "./api.js";
import { $, toast } from "./page.js";

const ROOM = 96 * 2 ** 20; // bytes of masks to undo

export class Drawing {
  // `work` has: path, session, frames, frame, selected, stage, show(index), drawAll(), reload().
  constructor(work) {
    this.work = work;
    this.undone = [];
    this.redone = [];
    this.unsaved = new Map(); // frame to its mask
    this.saving = null;
    addEventListener("beforeunload", (event) => { if (this.saving) event.preventDefault(); });
  }

  // Remember the frame as it is, before a change.
  remember() {
    this.redone = [];
    this.#keep(this.undone);
  }

  #keep(list) {
    const { frame, stage, session, frames } = this.work;
    list.push({ frame, mask: stage.mask.slice(), drawn: session.drawn[frame] });
    const most = Math.max(4, Math.floor(ROOM / frames.pixels));
    while (list.length > most) list.shift();
  }

  // The chosen object was drawn on the frame.
  painted() {
    const { session, frame, selected } = this.work;
    session.drawn[frame] = [...new Set([...(session.drawn[frame] ?? []), selected])];
    this.save();
  }

  async undo() { await this.#swap(this.undone, this.redone); }
  async redo() { await this.#swap(this.redone, this.undone); }

  async #swap(from, to) {
    const past = from.pop();
    if (!past) return;
    const { work } = this;
    if (work.frame !== past.frame) await work.show(past.frame);
    this.#keep(to);
    work.stage.mask.set(past.mask);
    if (past.drawn) work.session.drawn[past.frame] = past.drawn;
    else delete work.session.drawn[past.frame];
    work.stage.recolor();
    this.save();
  }

  clear() {
    const { work } = this;
    this.remember();
    work.stage.mask.fill(0);
    delete work.session.drawn[work.frame];
    work.stage.recolor();
    this.save();
  }

  forget() {
    this.undone = [];
    this.redone = [];
    this.work.drawAll();
  }

  // Send the mask of the frame that is shown; a later state of it replaces one that waits.
  save() {
    const { frame, frames, stage, session } = this.work;
    frames.masks.put(frame, stage.mask);
    this.unsaved.set(frame, stage.mask);
    if (session.drawn[frame] || stage.mask.some(Boolean)) frames.done.add(frame);
    else frames.done.delete(frame);
    this.saving ??= this.#send();
    this.work.drawAll();
  }

  async saved() { await this.saving; }

  async #send() {
    const { work } = this;
    $("saved").textContent = "Saving …";
    await null; // so that `saving` is set
    try {
      while (this.unsaved.size) {
        const [frame, mask] = this.unsaved.entries().next().value;
        this.unsaved.delete(frame);
        const drawn = (work.session.drawn[frame] ?? []).join();
        await call("PUT", `${work.path}/masks/${frame}?drawn=${drawn}&tab=${tab}`, mask.slice());
      }
      $("saved").textContent = "Saved";
    } catch (error) {
      $("saved").textContent = "Not saved";
      toast(`Not saved: ${error.message}`);
      this.unsaved.clear();
      await work.reload();
    } finally {
      this.saving = null;
    }
  }
}
