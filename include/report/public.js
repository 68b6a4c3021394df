
"use strict";
// The page is of use without this. It searches, filters and sorts the rows that the page has, and says when the page is
// out of date. It asks no server, and writes values of rows as text only.
addEventListener("DOMContentLoaded", () => {
  const PAGE = 25, PLAIN = new Intl.NumberFormat("en-US");
  for (const late of document.querySelectorAll("[data-due]")) {
    late.hidden = Date.now() <= Date.parse(late.dataset.due);
  }
  for (const section of document.querySelectorAll("[data-model]")) {
    const data = section.querySelector("script.data");
    if (data) { search(section, JSON.parse(data.textContent)); }
  }

  function search(section, columns) {
    const find = section.querySelector(".find"), input = find.querySelector("input");
    const choices = [...find.querySelectorAll("select")], more = section.querySelector(".more");
    const body = section.querySelector(".rows tbody"), heads = [...section.querySelectorAll(".rows th")];
    const count = section.querySelector(".count");
    const cell = (column, row) => column.of ? column.of[column.at[row]] : column.all[row];
    const number = (text) => Number.parseFloat(text.replace(/[,\s%]/g, ""));
    const total = (columns[0].at || columns[0].all).length;
    let found = [], shown = PAGE, by = -1, falling = false;

    const texts = Array.from({ length: total }, (_, row) =>
      columns.map((column) => cell(column, row)).join("\n").toLowerCase());

    const compare = (column) => {
      const way = falling ? -1 : 1;
      if (!column.number) {
        const order = new Intl.Collator("en", { numeric: true });
        return (one, other) => way * order.compare(cell(column, one), cell(column, other)) || one - other;
      }
      const values = column.all.map(number);
      return (one, other) => {  // a value that is not there comes last
        const [a, b] = [values[one], values[other]];
        if (Number.isNaN(a) || Number.isNaN(b)) { return Number.isNaN(a) - Number.isNaN(b) || one - other; }
        return way * (a - b) || one - other;
      };
    };

    const draw = () => {
      const rows = found.slice(0, shown).map((row) => {
        const line = document.createElement("tr");
        columns.forEach((column) => {
          const td = document.createElement("td");
          td.textContent = cell(column, row);
          if (column.number) { td.className = "n"; }
          line.append(td);
        });
        return line;
      });
      body.replaceChildren(...rows);
      more.hidden = found.length <= shown;
      const what = found.length === total ? `${PLAIN.format(total)} shown` : `${PLAIN.format(found.length)} found`;
      const order = by < 0 ? "the highest first" : `by ${heads[by].textContent}`;
      count.textContent = found.length ? `${PLAIN.format(rows.length)} of ${what}, ${order}.` :
        `Nothing found in ${PLAIN.format(total)}.`;
    };

    const refresh = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const wanted = choices.filter((each) => each.value !== "").map((each) =>
        [columns[Number(each.dataset.column)], Number(each.value)]);
      found = [];
      for (let row = 0; row < total; row += 1) {
        if (wanted.every(([column, place]) => column.at[row] === place) &&
            words.every((word) => texts[row].includes(word))) { found.push(row); }
      }
      if (by >= 0) { found.sort(compare(columns[by])); }
      shown = PAGE;
      draw();
    };

    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        falling = by === place ? !falling : Boolean(columns[place].number);
        by = place;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        refresh();
      });
    });
    let waiting = 0;
    input.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 120); });
    choices.forEach((each) => each.addEventListener("change", refresh));
    more.addEventListener("click", () => { shown += 4 * PAGE; draw(); });
    find.querySelector(".reset").addEventListener("click", () => {
      input.value = "";
      choices.forEach((each) => { each.value = ""; });
      by = -1;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      refresh();
      input.focus();
    });
    find.hidden = false;
    refresh();
  }
});
