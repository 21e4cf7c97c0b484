/* Long tables: a box to search in, headings that sort. Without scripts the table is simply whole. */
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  for (const table of document.querySelectorAll("table.lost-sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    const text = (row, k) => row.cells[k].textContent.trim();
    const sort = (k) => {
      const down = heads[k].getAttribute("aria-sort") === "ascending";
      heads.forEach((head) => head.removeAttribute("aria-sort"));
      heads[k].setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => text(a, k).localeCompare(text(b, k), "en", { numeric: true }) * (down ? -1 : 1);
      body.append(...[...body.rows].sort(order));
    };
    heads.forEach((head, k) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(k));
      head.append(button);
    });
    const box = document.createElement("input"), label = document.createElement("label"), found = document.createElement("output");
    const search = () => {
      const words = box.value.toLowerCase().split(/\s+/);
      const rows = [...body.rows];
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      found.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    };
    box.type = "search";
    box.addEventListener("input", search);
    window.addEventListener("hashchange", () => {  // a link into the table leads to a row that is there
      if (!document.getElementById(location.hash.slice(1))?.closest("tr")?.hidden) return;
      box.value = "";
      search();
    });
    label.className = "lost-search";
    label.append("search ", box, found);
    (table.closest(".pst-scrollable-table-container") ?? table).before(label);
    search();
  }
});
