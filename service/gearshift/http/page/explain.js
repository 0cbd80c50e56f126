// "Explain": what would be chosen for a request, asked of the server's own Explain.
import { accuracy, h, term, time } from "./dom.js";

const VERDICTS = {
  CHOSEN: "chosen",
  NOT_PINNED: "not pinned",
  BELOW_FLOOR: "below the floor",
  TOO_MANY_ROWS: "too many rows",
  TOO_SLOW: "too slow",
  BUSY: "busy",
  TOO_DEAR: "too dear now",
  BETTER_CHOSEN: "a better one is in time",
  CANARY: "canary",
  WITHDRAWN: "withdrawn",
  BROKEN: "keeps failing",
  NOT_RESIDENT: "not loaded now",
};

const REASONS = {
  most_accurate: "the most accurate there is",
  budget: "the most accurate within the budget",
  load: "the most accurate that the present load allows",
  pinned: "pinned",
  fallback: "another variant failed, or the first answer of a cascade",
};

let models = [];

export function begin(form, answer) {
  form.elements.model.addEventListener("change", () => classes(form));
  form.elements.service_class.addEventListener("change", () => hints(form));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form, answer);
  });
}

// The choices, once they are known and whenever they change.
export function update(form, told) {
  const before = models.map((model) => model.name).join();
  models = told;
  if (before !== models.map((model) => model.name).join()) {
    options(form.elements.model, models.map((model) => [model.name, model.name]));
    classes(form);
  } else if (!form.elements.service_class.options.length) {
    classes(form);
  }
}

function options(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...choices.map(([value, text]) => h("option", { value }, text)));
  if (choices.some(([value]) => value === chosen)) {
    select.value = chosen;
  }
}

function classes(form) {
  const model = models.find((each) => each.name === form.elements.model.value);
  if (model) {
    const known = model.classes.filter((each) => each.name);
    options(form.elements.service_class, known.map((each) => [each.name, each.name]));
    if (known.some((each) => each.name === model.default_class)) {
      form.elements.service_class.value = model.default_class;
    }
    hints(form);
  }
}

// What applies where nothing is typed.
function hints(form) {
  const model = models.find((each) => each.name === form.elements.model.value);
  const chosen = model?.classes.find((each) => each.name === form.elements.service_class.value);
  form.elements.budget_ms.placeholder = chosen?.budget_ms ? `${chosen.budget_ms} by class` : "no limit";
  form.elements.min_accuracy.placeholder = chosen?.min_accuracy ? `${chosen.min_accuracy} by class` : "any";
}

async function ask(form, answer) {
  const query = new URLSearchParams();
  for (const name of ["model", "service_class", "budget_ms", "min_accuracy"]) {
    const value = form.elements[name].value.trim().replace(",", ".");
    if (value) {
      query.set(name, value);
    }
  }
  form.querySelector("button").disabled = true;
  try {
    const response = await fetch(`/explain?${query}`, { signal: AbortSignal.timeout(5000) });
    const told = await response.json();
    answer.replaceChildren(...(response.ok ? explained(told) : failed(told)));
  } catch {
    answer.replaceChildren(...failed({ status: "UNAVAILABLE", error: "The server does not answer." }));
  } finally {
    form.querySelector("button").disabled = false;
  }
}

function failed({ status, error }) {
  return [h("p", { class: "verdict refused" }, h("code", {}, status), ` ${error}`)];
}

function explained(told) {
  const terms = `${told.model}, class ${told.service_class}, ${told.budget_ms === undefined ? "no budget" : `budget ${term(told.budget_ms)}`}, ${told.floor > 0 ? `floor ${accuracy(told.floor)}` : "any accuracy"}`;
  const verdict = told.chosen
    ? h("p", { class: "verdict" }, h("strong", {}, told.chosen), ` would answer: ${REASONS[told.reason] ?? told.reason}.`)
    : h("p", { class: "verdict refused" }, "It would be refused: ", h("code", {}, told.refused_status), ` ${told.refused_message}`);
  const heads = ["Candidate", "Accuracy", "Wait", "p50", "p99", "Verdict"];
  return [
    verdict,
    h("p", { class: "hint" }, terms),
    h("div", { class: "table candidates" }, h("table", { role: "table", "aria-label": "Candidates, most accurate first" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads.map((head) => h("th", { scope: "col", role: "columnheader", class: head === "Verdict" ? "why" : null }, head)))),
      h("tbody", { role: "rowgroup" }, ...(told.candidates ?? []).map(candidate)))),
  ];
}

function candidate(each) {
  const verdict = String(each.verdict).replace("VERDICT_", "");
  const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, ...children);
  return h("tr", { role: "row", class: verdict === "CHOSEN" ? "chosen" : null },
    h("th", { scope: "row", role: "rowheader" }, each.name),
    cell("Accuracy", accuracy(each.accuracy)), cell("Wait", time(each.wait_ms)),
    cell("p50", time(each.p50_ms)), cell("p99", time(each.p99_ms)),
    h("td", { role: "cell", class: "why", "data-label": "Verdict" }, h("strong", {}, VERDICTS[verdict] ?? verdict), h("span", {}, ` ${each.why}`)));
}

