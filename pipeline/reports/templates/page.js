"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const read = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const isNumber = head.classList.contains("number");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [read(a), read(b)];
        if (!isNumber) return sign * x.localeCompare(y, "en", {numeric: true});
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (Number(x) - Number(y));
      });
      table.tBodies[0].append(...rows);
    });
  }
}
for (const view of document.querySelectorAll(".view")) {
  const frames = [...view.querySelectorAll(".frame")];
  const slider = view.querySelector("input[type=range]");
  const said = view.querySelector("output");
  if (!slider) continue;
  const show = () => {
    frames.forEach((frame, place) => { frame.hidden = place !== Number(slider.value); });
    said.textContent = frames[slider.value].dataset.label;
    slider.setAttribute("aria-valuetext", frames[slider.value].dataset.label);
  };
  view.classList.add("live");
  slider.parentElement.hidden = false;
  slider.addEventListener("input", show);
  show();
}
