"use strict";
// Curves of cells, by several axes, switched on and off by cell, smoothed.

(function curves() {
  const chart = byId("curves-chart"), told = byId("curves-told");
  const controls = Object.fromEntries(["y", "x", "smooth", "log", "means"].map((name) => [name, byId(`curves-${name}`)]));
  const title = (select) => select.selectedOptions[0].textContent;
  const SHAPES = {
    circle: "M12 5a4 4 0 1 0 8 0a4 4 0 1 0-8 0", square: "M12.5 1.5h7v7h-7z", diamond: "M16 0l4 5-4 5-4-5z",
    "triangle-up": "M16 1l4.5 8h-9z", "triangle-down": "M16 9l4.5-8h-9z", x: "M12.5 1.5l7 7M19.5 1.5l-7 7",
  };
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
    const { dash, symbol } = page.looks[ids[0]];
    const line = { color: lineColour(ids[0]), dash, width: 2 }, marker = { size: 6, symbol, maxdisplayed: 12 };
    return { x, y, name: literal(name), meta: ids, type: "scatter", mode: "lines+markers", line, marker };
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
    const { colour, dash, symbol } = page.looks[item.id];
    const space = "http://www.w3.org/2000/svg";
    const [image, line, mark] = ["svg", "line", "path"].map((name) => document.createElementNS(space, name));
    const dashes = { solid: "none", dash: "7 4", dashdot: "7 3 2 3", dot: "2 3" };
    const attributes = { x2: 32, y1: 5, y2: 5, "stroke-width": 2.5, "stroke-dasharray": dashes[dash] };
    for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
    mark.setAttribute("d", SHAPES[symbol]);
    line.style.stroke = mark.style.fill = mark.style.stroke = colour || "var(--ink)";
    image.setAttribute("class", "swatch");
    image.setAttribute("aria-hidden", "true");
    image.append(line, mark);
    return image;
  }

  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", "Curves of the chosen cells; their numbers are in cells.csv and the cells' logs");
  const known = page.cells.filter((cell) => cell.curves.rounds.length);
  const first = known.filter((cell) => cell.labels.seed === known[0].labels.seed).slice(0, 12).map((cell) => cell.id);
  for (const control of Object.values(controls)) control.addEventListener("input", draw);
  chooser(byId("curves-cells"), "Cells", known, first, (ids) => { chosen = ids; draw(); }, swatch);
  themeChanged.push(draw);
})();
