"use strict";
// Tables sort by a click on a heading: by data-value where a cell has one, else by its text.
const valueOf = (row, column) => {
  const cell = row.cells[column], given = cell.dataset.value;
  const text = given === undefined ? cell.textContent.trim() : given, number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text.toLowerCase();
};
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), table = heading.closest("table");
    const column = [...heading.parentNode.children].indexOf(heading);
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => {
      const a = valueOf(one, column), b = valueOf(other, column);
      const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  });
}
// What the pointer, a finger or the keyboard is on tells its numbers.
const tip = document.getElementById("tip");
const show = (event) => {
  const target = event.target, box = target.getBoundingClientRect();
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  const left = Math.min(box.right + 8, document.documentElement.clientWidth - tip.offsetWidth - 4);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 4)}px`;
};
for (const target of document.querySelectorAll("[data-tip]")) {
  for (const kind of ["pointerenter", "focus", "click"]) target.addEventListener(kind, show);
  for (const kind of ["pointerleave", "blur"]) target.addEventListener(kind, () => { tip.hidden = true; });
}
// Filters of a page over many audits.
const filters = [...document.querySelectorAll("select[data-filter]")];
const filter = () => {
  for (const row of document.querySelectorAll("tr[data-row]")) {
    row.hidden = filters.some((f) => f.value && row.dataset[f.dataset.filter] !== f.value);
  }
};
for (const chosen of filters) chosen.addEventListener("change", filter);
