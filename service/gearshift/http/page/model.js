// One model: its frontier, its variants with their cards, its service classes.
import { draw, spark, word } from "./chart.js";
import { accuracy, bytes, count, h, NONE, percent, rate, s, say, sync, term, time } from "./dom.js";

const STEPS = 60;

export function create(model) {
  const id = `model-${model.name}`;
  const svg = s("svg", { class: "chart", role: "img" });
  const section = h("section", { class: "card model", id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, h("span", { class: "name" }, model.name), h("small", { class: "metric" }), h("small", { class: "rate" })),
    h("div", { class: "sides" },
      h("figure", { class: "picture" }, svg, h("figcaption", {}, legend())),
      table("variants", `Variants of ${model.name}`, [
        ["variant", "Variant"], ["accuracy", "Accuracy"], ["p50", "p50, 1 row"], ["p99", "p99, 1 row"], ["traffic", "Answers"],
      ])),
    table("classes", `Service classes of ${model.name}`, [
      ["class", "Service class"], ["attainment", "In time"], ["history", "Last 5 minutes"], ["goodput", "In time / s"],
      ["served", "Served accuracy"], ["deficit", "Deficit"], ["waiting", "Waiting"],
    ]));
  new ResizeObserver(() => drawn(section)).observe(section.querySelector(".picture"));
  return section;
}

function legend() {
  const key = (shape, text) => h("span", { class: "key" }, shape, text);
  const small = (...children) => s("svg", { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, ...children);
  return h("span", { class: "legend" },
    key(small(s("g", { class: "dot busy" }, s("circle", { class: "mark", cx: 8, cy: 8, r: 6 }))), "answers now, the larger the more"),
    key(small(s("g", { class: "dot idle" }, s("circle", { class: "mark", cx: 8, cy: 8, r: 4 }))), "no answers"),
    h("span", { class: "key on-cascade" }, small(s("g", { class: "dot busy" }, s("rect", { class: "mark", x: 4, y: 4, width: 8, height: 8, transform: "rotate(45 8 8)" }))), "cascade"),
    h("span", { class: "key on-live" }, small(s("path", { class: "interval", d: "M8 2V14M4 2h8M4 14h8" })), "live, 95 % interval"));
}

function table(name, label, columns) {
  return h("div", { class: `table ${name}` },
    h("table", { role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        ...columns.map(([key, title]) => h("th", { scope: "col", role: "columnheader", class: key }, title)))),
      h("tbody", { role: "rowgroup" })));
}

function cell(key, label, ...children) {
  return h("td", { role: "cell", class: key, "data-label": label }, ...children);
}

export function update(section, model, window) {
  section.model = model;
  const answers = model.variants.reduce((sum, variant) => sum + variant.rate, 0);
  say(section.querySelector(".metric"), model.metric ?? "");
  say(section.querySelector(".rate"), `${rate(answers)} answers/s`);
  section.querySelector(".on-cascade").hidden = !model.variants.some((variant) => variant.cascade);
  section.querySelector(".on-live").hidden = !model.variants.some((variant) => variant.live !== null);
  drawn(section);
  const rows = model.variants.flatMap((variant) => [{ variant, card: false }, { variant, card: true }]);
  sync(section.querySelector(".variants tbody"), rows, (row) => `${row.variant.name}${row.card ? " card" : ""}`,
    (row) => (row.card ? cardRow(model, row.variant) : variantRow(model, row.variant)),
    (element, row) => (row.card ? updateCard(element, row.variant) : updateVariant(element, row.variant)));
  sync(section.querySelector(".classes tbody"), model.classes, (each) => each.name, classRow,
    (row, each) => updateClass(row, each, window));
}

function drawn(section) {
  const width = Math.floor(section.querySelector(".picture").clientWidth);
  if (section.model && width > 0) {
    draw(section.querySelector(".chart"), section.model, width);
  }
}

// --- variants

function cardId(model, variant) {
  return `card-${model.name}-${variant.name}`;
}

function variantRow(model, variant) {
  const button = h("button", { type: "button", class: "open", "aria-expanded": "false", "aria-controls": cardId(model, variant) },
    h("span", { class: "sign", "aria-hidden": "true" }), h("span", { class: "name" }, variant.name), h("span", { class: "flag" }));
  const row = h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader", class: "variant" }, button),
    cell("accuracy", "Accuracy", h("span"), h("small")),
    cell("p50", "p50, 1 row"), cell("p99", "p99, 1 row"),
    cell("traffic", "Answers", s("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "whole", width: 100, height: 6 }), s("rect", { class: "part", width: 0, height: 6 })), h("span")));
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    document.getElementById(cardId(model, variant)).hidden = !open;
  });
  return row;
}

function updateVariant(row, variant) {
  say(row.querySelector(".flag"), [variant.cascade ? "cascade" : "", word(variant)].filter(Boolean).join(", "));
  say(row.querySelector(".accuracy span"), accuracy(variant.accuracy));
  say(row.querySelector(".accuracy small"), variant.live === null ? (variant.source === "declared" ? "declared" : "") : `live ${accuracy(variant.live)}`);
  say(row.querySelector(".p50"), time(variant.p50_ms));
  say(row.querySelector(".p99"), time(variant.p99_ms));
  say(row.querySelector(".traffic span"), percent(variant.share));
  row.querySelector(".part").setAttribute("width", variant.share * 100);
}

function cardRow(model, variant) {
  return h("tr", { role: "row", class: "card-row", id: cardId(model, variant), hidden: true },
    h("td", { role: "cell", colspan: 5 }, h("dl")));
}

function updateCard(row, variant) {
  if (!row.hidden || !row.querySelector("dd")) {
    sync(row.querySelector("dl"), facts(variant), ([name]) => name,
      ([name]) => h("div", {}, h("dt", {}, name), h("dd")),
      (element, [, text]) => say(element.querySelector("dd"), text));
  }
}

function facts(variant) {
  const { card, cascade } = variant;
  const found = [];
  if (variant.version) {
    found.push(["Version", `${variant.version}, runs on ${variant.executor}`]);
  }
  found.push(["Answered", `${count(variant.answered)} since the start, ${rate(variant.rate)}/s now`]);
  if (variant.live !== null) {
    found.push(["Live accuracy", `${accuracy(variant.live)}, 95 % interval ${accuracy(variant.live_low)} to ${accuracy(variant.live_high)}, ${count(variant.labels)} labels`]);
  }
  if (variant.shadowed) {
    const corrected = variant.corrected === null ? "" : `; with labels an accuracy of ${accuracy(variant.corrected)} (${accuracy(variant.corrected_low)} to ${accuracy(variant.corrected_high)})`;
    found.push(["Shadow runs", `agrees with the most accurate in ${percent(variant.agreed / variant.shadowed)} of ${count(variant.shadowed)} rows${corrected}`]);
  }
  if (cascade) {
    found.push(["Cascade", `${cascade.first} answers; below a confidence of ${cascade.threshold} ${cascade.then} answers as well: ${percent(cascade.escalated)} of the rows on held-out data`]);
  }
  if (!card) {
    found.push(["Accuracy", `${accuracy(variant.declared)}, ${variant.source}`]);
    return sized(found, variant);
  }
  found.push(["Measured", measured(card.accuracy)], ["How", card.accuracy.method]);
  if (card.further.length) {
    found.push(["Beside it", card.further.map(measured).join("; ")]);
  }
  found.push(["Data", card.data.name], ["Source", card.data.source], ["Licence", card.data.licence]);
  found.push(["Recipe", card.recipe.description], ["Made by", card.recipe.command]);
  found.push(["Tools", Object.entries(card.recipe.tools).map(([name, version]) => `${name} ${version}`).join(", ")]);
  return sized(found, variant);
}

function sized(found, variant) {
  const parts = [];
  if (variant.artifact_bytes) {
    parts.push(bytes(variant.artifact_bytes));
  }
  if (variant.card) {
    parts.push(`${count(variant.card.parameters)} parameters`, `SHA-256 ${variant.card.artifact_sha256.slice(0, 12)}…`);
  }
  return parts.length ? [...found, ["Artifact", parts.join(", ")]] : found;
}

function measured({ metric, value, low, high, n }) {
  return `${metric} ${accuracy(value)} (${accuracy(low)} to ${accuracy(high)}, n ${count(n)})`;
}

// --- service classes

function classRow() {
  return h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader", class: "class" }, h("span"), h("small")),
    cell("attainment", "In time"),
    cell("history", "Last 5 minutes", s("svg", { class: "spark", role: "img", preserveAspectRatio: "none" })),
    cell("goodput", "In time / s"), cell("served", "Served accuracy"), cell("deficit", "Deficit"), cell("waiting", "Waiting"));
}

function updateClass(row, each, window) {
  const terms = [
    each.budget_ms === null || each.budget_ms === undefined ? "no budget" : term(each.budget_ms),
    each.min_accuracy ? `at least ${each.min_accuracy}` : "any accuracy",
    each.late === "serve" ? "late is served" : "late is dropped",
  ];
  say(row.querySelector(".class span"), each.name || "(no known class)");
  say(row.querySelector(".class small"), each.name ? terms.join(", ") : "");
  say(row.querySelector(".attainment"), percent(each.attainment));
  row.querySelector(".attainment").classList.toggle("low", each.attainment !== null && each.attainment < 0.99);
  row.querySelector(".attainment").title = ended(each.ended, `in the last ${Math.round(window)} s`);
  say(row.querySelector(".goodput"), each.requests ? rate(each.goodput) : NONE);
  say(row.querySelector(".served"), accuracy(each.served_accuracy));
  say(row.querySelector(".deficit"), accuracy(each.deficit));
  say(row.querySelector(".waiting"), count(each.waiting));
  const svg = row.querySelector(".spark");
  spark(svg, each.steps, STEPS);
  svg.setAttribute("aria-label", `share in time over the last minutes, now ${percent(each.attainment)}`);
  row.title = ended(each.total, "since the start");
}

function ended(outcomes, when) {
  const told = Object.entries(outcomes).map(([outcome, number]) => `${count(number)} ${outcome}`);
  return `${told.length ? told.join(", ") : "no requests"} ${when}`;
}
