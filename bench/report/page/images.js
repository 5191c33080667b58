"use strict";
// Sheets of samples side by side, and heat maps of partitions.

(function samples() {
  const place = byId("samples-sheets"), scale = byId("samples-scale");
  let chosen = [];

  function figure(cell) {
    const { address, width, height, count: shown, missing } = cell.sheet;
    const caption = element("figcaption", {}, cell.label);
    if (missing) return element("figure", { "data-id": cell.id }, element("p", { class: "missing" }, missing), caption);
    const factor = Number(scale.value);
    const image = element("img", { src: address, width: width * factor, height: height * factor, alt: `${shown} samples of ${cell.label}` });
    return element("figure", { "data-id": cell.id }, image, caption);
  }

  const nothing = element("p", { class: "missing" }, "No cell is chosen.");
  const draw = () => place.replaceChildren(...(chosen.length ? [] : [nothing]), ...chosen.map((id) => figure(cellsById.get(id))));
  const sample = page.cells.find((cell) => cell.sheet.width);
  if (sample) scale.value = String(Math.max(1, Math.min(4, Math.round(280 / sample.sheet.width))));
  const done = page.cells.filter((cell) => !cell.sheet.missing);
  const first = done.filter((cell) => cell.labels.seed === done[0].labels.seed).slice(0, 6).map((cell) => cell.id);
  scale.addEventListener("change", draw);
  chooser(byId("samples-cells"), "Cells", page.cells, first, (ids) => { chosen = ids; draw(); });
})();

(function partitions() {
  const place = byId("partitions-maps");
  const blues = [[0, "#f4f8fc"], [0.5, "#6baed6"], [1, "#08306b"]];
  const items = page.partitions.map((partition, k) => ({ id: String(k), label: partition.label }));
  let chosen = [];

  function map({ label, histogram, classes, skew }) {
    const made = element("div", { class: "map", role: "img", "aria-label": `${label}: images by client ${histogram.map((row) => row.reduce((a, b) => a + b, 0)).join(", ")}` });
    const fits = histogram.length <= 12 && classes.length <= 12 && innerWidth > 600;
    const heat = {
      z: histogram, x: classes.map((name) => literal(name)), y: histogram.map((_, k) => `client ${k}`), type: "heatmap", colorscale: blues,
      xgap: 1, ygap: 1, zmin: 0, showscale: !fits, texttemplate: fits ? "%{z}" : "", hovertemplate: "%{y}, class %{x}: %{z} images<extra></extra>",
    };
    const text = literal(label) + (skew == null ? "" : `<br>mean distance to all labels ${skew.toFixed(2)}`);
    const layout = chartLayout({
      title: { text, font: { size: 13 }, x: 0.02, xanchor: "left" }, margin: { l: 70, r: 15, t: 55, b: 40 },
      xaxis: { type: "category", title: { text: "class" } }, yaxis: { type: "category", autorange: "reversed" },
    });
    Plotly.newPlot(made, [heat], layout, { ...chartOptions, displayModeBar: false });
    return made;
  }

  function draw() {
    for (const old of place.children) Plotly.purge(old);
    place.replaceChildren(...chosen.map((k) => map(page.partitions[Number(k)])));
    for (const made of place.children) Plotly.Plots.resize(made);
  }

  if (!items.length) {
    place.replaceWith(element("p", { class: "missing" }, "No cell has a partition: nothing was split yet."));
    return;
  }
  const first = items.filter((_, k) => page.partitions[k].seed === page.partitions[0].seed).slice(0, 4).map(({ id }) => id);
  chooser(byId("partitions-choice"), "Partitions", items, first, (ids) => { chosen = ids; draw(); });
  themeChanged.push(draw);
})();
