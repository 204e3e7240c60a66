// Sorting and filtering of the tables. Without it every table is there, in the order of the config.
"use strict";
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const form = document.getElementById(table.id + "-filters");
  const value = (row, column) => row.cells[column].dataset.value;

  heads.forEach((head, column) => {
    const numeric = head.classList.contains("number");
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sorted = rows.slice().sort((a, b) => {
        const x = value(a, column), y = value(b, column);
        // No value is neither small nor large: it comes last either way.
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
        return up ? order : -order;
      });
      body.append(...sorted);
    });
  });

  if (!form) continue;
  form.hidden = false;
  const status = form.querySelector("[role=status]");
  const words = form.querySelector("input");
  const picks = Array.from(form.querySelectorAll("select"));
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      const keep = picks.every((pick) => !pick.value || value(row, pick.dataset.column) === pick.value)
        && wanted.every((word) => texts[index].includes(word));
      row.hidden = !keep;
      shown += keep;
    });
    status.textContent = shown + " of " + rows.length + " rows";
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
}
