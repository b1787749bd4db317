// Small things that all parts of the page share.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export function toast(text, bad = true) {
  const box = make("div", { className: bad ? "toast bad" : "toast", textContent: text });
  const close = () => box.remove();
  box.onclick = close;
  $("toasts").append(box);
  setTimeout(close, bad ? 12000 : 4000);
  return close;
}

// Run an action of a button or a key; what goes wrong is said, and nothing else breaks.
export function attempt(action) {
  return async (...given) => {
    try {
      return await action(...given);
    } catch (error) {
      toast(error.message);
    }
  };
}

export function confirm(text) {
  const dialog = $("confirm");
  $("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

export function duration(seconds) {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
