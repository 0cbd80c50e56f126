// The latest requests that got no answer, with what their callers were told.
import { clock, count, h, say } from "./dom.js";

const SHOWN = 8;

let told = "";
let all = false;

export function update(place, refusals) {
  const now = JSON.stringify([refusals, all]);
  if (now === told) {
    return;
  }
  told = now;
  if (!refusals.length) {
    place.replaceChildren(h("p", { class: "hint" }, "None: nothing was refused, dropped or failed since the start."));
    return;
  }
  const shown = all ? refusals : refusals.slice(0, SHOWN);
  const list = h("ol", { class: "refusals" }, ...shown.map(line));
  place.replaceChildren(list, ...more(place, refusals));
}

function line(refusal) {
  const who = [refusal.model || "(no known model)", refusal.service_class, refusal.variant].filter(Boolean).join(" / ");
  return h("li", {},
    h("time", { datetime: new Date(refusal.time * 1000).toISOString() }, clock(refusal.time)),
    h("span", { class: "who" }, who),
    h("code", { class: "status" }, refusal.status),
    h("span", { class: "times" }, refusal.count > 1 ? `${count(refusal.count)} times` : ""),
    h("p", {}, refusal.message || `(${refusal.outcome})`));
}

function more(place, refusals) {
  if (refusals.length <= SHOWN) {
    return [];
  }
  const button = h("button", { type: "button", class: "more" });
  say(button, all ? "Show fewer" : `Show all ${refusals.length}`);
  button.addEventListener("click", () => {
    all = !all;
    update(place, refusals);
    place.querySelector(".more").focus();
  });
  return [button];
}
