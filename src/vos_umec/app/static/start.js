// The first page: open a video by its path, send one, or go on with earlier work.

import { ask, upload } from "./api.js";
import { $, attempt, confirm, make } from "./page.js";

export async function showStart(about) {
  $("start").hidden = false;
  $("help-button").hidden = true;
  $("limits").textContent = `It is copied, at most ${about.most_bytes / 2 ** 30} GB, and stays on this machine. `
    + "A large video opens quicker by its path.";
  $("path-form").onsubmit = (event) => {
    event.preventDefault();
    busy(() => ask("POST", "/api/sessions", { path: $("path").value }), "Reading the video …");
  };
  $("pick-file").onchange = (event) => send([...event.target.files], about);
  $("pick-folder").onchange = (event) => send([...event.target.files], about);
  const drop = $("drop");
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = attempt(async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    await send([...event.dataTransfer.files], about);
  });
  await list();
}

async function busy(work, told) {
  const status = $("start-status");
  status.textContent = told;
  status.className = "quiet";
  try {
    const { id } = await work();
    location.href = `/s/${id}`;
  } catch (error) {
    status.textContent = error.message;
    status.className = "bad";
  } finally {
    $("upload").hidden = true;
  }
}

function send(files, about) {
  const folder = files[0]?.webkitRelativePath.split("/")[0];
  if (folder) { // what lies beside the pictures, such as .DS_Store, stays
    const picture = (name) => about.pictures.some((ending) => name.toLowerCase().endsWith(ending));
    files = files.filter((file) => file.webkitRelativePath.split("/").length === 2 && picture(file.name));
  }
  if (!files.length) return busy(() => Promise.reject(new Error("there is no picture in this folder")), "");
  const bar = $("upload");
  bar.hidden = false;
  return busy(() => upload(files, folder || files[0].name.replace(/\.\w+$/, ""), (part) => { bar.value = part; }), "Copying and reading the video …");
}

async function list() {
  const sessions = await ask("GET", "/api/sessions");
  $("no-recent").hidden = sessions.length > 0;
  $("recent").replaceChildren(...sessions.map(row));
}

function row(session) {
  const [height, width] = session.size;
  const counts = `${session.frames} frames, ${width} × ${height}, ${session.masks} with masks`;
  const when = new Date(session.changed * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const link = make("a", { href: `/s/${session.id}`, className: session.there ? "" : "gone", title: session.video },
    make("img", { src: `/api/sessions/${session.id}/thumbnail`, alt: "" }),
    make("span", { className: "text" },
      make("strong", { textContent: session.name }),
      make("span", { className: "quiet", textContent: counts }),
      make("span", { className: "quiet", textContent: session.there ? when : "its video is gone or has changed" })));
  const remove = make("button", { className: "ghost", textContent: "Remove", ariaLabel: `Remove ${session.name}` });
  remove.onclick = attempt(async () => {
    if (!await confirm(`Remove the masks of ${session.name} from this machine? A video that was opened by its path stays.`)) return;
    await ask("DELETE", `/api/sessions/${session.id}`);
    await list();
  });
  return make("li", {}, link, remove);
}
