"use strict";

// The values of a chart under the pointer, in its legend.
for (const figure of document.querySelectorAll("figure.chart")) {
  const svg = figure.querySelector("svg");
  const rule = svg.querySelector(".at");
  const where = figure.querySelector(".where");
  const lines = [...svg.querySelectorAll("polyline")].map((line, order) => ({
    places: line.getAttribute("points").split(" ").map((point) => Number(point.split(",")[0])),
    values: line.dataset.values.split(" ").map((pair) => pair.split(":")),
    text: figure.querySelectorAll(".legend b")[order],
  }));
  const unit = (text) => (text.dataset.last.endsWith(" %") ? " %" : "");
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = null;
    for (const line of lines) {
      const index = line.places.reduce((best, place, i) => (Math.abs(place - x) < Math.abs(line.places[best] - x) ? i : best), 0);
      const [at, value] = line.values[index];
      line.text.textContent = Number(Number(value).toPrecision(4)) + unit(line.text);
      if (nearest === null || Math.abs(line.places[index] - x) < Math.abs(nearest.place - x)) nearest = { place: line.places[index], at };
    }
    rule.setAttribute("x1", nearest.place);
    rule.setAttribute("x2", nearest.place);
    rule.classList.add("on");
    where.textContent = `${svg.dataset.x} ${Number(Number(nearest.at).toPrecision(6))}`;
  };
  const rest = () => {
    for (const line of lines) line.text.textContent = line.text.dataset.last;
    where.textContent = "";
    rule.classList.remove("on");
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", rest);
}

// One picture of a strip at a time, chosen by a slider.
for (const strip of document.querySelectorAll("[data-strip]")) {
  const figures = [...strip.querySelectorAll("figure")];
  if (figures.length < 2) continue;
  const label = strip.querySelector(".slide");
  const [slider, output] = [label.querySelector("input"), label.querySelector("output")];
  const show = () => {
    figures.forEach((figure, index) => { figure.hidden = index !== Number(slider.value); });
    output.textContent = figures[Number(slider.value)].dataset.label;
    slider.setAttribute("aria-valuetext", output.textContent);
  };
  strip.classList.add("live");
  label.hidden = false;
  slider.addEventListener("input", show);
  show();
}

// A table sorted by the column whose heading is chosen.
for (const table of document.querySelectorAll("table[data-sort]")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const order = heading.getAttribute("aria-sort") === "descending" || (column === 0 && !heading.hasAttribute("aria-sort")) ? 1 : -1;
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => order * key(a).localeCompare(key(b), "en", { numeric: true }));
      if (column > 0) rows.sort((a, b) => order * (Number(key(a)) - Number(key(b))));
      body.append(...rows);
    });
  });
}
