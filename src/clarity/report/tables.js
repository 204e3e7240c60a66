// Tables: sorting, filtering, choice of columns and paging. Only the rows of one page are elements.
"use strict";
{
  const PAGE = 25;
  const MISSING = "–";

  // An infinite number lies in the data as a word.
  const numbers = (data) => data.map((value) => value === null ? null : Number(value));

  // A column of the data: the text and the place in the order of each of its rows.
  const reader = (kind, data) => {
    if (kind === "interval") {
      const [low, high] = data.map(numbers);
      return {
        text: (row) => low[row] === null ? MISSING : `${number(low[row])} to ${number(high[row])}`,
        order: (row) => low[row],
        plain: (row) => low[row] === null ? "" : `${low[row]} to ${high[row]}`,
      };
    }
    if (kind === "number" || kind === "p") {
      const values = numbers(data);
      const write = kind === "p"
        ? (value) => value < 0.001 ? "< 0.001" : value.toFixed(3)
        : (value) => Number.isInteger(value) ? value.toLocaleString("en").replace("-", "−") : number(value);
      return {
        text: (row) => values[row] === null ? MISSING : write(values[row]),
        order: (row) => values[row],
        plain: (row) => values[row] ?? "",
      };
    }
    const text = (row) => data.levels[data.codes[row]];
    return { text, order: (row) => text(row) || null, plain: text };
  };

  const begin = async (root) => {
    const id = root.dataset.table;
    const table = root.querySelector("table");
    const kinds = Array.from(table.tHead.rows[0].cells, (cell) => cell.dataset.kind);
    const columns = (await unpackJson(packedText(`data-${id}`))).map((data, at) => reader(kinds[at], data));
    const heads = Array.from(table.tHead.rows[0].cells);
    const form = root.querySelector("form");
    const words = form.querySelector("input[type=search]");
    const picks = Array.from(form.querySelectorAll("select"));
    const status = form.querySelector("[role=status]");
    const pager = root.querySelector(".pager");
    const chosen = Array.from(root.querySelectorAll(".choice input"));
    const all = Array.from({ length: Number(root.dataset.rows) }, (_, row) => row);
    // What a word is looked for in.
    const texts = all.map((row) => columns.map((column) => column.text(row)).join("\n").toLowerCase());
    let rows = all;
    let sorted = null;
    let page = 0;

    const draw = () => {
      const last = Math.max(0, Math.ceil(rows.length / PAGE) - 1);
      page = Math.min(page, last);
      const part = rows.slice(page * PAGE, (page + 1) * PAGE);
      const visible = chosen.map((box) => box.checked);
      heads.forEach((head, at) => { head.hidden = !visible[at]; });
      table.tBodies[0].replaceChildren(...part.map((row) => make("tr", {}, ...columns.flatMap((column, at) => {
        if (!visible[at]) return [];
        const text = column.text(row);
        const look = kinds[at] === "verdict" ? `verdict ${text.replaceAll(" ", "-")}` : kinds[at] === "text" ? "" : "number";
        return [make("td", { text, className: look })];
      }))));
      const range = part.length ? `rows ${page * PAGE + 1} to ${page * PAGE + part.length}` : "no rows";
      status.textContent = `${rows.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} rows match; ${range} shown`;
      pager.hidden = rows.length <= PAGE;
      for (const button of pager.querySelectorAll("button")) {
        const back = button.value === "first" || button.value === "back";
        button.disabled = back ? page === 0 : page === last;
      }
      pager.querySelector("span").textContent = `page ${page + 1} of ${last + 1}`;
    };

    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows = all.filter((row) =>
        picks.every((pick) => !pick.value || columns[pick.dataset.column].text(row) === pick.value)
        && wanted.every((word) => texts[row].includes(word)));
      if (sorted) {
        const { order } = columns[sorted.at];
        rows.sort((a, b) => {
          const x = order(a), y = order(b);
          // No value is neither small nor large: it comes last either way.
          if (x === null || y === null) return (x === null) - (y === null);
          const difference = typeof x === "number" ? (x > y) - (x < y) : x.localeCompare(y, "en", { numeric: true });
          return sorted.up ? difference : -difference;
        });
      }
      page = 0;
      draw();
    };

    heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
      sorted = { at, up: head.getAttribute("aria-sort") !== "ascending" };
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      apply();
    }));
    pager.addEventListener("click", (event) => {
      const steps = { first: -Infinity, back: -1, next: 1, last: Infinity };
      if (!(event.target.value in steps)) return;
      page = Math.min(Math.max(page + steps[event.target.value], 0), Math.ceil(rows.length / PAGE) - 1);
      draw();
    });
    const csv = () => {
      const field = (value) => /[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
      const lines = [heads.map((head) => head.textContent.trim()), ...rows.map((row) => columns.map((column) => column.plain(row)))];
      const kept = lines.map((line) => line.filter((_, at) => chosen[at].checked).map((value) => field(String(value))).join(","));
      return kept.join("\n") + "\n";
    };
    root.querySelector("button.save").addEventListener("click", () => {
      const link = make("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: `${id}.csv` });
      link.click();
      URL.revokeObjectURL(link.href);
    });
    root.querySelector(".choice").addEventListener("change", draw);
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    // No reset button: its event comes before the fields are empty.
    root.querySelector("button.all").addEventListener("click", () => {
      form.reset();
      apply();
    });
    root.querySelector(".controls").hidden = false;
    apply();
    root.classList.add("drawn");
  };
  whenSeen(document.querySelectorAll(".data-table"), begin);
}
