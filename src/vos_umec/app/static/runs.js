// Following forward and backward, its progress, its speed before it starts, and downloads.

import { ask } from "./api.js";
import { $, attempt, duration, make, toast } from "./page.js";

const SIDES = [96, 144, 192, 240, 360, 480, 720];

export class Runs {
  // `work` has: path, session, frame, about, drawing, reload().
  constructor(work) {
    this.work = work;
    this.seconds = null;
    $("forward").onclick = attempt(() => this.start(false));
    $("backward").onclick = attempt(() => this.start(true));
    $("stop").onclick = attempt(() => this.stop());
    for (const button of document.querySelectorAll("[data-download]")) {
      button.onclick = attempt(() => this.#download(button));
    }
    this.#sides();
    attempt(() => this.measure())();
  }

  get active() { return ["waiting", "running", "stopping"].includes(this.work.session.run?.state); }

  async start(backward) {
    const { work } = this;
    if (this.active) return;
    work.timeline.pause();
    await work.show(work.wanted);
    await work.drawing.saved();
    work.drawing.forget();
    await ask("POST", `${work.path}/follow`, { frame: work.frame, backward });
  }

  async stop() { if (this.active) await ask("POST", `${this.work.path}/stop`); }

  async measure() {
    const { work } = this;
    if (this.active) return;
    const side = Number($("short-side").value);
    $("speed").textContent = "Measuring the speed of this machine …";
    this.seconds = null;
    this.measured = null;
    const found = await ask("POST", `${work.path}/speed`, { short_side: side === work.about.short_side ? null : side })
      .catch((error) => { $("speed").textContent = ""; throw error; });
    this.seconds = found.seconds;
    this.measured = found.short_side;
    this.draw();
  }

  draw() {
    const { session, frame, about } = this.work;
    const { run } = session;
    const active = this.active;
    $("stop").hidden = !active;
    $("stop").disabled = run?.state === "stopping";
    $("progress").hidden = !active;
    $("backward").disabled = active || frame === 0;
    $("forward").disabled = active || frame === session.frames - 1;
    $("short-side").disabled = active;
    const status = $("run-status");
    status.classList.toggle("bad", run?.state === "failed");
    status.textContent = run ? told(run, session) : "";
    $("run-warnings").textContent = run ? run.warnings.join("\n") : "";
    if (run) {
      $("progress").max = run.total;
      $("progress").value = run.done;
    }
    if (run?.state === "running" && run.seconds !== null) { // truer than what was measured before
      this.seconds = run.seconds;
      this.measured = Number($("short-side").value);
    }
    if (this.seconds !== null) {
      const onward = session.frames - 1 - frame;
      const parts = [[frame, "back"], [onward, "on"]].filter(([number]) => number);
      $("speed").textContent = `${duration(this.seconds)} a frame on this ${about.device.toUpperCase()} at short side ${this.measured}: `
        + parts.map(([number, way]) => `${number} ${number === 1 ? "frame" : "frames"} ${way} in about ${duration(number * this.seconds)}`).join(", ");
    }
  }

  #sides() {
    const { session, about } = this.work;
    const native = Math.min(...session.size);
    const own = about.short_side ?? native;
    const sides = [...new Set([...SIDES.filter((side) => side < native), native, own, session.short_side ?? own])].sort((a, b) => a - b);
    const select = $("short-side");
    select.replaceChildren(...sides.map((side) => {
      const note = side === own ? " (default)" : side === native ? " (the video's own)" : "";
      return make("option", { value: side, textContent: `${side}${note}` });
    }));
    select.value = session.short_side ?? own;
    select.onchange = attempt(() => this.measure());
  }

  async #download(button) {
    const { work } = this;
    const kind = button.dataset.download;
    await work.drawing.saved();
    button.disabled = true;
    const close = kind === "overlay" ? toast("The video is being written …", false) : () => {};
    try {
      const { name } = await ask("POST", `${work.path}/downloads/${kind}`);
      make("a", { href: `${work.path}/downloads/${kind}`, download: name }).click();
    } finally {
      close();
      button.disabled = false;
    }
  }
}

function told(run, session) {
  const way = run.backward ? "backward" : "forward";
  const left = run.seconds === null ? "" : `, ${duration(run.seconds)} a frame, ${duration((run.total - run.done) * run.seconds)} left`;
  switch (run.state) {
    case "waiting": return "Waits for what runs in another tab …";
    case "running": return `Following ${way}: ${run.done} of ${run.total}${left}`;
    case "stopping": return "Stops after this frame …";
    case "stopped": return run.frame === null ? "Stopped" : `Stopped at ${session.names[run.frame]}. Go on from there, or correct it first.`;
    case "failed": return run.error;
    default: return `Done: ${run.done} frames ${way}`;
  }
}
