// Elements and figures. Text only ever becomes text: what a caller sent is never read as HTML.

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Set a text only where it differs, so that a selection in it lives on.
export function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

// One child of `parent` for each item, in their order. Those that are there already are updated:
// focus, and what somebody has opened, stay as they are.
export function sync(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    if (child === at) {
      at = at.nextElementSibling;
    } else {
      parent.insertBefore(child, at);
    }
    update(child, item);
  }
  known.forEach((child) => child.remove());
}

export const NONE = "–";

// Three digits that count.
function digits(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

export function time(ms) {
  if (ms === null || ms === undefined) {
    return NONE;
  }
  if (ms === 0) {
    return "0";
  }
  if (ms < 1) {
    return `${digits(ms * 1000)} µs`;
  }
  return ms < 1000 ? `${digits(ms)} ms` : `${digits(ms / 1000)} s`;
}

// A time that somebody set: 10 ms, not 10.0 ms.
export function term(ms) {
  return ms < 1000 ? `${Number(ms.toPrecision(4))} ms` : `${Number((ms / 1000).toPrecision(4))} s`;
}

export function accuracy(value) {
  return value === null || value === undefined ? NONE : value.toFixed(4);
}

// 100 % only where it is all of them, 0 % only where it is none.
export function percent(share) {
  if (share === null || share === undefined) {
    return NONE;
  }
  const shown = (share * 100).toFixed(1);
  if (shown === "100.0") {
    return share < 1 ? "> 99.9 %" : "100 %";
  }
  if (shown === "0.0") {
    return share > 0 ? "< 0.1 %" : "0 %";
  }
  return `${shown} %`;
}

export function rate(value) {
  if (!value) {
    return "0";
  }
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(2);
}

export function count(value) {
  return value.toLocaleString("en");
}

export function bytes(size) {
  return size >= 1e6 ? `${(size / 1e6).toFixed(1)} MB` : `${(size / 1e3).toFixed(1)} kB`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}
