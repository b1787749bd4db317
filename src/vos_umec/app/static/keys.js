// The keyboard.

import { $, attempt } from "./page.js";

export function bindKeys(work) {
  const { tools, timeline, stage, objects, runs, drawing } = work;
  let held = false; // the space bar, as long as nothing was dragged with it

  const plain = {
    v: () => work.tool("move"), b: () => work.tool("brush"), e: () => work.tool("eraser"),
    p: () => work.tool("polygon"), r: () => work.tool("box"),
    "[": () => work.resizeBrush(-1), "]": () => work.resizeBrush(1),
    Enter: () => tools.close(), Escape: () => tools.give_up(),
    Delete: () => work.clear(), Backspace: () => work.clear(),
    n: () => work.idle() && objects.add(),
    ArrowLeft: () => timeline.step(-1), ArrowRight: () => timeline.step(1),
    Home: () => timeline.go(0), End: () => timeline.go(work.session.frames - 1),
    f: () => runs.start(false), s: () => runs.stop(),
    h: () => $("show-masks").click(),
    "+": () => stage.zoom(1.3), "=": () => stage.zoom(1.3), "-": () => stage.zoom(1 / 1.3), 0: () => stage.fit(),
    "?": () => $("help").showModal(),
  };
  const shifted = { F: () => runs.start(true), ArrowLeft: () => timeline.step(-10), ArrowRight: () => timeline.step(10), "?": plain["?"], "+": plain["+"] };
  for (let place = 0; place < 9; place++) {
    plain[place + 1] = () => { const object = work.session.objects[place]; if (object) work.select(object.id); };
  }

  addEventListener("keydown", (event) => {
    const at = event.target;
    if (at.matches?.("input:not([type=range], [type=checkbox]), select, textarea") || document.querySelector("dialog[open]")) return;
    if (event.key === " ") {
      event.preventDefault();
      if (!event.repeat) { held = true; tools.panning = true; stage.draw(); }
      return;
    }
    let action;
    if (event.ctrlKey || event.metaKey) {
      const key = event.key.toLowerCase();
      if (key === "z") action = () => work.idle() && (event.shiftKey ? drawing.redo() : drawing.undo());
      else if (key === "y") action = () => work.idle() && drawing.redo();
    } else if (!event.altKey) {
      if (event.key === "Enter" && at.matches?.("button, a")) return;
      action = (event.shiftKey ? shifted : plain)[event.key];
    }
    if (!action) return;
    event.preventDefault();
    attempt(action)();
  });
  addEventListener("keyup", (event) => {
    if (event.key !== " " || !held) return;
    event.preventDefault(); // of a button that has the focus
    held = false;
    tools.panning = false;
    if (!tools.panned) timeline.toggle();
    tools.panned = false;
    stage.draw();
  });
  addEventListener("blur", () => { held = false; tools.panning = false; });
}
