// The strip of all frames, the slider, and playing.

import { $, icon } from "./page.js";

export class Timeline {
  // `work` has: session, frames, frame, show(index).
  constructor(work) {
    this.work = work;
    this.playing = false;
    this.strip = $("strip");
    const scrub = $("scrub");
    scrub.max = work.session.frames - 1;
    scrub.oninput = () => this.go(Number(scrub.value));
    $("first").onclick = () => this.go(0);
    $("last").onclick = () => this.go(work.session.frames - 1);
    $("back").onclick = () => this.step(-1);
    $("next").onclick = () => this.step(1);
    $("play").onclick = () => this.toggle();
    const at = (event) => {
      if (event.buttons !== 1) return;
      const box = this.strip.getBoundingClientRect();
      this.go(Math.floor((event.clientX - box.left) / box.width * work.session.frames));
    };
    this.strip.onpointerdown = this.strip.onpointermove = at;
    new ResizeObserver(() => this.draw()).observe(this.strip);
    matchMedia("(prefers-color-scheme: dark)").onchange = () => this.draw();
  }

  go(index) {
    this.pause();
    if (this.work.runs?.active) $("watch").checked = false; // one looks elsewhere
    return this.work.show(Math.min(this.work.session.frames - 1, Math.max(0, index)));
  }

  step(by) { return this.go(this.work.wanted + by); } // where a quick hand is already

  toggle() {
    if (this.playing) return this.pause();
    this.playing = true;
    this.#button();
    return this.#play();
  }

  pause() {
    this.playing = false;
    this.#button();
  }

  #button() {
    $("play").replaceChildren(icon(this.playing ? "pause" : "play"));
    $("play").ariaLabel = this.playing ? "Pause" : "Play";
  }

  async #play() {
    const { work } = this;
    const { frames, fps } = work.session;
    if (work.frame === frames - 1) await work.show(0);
    let due = performance.now();
    while (this.playing && work.frame < frames - 1) {
      const next = work.frame + 1;
      for (let ahead = next + 1; ahead < Math.min(frames, next + 6); ahead++) {
        work.frames.picture(ahead).catch(() => {}); // told when it is shown
        work.frames.mask(ahead).catch(() => {});
      }
      await work.show(next);
      due = Math.max(due + 1000 / fps, performance.now() - 500); // late frames are not made up for
      const wait = due - performance.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, wait)));
    }
    this.pause();
  }

  draw() {
    const { strip, work } = this;
    const { session, frames, frame } = work;
    const number = session.frames;
    const style = getComputedStyle(document.documentElement);
    const color = (name) => {
      const probe = document.querySelector(`.legend ${name}`);
      return getComputedStyle(probe).backgroundColor;
    };
    strip.width = Math.max(1, Math.round(strip.clientWidth * devicePixelRatio));
    strip.height = Math.round(strip.clientHeight * devicePixelRatio);
    const pen = strip.getContext("2d");
    const wide = strip.width / number;
    const gap = wide > 5 ? 1 : 0;
    const bar = (index, top, height) => pen.fillRect(index * wide, top * strip.height, Math.max(1, wide - gap), height * strip.height);
    pen.fillStyle = color(".dot:not(.drawn, .done)");
    for (let index = 0; index < number; index++) if (!frames.done.has(index)) bar(index, 0.3, 0.4);
    pen.fillStyle = color(".dot.done");
    for (const index of frames.done) bar(index, 0.3, 0.4);
    pen.fillStyle = color(".dot.drawn");
    for (const index of Object.keys(session.drawn)) bar(Number(index), 0.08, 0.84);
    pen.fillStyle = style.getPropertyValue("color");
    pen.fillRect((frame + 0.5) * wide - devicePixelRatio, 0, 2 * devicePixelRatio, strip.height);
    $("scrub").value = frame;
    $("frame-name").textContent = `${frame + 1} / ${number}  ·  ${session.names[frame]}`;
  }
}
