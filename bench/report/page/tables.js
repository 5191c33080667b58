"use strict";
// Tables that can be sorted by the buttons in their heads and filtered.

// columns: {key, head, kind: "number" | "text" | "long", about}; rows: lists of [value, text, note, mark].
function sortable(table, columns, changed = () => {}) {
  let rows = [], order = null;
  const body = element("tbody");
  const heads = columns.map((column, place) => {
    const button = element("button", { type: "button", title: column.about || column.key }, column.head);
    button.addEventListener("click", () => sortBy(place));
    return element("th", { scope: "col", class: column.kind === "number" ? null : "text", "data-key": column.key }, button);
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);

  function sortBy(place) {
    const last = order && order.place === place ? order.direction : 0;
    order = last < 0 ? null : { place, direction: last > 0 ? -1 : 1 };
    heads.forEach((head, k) => {
      if (order && k === place) head.setAttribute("aria-sort", order.direction > 0 ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }

  function draw() {
    const shown = order ? [...rows].sort(compare(order.place, order.direction)) : rows;
    body.replaceChildren(...shown.map(lineOf));
    changed(rows.length);
  }

  function lineOf(row) {
    const line = element("tr");
    row.forEach(([, text, note, mark], k) => {
      const { kind } = columns[k];
      const classes = [kind === "number" ? "" : "text", kind === "long" ? "long" : "", mark].filter(Boolean).join(" ");
      const field = element("td", { class: classes || null, title: note || null });
      field.append(mark && columns[k].badge ? element("span", { class: `badge ${mark}` }, text) : text);
      line.append(field);
    });
    return line;
  }

  return { show(next) { rows = next; draw(); }, heads };
}

// What has no value stands last in either direction.
const compare = (place, direction) => (a, b) => {
  const [x, y] = [a[place][0], b[place][0]];
  if (x === null || y === null) return (x === null) - (y === null);
  return direction * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
};

// A test of rows: words, and comparisons such as fid<20 of a column's value. A minus may be typed or copied from the page.
function rowTest(text, columns) {
  const typed = (shown) => shown.toLowerCase().replaceAll("−", "-");
  const tests = wordsOf(typed(text).replace(/\s*([<>=]+)\s*/g, "$1")).map((word) => {
    const [, key, sign, wanted] = word.match(/^([^<>=]+)(<=|>=|<|>|=)([^<>=]+)$/) || [];
    const place = key ? columns.findIndex((column) => [column.key, column.head].some((name) => name.toLowerCase() === key)) : -1;
    if (place < 0) return (row) => row.some(([, shown]) => typed(shown).includes(word));
    const holds = { "<": (x, y) => x < y, ">": (x, y) => x > y, "<=": (x, y) => x <= y, ">=": (x, y) => x >= y, "=": (x, y) => x === y }[sign];
    const [number, texts] = [Number(wanted), sign === "=" && Number.isNaN(Number(wanted))];
    if (texts) return (row) => typed(row[place][1]) === wanted;
    return (row) => row[place][0] !== null && holds(Number(row[place][0]), number);
  });
  return (row) => tests.every((test) => test(row));
}

const count = (n, what, all) => `${n} of ${all} ${what}`;

(function results() {
  const { columns: all, means, seeds, first } = page.results;
  const filter = byId("results-filter"), further = byId("results-further"), told = byId("results-count");
  const selects = all.flatMap((column, place) => (column.kind === "axis" ? [axisSelect(column, place)] : []));
  byId("results-axes").append(...selects.map(({ made }) => made));
  let table, kept;

  function axisSelect(column, place) {
    const texts = [...new Set(means.map((row) => row[place][1]))];
    const select = element("select", {}, element("option", { value: "" }, "all"), ...texts.map((text) => element("option", { value: `=${text}` }, text)));
    select.addEventListener("change", show);
    return { made: element("label", {}, column.head, select), select, place };
  }

  function build() {
    kept = all.map((column, place) => place).filter((place) => further.checked || first.includes(all[place].key));
    const heads = kept.map((place) => {
      const column = all[place];
      const kind = ["number", "seeds"].includes(column.kind) || ["n_clients", "beta"].includes(column.key) ? "number" : "text";
      return { ...column, kind };
    });
    table = sortable(byId("results-table"), heads);
    show();
  }

  function show() {
    const rows = document.querySelector("input[name=rows]:checked").value === "means" ? means : seeds;
    const holds = rowTest(filter.value, all);
    const chosen = selects.filter(({ select }) => select.value);
    const found = rows.filter((row) => chosen.every(({ select, place }) => `=${row[place][1]}` === select.value) && holds(row));
    table.show(found.map((row) => kept.map((place) => row[place])));
    told.textContent = count(found.length, "rows", rows.length);
  }

  filter.addEventListener("input", show);
  further.addEventListener("change", build);
  document.querySelectorAll("input[name=rows]").forEach((radio) => radio.addEventListener("change", show));
  build();
})();

(function contrasts() {
  const { columns, rows } = page.contrasts;
  if (!rows.length) return;
  const kinds = (kind) => (["number", "seeds"].includes(kind) ? "number" : "text");
  sortable(byId("contrasts-table"), columns.map((column) => ({ ...column, kind: kinds(column.kind) }))).show(rows);
})();

(function claims() {
  if (!page.claims.length) return;
  const order = ["claim", "statement", "measure", "verdict", "value", "low", "high", "n"];
  const others = Object.keys(page.claims[0] || {}).filter((key) => !order.includes(key));
  const keys = [...order, ...others];
  const numbers = ["claim", "value", "low", "high", "n"];
  const kinds = (key) => (numbers.includes(key) ? "number" : ["statement", "quantity", "verdict"].includes(key) ? "long" : "text");
  const columns = keys.map((key) => ({ key, head: key, kind: kinds(key), badge: key === "verdict" }));
  const verdict = (text) => (text.startsWith("holds") ? "holds" : text.startsWith("does not hold") ? "fails" : "undecided");
  const field = (key, value) => {
    if (value == null) return [null, "--", "", ""];
    const text = typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
    return [value, text, "", key === "verdict" ? verdict(text) : ""];
  };
  sortable(byId("claims-table"), columns).show(page.claims.map((claim) => keys.map((key) => field(key, claim[key]))));
})();

(function status() {
  const axes = Object.entries(page.axes).map(([key, head]) => ({ key, head, kind: ["n_clients", "beta", "seed"].includes(key) ? "number" : "text" }));
  const columns = [
    ...axes,
    { key: "state", head: "state", kind: "text", badge: true },
    { key: "reason", head: "reason", kind: "long" },
    { key: "round", head: "round", kind: "number" },
    { key: "seconds", head: "seconds of training", kind: "number" },
    { key: "time", head: "last change (UTC)", kind: "text" },
    { key: "id", head: "cell", kind: "text" },
  ];
  const rows = page.cells.map((cell) => [
    ...axes.map(({ key }) => axisField(cell.labels[key])),
    [cell.state, cell.state, "", cell.state],
    [cell.reason, cell.reason, "", ""],
    [cell.round, `${cell.round}/${cell.rounds}`, "", ""],
    [cell.seconds, cell.seconds === null ? "--" : cell.seconds.toFixed(1), "", ""],
    [cell.time, cell.time || "--", "", ""],
    [cell.id, cell.id, "", ""],
  ]);
  const filter = byId("status-filter");
  const table = sortable(byId("status-table"), columns, (n) => { byId("status-count").textContent = count(n, "cells", rows.length); });
  const show = () => table.show(rows.filter(rowTest(filter.value, columns)));
  filter.addEventListener("input", show);
  show();
})();

function axisField(text) {
  const missing = text === undefined || text === "--";
  return [missing ? null : isNaN(text) ? text : Number(text), missing ? "--" : text, "", ""];
}

(function environments() {
  const cells = page.environments.map((_, place) => page.cells.filter((cell) => cell.environment === place).length);
  const names = [...new Set(page.environments.flatMap((environment) => Object.keys(environment)))].filter((name) => name !== "packages");
  const columns = [{ key: "cells", head: "cells", kind: "number" }, ...[...names, "packages"].map((key) => ({ key, head: key, kind: "long" }))];
  const packages = (found) => Object.entries(found || {}).map(([name, version]) => `${name} ${version}`).join(", ");
  const rows = page.environments.map((environment, place) => [
    [cells[place], String(cells[place]), "", ""],
    ...names.map((name) => [String(environment[name] ?? "--"), String(environment[name] ?? "--"), "", ""]),
    [packages(environment.packages), packages(environment.packages), "", ""],
  ]);
  sortable(byId("environment-table"), columns).show(rows);
})();
