// The list of objects: chosen, named, colored, locked, removed.

import { ask } from "./api.js";
import { $, attempt, confirm, icon, make } from "./page.js";

export class Objects {
  // `work` has: path, session, selected, select(id), colorsChanged(), drawing.
  constructor(work) {
    this.work = work;
    $("add").onclick = attempt(() => this.add());
  }

  async add() {
    const { id } = await ask("POST", `${this.work.path}/objects`);
    await this.work.reload();
    this.work.select(id);
    return id;
  }

  draw() {
    const { session, selected } = this.work;
    const list = $("objects");
    $("no-objects").hidden = session.objects.length > 0;
    const drawn = JSON.stringify(session.objects);
    const typing = document.activeElement?.classList.contains("name") && list.contains(document.activeElement);
    if (drawn !== this.drawn && !typing) {
      this.drawn = drawn;
      list.replaceChildren(...session.objects.map((object, place) => this.#row(object, place)));
    }
    for (const row of list.children) row.setAttribute("aria-current", Number(row.dataset.id) === selected);
  }

  #row(object, place) {
    const { work } = this;
    const change = attempt(async (changes) => {
      await work.drawing.saved();
      await ask("PATCH", `${work.path}/objects/${object.id}`, changes);
    });
    const color = make("input", { type: "color", value: object.color, title: "Color", ariaLabel: `Color of ${object.name}` });
    color.oninput = () => { object.color = color.value; work.colorsChanged(); };
    color.onchange = () => change({ color: color.value });
    const name = make("input", { className: "name", value: object.name, ariaLabel: "Name", spellcheck: false, maxLength: 60 });
    name.onchange = () => { object.name = name.value; change({ name: name.value }); };
    name.onkeydown = (event) => { if (event.key === "Enter") name.blur(); event.stopPropagation(); };
    const lock = make("button", {
      className: object.locked ? "on" : "", ariaLabel: object.locked ? "Unlock" : "Lock",
      title: object.locked ? "Locked: it stays as it is. Click to unlock" : "Lock: keep it as it is, not followed and not painted over",
    }, icon(object.locked ? "lock" : "unlock"));
    lock.onclick = () => change({ locked: !object.locked });
    const remove = make("button", { ariaLabel: `Remove ${object.name}`, title: "Remove it from all frames" }, icon("trash"));
    remove.onclick = attempt(async (event) => {
      event.stopPropagation();
      if (!await confirm(`Remove ${object.name} from all frames? This cannot be undone.`)) return;
      await work.drawing.saved();
      await ask("DELETE", `${work.path}/objects/${object.id}`);
    });
    const key = make("kbd", { textContent: place < 9 ? place + 1 : "" });
    const row = make("li", {}, color, name, ...(place < 9 ? [key] : []), lock, remove);
    row.dataset.id = object.id;
    row.onclick = () => work.select(object.id);
    return row;
  }
}
