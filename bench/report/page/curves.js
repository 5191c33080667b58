"use strict";
// Curves of cells, by several axes, switched on and off by cell, smoothed.

(function curves() {
  const chart = byId("curves-chart"), told = byId("curves-told");
  const controls = Object.fromEntries(["y", "x", "smooth", "log", "means"].map((name) => [name, byId(`curves-${name}`)]));
  const title = (select) => select.selectedOptions[0].textContent;
  let chosen = [];

  // A moving average that forgets, without the pull to zero at the start.
  function smoothed(values, weight) {
    let sum = 0, total = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = weight * sum + (1 - weight) * value;
      total = weight * total + (1 - weight);
      return sum / total;
    });
  }

  // The value of another axis at a (fraction of a) round, on straight lines from round 0 on.
  function along(cell, axis, round) {
    const rounds = [0, ...cell.curves.rounds], values = [0, ...cell.curves.axes[axis]];
    const next = rounds.findIndex((known) => known >= round);
    if (next < 0) return null;
    if (next === 0) return values[0];
    const share = (round - rounds[next - 1]) / (rounds[next] - rounds[next - 1]);
    return values[next - 1] + share * (values[next] - values[next - 1]);
  }

  function points(cell) {
    const { rounds, steps, fid } = cell.curves;
    const name = controls.y.value;
    const [at, y] = name === "steps" ? steps : name === "fid" ? fid : [rounds, cell.curves[name]];
    const x = controls.x.value === "rounds" ? at : at.map((round) => along(cell, controls.x.value, round));
    return { cell, at, x, y: smoothed(y, Number(controls.smooth.value)) };
  }

  // Those that have the same rounds as most of the others; of as many, those that came furthest.
  function together(drawn) {
    const groups = new Map();
    for (const one of drawn) {
      const rounds = one.at.join();
      groups.set(rounds, [...(groups.get(rounds) || []), one]);
    }
    const better = (a, b) => a.length - b.length || a[0].at.at(-1) - b[0].at.at(-1);
    return [...groups.values()].reduce((best, group) => better(group, best) > 0 ? group : best);
  }

  function lineOf(chosenIds, name, leftOut) {
    const known = chosenIds.map((id) => points(cellsById.get(id))).filter(({ y }) => y.some((value) => value !== null));
    if (!known.length) return null;
    const drawn = together(known), ids = drawn.map(({ cell }) => cell.id);
    leftOut.push(...known.filter((one) => !drawn.includes(one)).map(({ cell }) => cell.label));
    const mean = (key) => drawn[0].y.map((_, k) => {
      const values = drawn.map((one) => one[key][k]);
      return values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
    });
    const [x, y] = drawn.length === 1 ? [drawn[0].x, drawn[0].y] : [mean("x"), mean("y")];
    const mode = controls.y.value === "steps" || y.length > 30 ? "lines" : "lines+markers";
    const line = { color: lineColour(ids[0]), dash: page.looks[ids[0]].dash, width: 2 };
    return { x, y, name: literal(name), meta: ids, type: "scatter", mode, line, marker: { size: 5 } };
  }

  // Cells that differ in the seed alone, under their common name.
  function groups() {
    const found = new Map();
    for (const id of chosen) {
      const cell = cellsById.get(id);
      const name = cell.label.replace(/, seed [^,]*/, "");
      const key = controls.means.checked ? name : id;
      found.set(key, { name: controls.means.checked ? name : cell.label, ids: [...(found.get(key)?.ids || []), id] });
    }
    return [...found.values()];
  }

  function draw() {
    byId("curves-smooth-value").textContent = controls.smooth.value;
    const wanted = groups(), leftOut = [];
    const lines = wanted.map(({ ids, name }) => lineOf(ids, name, leftOut)).filter(Boolean);
    const layout = chartLayout({
      showlegend: false,
      margin: { l: 60, r: 15, t: 10, b: 45 },
      hoverlabel: { namelength: -1 },
      xaxis: { title: { text: title(controls.x) }, rangemode: "tozero" },
      yaxis: { title: { text: innerWidth > 600 ? title(controls.y) : "" }, type: controls.log.checked ? "log" : "linear" },
    });
    Plotly.react(chart, lines, layout, chartOptions);
    const missing = wanted.length - lines.length;
    told.textContent = [
      `${lines.length} curve${lines.length === 1 ? "" : "s"}`,
      ...(missing ? [`${missing} chosen without this curve`] : []),
      ...(leftOut.length ? [`not in a mean, as their rounds are not those of the other seeds: ${leftOut.join("; ")}`] : []),
    ].join("; ");
  }

  function swatch(item) {
    const { colour, dash } = page.looks[item.id];
    const space = "http://www.w3.org/2000/svg";
    const [made, line] = ["svg", "line"].map((name) => document.createElementNS(space, name));
    const attributes = { x2: 32, y1: 2, y2: 2, "stroke-width": 2.5, "stroke-dasharray": { solid: "none", dash: "7 4", dashdot: "7 3 2 3", dot: "2 3" }[dash] };
    for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
    line.style.stroke = colour || "var(--ink)";
    made.setAttribute("class", "swatch");
    made.setAttribute("aria-hidden", "true");
    made.append(line);
    return made;
  }

  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", "Curves of the chosen cells; their numbers are in cells.csv and the cells' logs");
  const known = page.cells.filter((cell) => cell.curves.rounds.length);
  const first = known.filter((cell) => cell.labels.seed === known[0].labels.seed).slice(0, 12).map((cell) => cell.id);
  for (const control of Object.values(controls)) control.addEventListener("input", draw);
  chooser(byId("curves-cells"), "Cells", known, first, (ids) => { chosen = ids; draw(); }, swatch);
  themeChanged.push(draw);
})();
