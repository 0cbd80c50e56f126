// The frontier of one model: accuracy against the median latency of one row, on a log axis.
import { accuracy, percent, s, time } from "./dom.js";

const HEIGHT = 270;
const MARGIN = { left: 52, right: 16, top: 26, bottom: 40 };
const LEAST = 4.5;
const MOST = 17;
const LETTER = 6.4;
const LINE = 13;

// Draw `model` into `svg`, `width` pixels wide.
export function draw(svg, model, width) {
  const points = model.variants.filter((variant) => variant.p50_ms > 0);
  const scale = scales(points, width);
  if (!svg.querySelector(".dots")) {
    svg.append(...["axes", "frontier", "whiskers", "dots", "names"].map((name) => s("g", { class: name })));
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  svg.setAttribute("aria-label", summary(model, points));
  svg.querySelector(".axes").replaceChildren(...axes(model, scale, width));
  svg.querySelector(".frontier").replaceChildren(...envelope(points, scale));
  svg.querySelector(".whiskers").replaceChildren(...points.flatMap((point) => whisker(point, scale)));
  dots(svg.querySelector(".dots"), points, scale);
  svg.querySelector(".names").replaceChildren(...names(points, scale, width));
}

function summary(model, points) {
  const told = points.map((p) => `${p.name}: accuracy ${accuracy(p.accuracy)}, median ${time(p.p50_ms)}`);
  return `${model.name}: accuracy against latency. ${told.join("; ")}. The table has the same figures.`;
}

// --- axes

function scales(points, width) {
  const latencies = points.map((point) => point.p50_ms);
  const values = points.flatMap((p) => [p.accuracy, p.declared, p.live, p.live_low, p.live_high]).filter((v) => v !== null && v !== undefined);
  const [left, right] = points.length ? [Math.min(...latencies) / 1.6, Math.max(...latencies) * 1.6] : [0.1, 10];
  const low = values.length ? Math.min(...values) : 0;
  const high = values.length ? Math.max(...values) : 1;
  const room = Math.max((high - low) * 0.14, 0.0005);
  const [bottom, top] = [low - room, high + room];
  const [x0, x1] = [MARGIN.left, width - MARGIN.right];
  const [y0, y1] = [HEIGHT - MARGIN.bottom, MARGIN.top];
  return {
    left, right, bottom, top,
    x: (ms) => x0 + ((Math.log(ms) - Math.log(left)) / (Math.log(right) - Math.log(left))) * (x1 - x0),
    y: (value) => y0 - ((value - bottom) / (top - bottom)) * (y0 - y1),
  };
}

// Steps of 1, 2 or 5 times a power of ten.
function steps(low, high, about) {
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * power).find((each) => each >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) {
    found.push(at * step);
  }
  return { found, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    found.push(...[1, 2, 5].map((times) => times * 10 ** power));
  }
  return found.filter((ms) => ms >= low && ms <= high);
}

function axes(model, scale, width) {
  const [x0, x1] = [MARGIN.left, width - MARGIN.right];
  const [y0, y1] = [HEIGHT - MARGIN.bottom, MARGIN.top];
  const { found, places } = steps(scale.bottom, scale.top, 5);
  const made = found.flatMap((value) => [
    s("line", { class: "grid", x1: x0, x2: x1, y1: scale.y(value), y2: scale.y(value) }),
    s("text", { x: x0 - 8, y: scale.y(value) + 4, "text-anchor": "end" }, value.toFixed(places)),
  ]);
  let last = -Infinity;
  for (const ms of decades(scale.left, scale.right)) {
    const x = scale.x(ms);
    made.push(s("line", { class: "grid", x1: x, x2: x, y1: y0, y2: y1 }));
    if (x - last > 46) {
      last = x;
      made.push(s("text", { x, y: y0 + 16, "text-anchor": "middle" }, round(ms)));
    }
  }
  made.push(
    s("line", { class: "axis", x1: x0, x2: x1, y1: y0, y2: y0 }),
    s("text", { class: "title", x: x1, y: HEIGHT - 6, "text-anchor": "end" }, "median latency of one row (log scale)"),
    s("text", { class: "title", x: 4, y: 12 }, `↑ accuracy: ${model.metric ?? "not known yet"}`),
  );
  return made;
}

function round(ms) {
  const [value, unit] = ms < 1 ? [ms * 1000, "µs"] : ms < 1000 ? [ms, "ms"] : [ms / 1000, "s"];
  return `${Number(value.toPrecision(2))} ${unit}`;
}

// --- marks

// What no other variant beats in both, each with the latency where the next begins.
function corners(points) {
  let best = -Infinity;
  const found = [...points].sort((a, b) => a.p50_ms - b.p50_ms || b.accuracy - a.accuracy).filter((point) => {
    const better = point.accuracy > best && mark(point) !== "taken-out";
    best = better ? point.accuracy : best;
    return better;
  });
  return found.map((point, index) => [point, found[index + 1]?.p50_ms]);
}

// The steps that a growing budget climbs.
function envelope(points, scale) {
  const steps = corners(points).map(([point]) => [scale.x(point.p50_ms), scale.y(point.accuracy)]);
  const path = steps.map(([x, y], index) => (index ? `H${x}V${y}` : `M${x} ${y}`)).join("");
  return path ? [s("path", { class: "steps", d: `${path}H${scale.x(scale.right)}` })] : [];
}

// The 95 % interval of the live accuracy, and where the card stands if routing goes by another.
function whisker(point, scale) {
  const x = scale.x(point.p50_ms);
  const made = [];
  if (point.live_low !== null && point.live_high !== null) {
    const [low, high] = [scale.y(point.live_low), scale.y(point.live_high)];
    made.push(s("path", { class: "interval", d: `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8` }));
  }
  if (Math.abs(point.accuracy - point.declared) > 1e-6) {
    made.push(s("path", { class: "declared", d: `M${x - 7} ${scale.y(point.declared)}h14` }));
  }
  return made;
}

export function radius(point) {
  return LEAST + (MOST - LEAST) * Math.sqrt(point.share);
}

function dots(group, points, scale) {
  const known = new Map([...group.children].map((child) => [child.dataset.name, child]));
  for (const point of points) {
    let dot = known.get(point.name);
    known.delete(point.name);
    if (!dot) {
      dot = s("g", { "data-name": point.name }, s("title"), s(point.cascade ? "rect" : "circle", { class: "mark" }), s("path", { class: "out" }));
      group.append(dot);
    }
    const [x, y, r] = [scale.x(point.p50_ms), scale.y(point.accuracy), radius(point)];
    dot.setAttribute("class", ["dot", point.share > 0 ? "busy" : "idle", mark(point)].join(" "));
    dot.querySelector("title").textContent = `${point.name}: ${accuracy(point.accuracy)} in ${time(point.p50_ms)}, ${percent(point.share)} of the answers`;
    place(dot.querySelector(".mark"), point, x, y, r);
    const out = mark(point) === "taken-out" ? `M${x - r} ${y - r}L${x + r} ${y + r}M${x - r} ${y + r}L${x + r} ${y - r}` : "";
    dot.querySelector(".out").setAttribute("d", out);
  }
  known.forEach((dot) => dot.remove());
}

function place(shape, point, x, y, r) {
  const set = (values) => Object.entries(values).forEach(([name, value]) => shape.setAttribute(name, value));
  if (point.cascade) {
    const side = r * 1.6;
    set({ x: x - side / 2, y: y - side / 2, width: side, height: side, transform: `rotate(45 ${x} ${y})` });
  } else {
    set({ cx: x, cy: y, r });
  }
}

// How a variant is marked beside its colour: crossed out, or dashed.
export function mark(point) {
  if (point.fallen || point.standing === "withdrawn") {
    return "taken-out";
  }
  return point.standing === "canary" ? "canary" : "plain";
}

// --- names

export function word(point) {
  if (point.standing === "withdrawn") {
    return "withdrawn";
  }
  if (point.fallen) {
    return "fallen";
  }
  if (point.resident === false) {
    return "not loaded";
  }
  return point.standing === "canary" ? "canary" : "";
}

// Each name where it covers no dot and no other name, if there is such a place.
function names(points, scale, width) {
  const taken = points.map((point) => box(scale.x(point.p50_ms), scale.y(point.accuracy), radius(point) * 2, radius(point) * 2));
  taken.push(...corners(points).flatMap(([point, until], index, all) => {
    const [x, y] = [scale.x(point.p50_ms), scale.y(point.accuracy)];
    const [end, next] = [scale.x(until ?? scale.right), all[index + 1]];
    const up = next ? scale.y(next[0].accuracy) : y;
    return [box((x + end) / 2, y, end - x, 2), box(end, (y + up) / 2, 2, y - up)];
  }));
  return points.map((point) => {
    const text = word(point) ? `${point.name} (${word(point)})` : point.name;
    const [x, y, r] = [scale.x(point.p50_ms), scale.y(point.accuracy), radius(point) + 5];
    const long = text.length * LETTER;
    const places = [
      { x: x + r + long / 2, y }, { x: x - r - long / 2, y },
      { x, y: y - r - 6 }, { x, y: y + r + 7 },
      { x: x + r * 0.7 + long / 2, y: y + r + 4 }, { x: x + r * 0.7 + long / 2, y: y - r - 4 },
      { x: x - r * 0.7 - long / 2, y: y - r - 4 }, { x: x - r * 0.7 - long / 2, y: y + r + 4 },
      { x: x + r + long / 2, y: y + 2 * LINE }, { x: x - r - long / 2, y: y + 2 * LINE },
    ];
    const inside = places.filter((p) => p.x - long / 2 > MARGIN.left && p.x + long / 2 < width - 2 && p.y > MARGIN.top && p.y < HEIGHT - MARGIN.bottom - 4);
    const free = inside.find((p) => !taken.some((other) => meet(other, box(p.x, p.y, long, LINE))));
    const at = free ?? inside[0] ?? places[0];
    taken.push(box(at.x, at.y, long, LINE));
    return s("text", { x: at.x, y: at.y + 4, "text-anchor": "middle" }, text);
  });
}

function box(x, y, width, height) {
  return { left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 };
}

function meet(a, b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

// --- the last minutes of one class

// Attainment from 0 to 1, the newest at the right; a gap where nobody asked.
export function spark(svg, steps, most) {
  const [width, height] = [120, 22];
  const x = (index) => width - 1 - ((steps.length - 1 - index) * (width - 2)) / Math.max(1, most - 1);
  const y = (share) => height - 2 - share * (height - 4);
  let line = "";
  steps.forEach(([share], index) => {
    const before = index > 0 ? steps[index - 1][0] : null;
    if (share !== null) {
      const here = `${x(index).toFixed(1)} ${y(share).toFixed(1)}`;
      // A single step is drawn as wide as one.
      line += before === null ? `M${(x(index) - 2).toFixed(1)} ${y(share).toFixed(1)}L${here}` : `L${here}`;
    }
  });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    s("path", { class: "full", d: `M0 ${y(1)}H${width}` }),
    s("path", { class: "none", d: `M0 ${y(0)}H${width}` }),
    s("path", { class: "line", d: line }),
  );
}
