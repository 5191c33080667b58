"use strict";
// What all parts share: the data, making of elements, lists of things to choose. Texts go in by textContent alone.

const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...content);
  return made;
}

// Plotly reads tags and entities in texts: what is foreign must show as it is.
const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const cellsById = new Map(page.cells.map((cell) => [cell.id, cell]));
const themeColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function lineColour(id) {
  return page.looks[id].colour || themeColour("--ink");
}

// The words of a search field, all of which must stand in a text.
const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

// A list of named things, each of which can be switched on; `changed` is called with the ids that are on.
function chooser(place, legend, items, chosen, changed, swatch = null) {
  const search = element("input", { type: "search", "aria-label": `Find in: ${legend}`, placeholder: "find", autocomplete: "off" });
  const all = element("button", { type: "button" }, "all found");
  const none = element("button", { type: "button" }, "none");
  const list = element("ul");
  const rows = items.map((item) => {
    const box = element("input", { type: "checkbox", value: item.id, checked: chosen.includes(item.id) });
    const parts = swatch ? [box, swatch(item), element("span", {}, item.label)] : [box, element("span", {}, item.label)];
    const row = element("li", {}, element("label", {}, ...parts));
    list.append(row);
    return { box, row, text: item.label.toLowerCase() };
  });
  const tell = () => changed(rows.filter(({ box }) => box.checked).map(({ box }) => box.value));
  const set = (value) => {
    for (const { box, row } of rows) if (!row.hidden || !value) box.checked = value;
    tell();
  };
  search.addEventListener("input", () => {
    const words = wordsOf(search.value);
    for (const { row, text } of rows) row.hidden = !words.every((word) => text.includes(word));
  });
  list.addEventListener("change", tell);
  all.addEventListener("click", () => set(true));
  none.addEventListener("click", () => set(false));
  const head = element("div", { class: "controls" }, search, all, none);
  place.append(element("fieldset", { class: "chooser" }, element("legend", {}, legend), head, list));
  tell();
}

function chartLayout(more) {
  const line = themeColour("--line");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: themeColour("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 55, r: 15, t: 30, b: 50 },
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

const chartOptions = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
const themeChanged = [];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themeChanged.forEach((redraw) => redraw()));
