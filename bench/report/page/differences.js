"use strict";
// The settings of two cells, and what differs.

(function differences() {
  const selects = [byId("differences-a"), byId("differences-b")], all = byId("differences-all");
  const text = (value) => (value === undefined || value === null ? "--" : typeof value === "string" ? value : JSON.stringify(value));
  const table = sortable(byId("differences-table"), [
    { key: "setting", head: "setting", kind: "text" }, { key: "first", head: "first", kind: "long" }, { key: "second", head: "second", kind: "long" },
  ]);

  function settings(cell) {
    const environment = page.environments[cell.environment] || {};
    const packages = Object.entries(environment.packages || {}).map(([name, version]) => [`environment.packages.${name}`, version]);
    const rest = Object.entries(environment).filter(([name]) => name !== "packages").map(([name, value]) => [`environment.${name}`, value]);
    return new Map([...Object.entries(cell.config), ...rest, ...packages]);
  }

  function show() {
    const [a, b] = selects.map((select) => settings(cellsById.get(select.value)));
    const names = [...new Set([...a.keys(), ...b.keys()])];
    const rows = names.map((name) => [name, text(a.get(name)), text(b.get(name))]);
    const differ = rows.filter(([, first, second]) => first !== second);
    table.show((all.checked ? rows : differ).map((row) => row.map((value) => [value, value, "", ""])));
    byId("differences-count").textContent = differ.length ? count(differ.length, "settings differ", names.length) : "No setting differs.";
  }

  for (const select of selects) {
    select.append(...page.cells.map((cell) => element("option", { value: cell.id }, cell.label)));
    select.addEventListener("change", show);
  }
  const other = page.cells.findIndex((cell) => cell.labels.strategy !== page.cells[0].labels.strategy);
  selects[1].selectedIndex = Math.max(other, 0);
  all.addEventListener("change", show);
  show();
})();
