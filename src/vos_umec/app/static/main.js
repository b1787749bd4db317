// Which page is shown: the list of sessions, or one session.

import { ask } from "./api.js";
import { $, toast } from "./page.js";
import { showStart } from "./start.js";
import { showWork } from "./work.js";

try {
  const about = await ask("GET", "/api/about");
  $("about").textContent = `${about.model}, ${about.device.toUpperCase()}`;
  $("help-button").onclick = () => $("help").showModal();
  const session = location.pathname.match(/^\/s\/([A-Za-z0-9-]+)$/);
  if (session) await showWork(session[1], about);
  else await showStart(about);
} catch (error) {
  toast(error.message);
}
