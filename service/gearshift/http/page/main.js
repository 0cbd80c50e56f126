// Asks for the board every two seconds while somebody looks, and hands it to the parts.
import { clock, count, percent, rate, say, sync } from "./dom.js";
import * as explain from "./explain.js";
import * as model from "./model.js";
import * as refusals from "./refusals.js";
import * as start from "./start.js";

const EVERY = 2000;
const PATIENCE = 8000;

const find = (id) => document.getElementById(id);

let seen = null;
let timer = 0;

async function look() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const response = await fetch("/frontier.json", { signal: AbortSignal.timeout(PATIENCE) });
      if (!response.ok) {
        throw new Error(`status ${response.status}`);
      }
      show(await response.json());
    } catch {
      lost();
    }
  }
  timer = setTimeout(look, EVERY);
}

function show(board) {
  seen = board.time;
  document.body.classList.remove("stale");
  find("banner").hidden = true;
  state(board.ready ? "serving" : "waiting", board.ready ? "serving" : "starting or shutting down");
  say(find("totals"), totals(board));
  start.update(find("start"), board);
  sync(find("models"), board.models, (each) => each.name, model.create, (section, each) => model.update(section, each, board.window));
  explain.update(find("explain-form"), board.models);
  refusals.update(find("refusals-list"), board.refusals);
}

function totals(board) {
  const classes = board.models.flatMap((each) => each.classes);
  const sum = (of) => classes.reduce((total, each) => total + of(each), 0);
  const requests = sum((each) => each.requests);
  const waiting = `${count(sum((each) => each.waiting))} waiting`;
  const window = `last ${Math.round(board.window)} s`;
  if (!requests) {
    return `no requests in the ${window} · ${waiting}`;
  }
  const inTime = sum((each) => each.ended.served ?? 0);
  return `${rate(requests / board.window)} requests/s · ${percent(inTime / requests)} in time · ${waiting} · ${window}`;
}

function state(name, word) {
  find("state").dataset.state = name;
  say(find("state").querySelector(".word"), word);
}

function lost() {
  document.body.classList.add("stale");
  state("lost", "no answer");
  const since = seen === null ? "" : ` since ${clock(seen)}; the figures below are from then`;
  find("banner").hidden = false;
  say(find("banner"), `The server does not answer${since}. Trying again every ${EVERY / 1000} s. Is gearshift serve still running, and is this address right?`);
}

explain.begin(find("explain-form"), find("explain-answer"));
document.addEventListener("visibilitychange", look);
look();
