// Frames and masks of a session, read when they are needed and kept while there is room.

import { call } from "./api.js";

const ROOM = 320 * 2 ** 20; // bytes of decoded pictures and masks

class Cache {
  constructor(most, read) {
    this.most = Math.max(8, most);
    this.read = read;
    this.found = new Map(); // index to a promise, the one used last at the end
  }

  get(index) {
    const known = this.found.get(index) ?? this.read(index);
    this.found.delete(index);
    this.found.set(index, known);
    known.catch(() => this.found.delete(index));
    while (this.found.size > this.most) this.found.delete(this.found.keys().next().value);
    return known;
  }

  put(index, value) {
    this.found.delete(index);
    this.found.set(index, Promise.resolve(value));
  }

  forget(index) {
    if (index === undefined) this.found.clear();
    else this.found.delete(index);
  }
}

export class Frames {
  constructor(session) {
    this.path = `/api/sessions/${session.id}`;
    const [height, width] = session.size;
    this.pixels = height * width;
    this.done = new Set(session.done);
    const most = Math.floor(ROOM / (5 * this.pixels));
    this.pictures = new Cache(most, async (index) => {
      const answer = await call("GET", `${this.path}/frames/${index}`);
      return createImageBitmap(await answer.blob());
    });
    this.masks = new Cache(most, (index) => this.#readMask(index));
  }

  picture(index) { return this.pictures.get(index); }
  mask(index) { return this.masks.get(index); } // the array itself: what is drawn on it stays

  async #readMask(index) {
    if (!this.done.has(index)) return new Uint8Array(this.pixels);
    const answer = await call("GET", `${this.path}/masks/${index}`);
    return new Uint8Array(await answer.arrayBuffer());
  }
}
