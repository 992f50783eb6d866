// Filters and sorts the table of questions.  Without it the page shows all of it.
"use strict";
(() => {
  const form = document.getElementById("filters");
  const table = document.getElementById("questions-table");
  if (!form || !table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const count = document.getElementById("shown");
  const { part, verdict, text } = form.elements;

  function apply() {
    const sought = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const keep =
        (!part.value || row.dataset.part === part.value) &&
        (!verdict.value || row.dataset.verdict === verdict.value) &&
        (!sought || row.textContent.toLowerCase().includes(sought));
      row.hidden = !keep;
      shown += keep ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length} shown`;
  }

  // "#questions?part=p0&verdict=refuted": what links in the page ask for.
  function follow() {
    const [place, query] = location.hash.slice(1).split("?");
    if (place !== "questions" || query === undefined) return;
    const asked = new URLSearchParams(query);
    for (const field of [part, verdict, text]) field.value = asked.get(field.name) || "";
    apply();
    document.getElementById("questions").scrollIntoView();
  }

  function sort(column, head) {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = head.classList.contains("number");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const order = (a, b) => {
      if (!numeric) return key(a).localeCompare(key(b), undefined, { numeric: true });
      if (Number.isNaN(key(a)) || Number.isNaN(key(b)))
        return (up ? 1 : -1) * (Number.isNaN(key(a)) - Number.isNaN(key(b)));
      return key(a) - key(b);
    };
    rows.sort((a, b) => (up ? order(a, b) : order(b, a)));
    body.append(...rows);
  }

  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column, head));
    head.replaceChildren(button);
  });
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", follow);
  form.hidden = false;
  apply();
  follow();
})();
