"""The page at / in a real browser: from the keyboard, read aloud, on a phone, in both schemes."""

from __future__ import annotations

import grpc
import pytest

from browser import Browser
from gearshift.errors import Outcome
from gearshift.v1 import gearshift_pb2 as pb
from page_bench import PageBench
from page_window import explained, opened, refused, shows, text


def test_all_of_it_can_be_used_from_the_keyboard(window: Browser, page: PageBench) -> None:
    page.answer("large")
    page.fake.answer = pb.ExplainResponse(model="garment", chosen="middle", reason="budget")
    opened(window, page)
    window.press("Tab")
    assert text(window, ":focus") == "Skip to the models"
    window.press("Enter")
    window.until("return document.activeElement.id === 'models'")
    window.press("Tab", "Enter")
    assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    # What is focused is marked, and stays focused while figures come in.
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert window.run(outline) == "solid"
    page.answer("small", 9)
    shows(window, "#model-garment .variants", "90.0 %")
    assert window.run("return document.activeElement.className") == "open"
    window.press("Space")
    assert window.run("return document.activeElement.getAttribute('aria-expanded')") == "false"

    window.run("document.querySelector('#explain-class').focus()")
    window.press("Tab")
    assert window.run("return document.activeElement.name") == "budget_ms"
    window.press("5", ",", "5", "Tab", "0", ".", "9", "Enter")
    shows(window, "#explain-answer", "middle would answer")
    (asked,) = page.fake.asked
    assert (asked.latency_budget_ms, asked.min_accuracy) == (5.5, 0.9)


def test_everything_has_a_name(window: Browser, page: PageBench) -> None:
    page.answer("large")
    opened(window, page)
    found = window.run(
        """
        const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
        return {
          twice: ids.filter((id, index) => ids.indexOf(id) !== index),
          unlabelled: [...document.querySelectorAll("input, select")]
            .filter((field) => !field.labels.length).map((field) => field.id),
          tables: [...document.querySelectorAll("table")]
            .filter((table) => !table.getAttribute("aria-label")).length,
          heads: [...document.querySelectorAll("th")]
            .filter((head) => !head.getAttribute("scope")).length,
          pictures: [...document.querySelectorAll("svg[role=img]")]
            .filter((svg) => !svg.getAttribute("aria-label")).length,
          dangling: [...document.querySelectorAll("[aria-labelledby], [aria-controls]")]
            .flatMap((each) => [each.getAttribute("aria-labelledby"),
                                each.getAttribute("aria-controls")])
            .filter((id) => id && !document.getElementById(id)),
          empty: [...document.querySelectorAll("button, a")]
            .filter((each) => !each.textContent.trim()).length,
          live: [...document.querySelectorAll("[aria-live]")]
            .map((each) => each.getAttribute("aria-live")),
          language: document.documentElement.lang,
        };
        """
    )
    assert found == {
        "twice": [],
        "unlabelled": [],
        "tables": 0,
        "heads": 0,
        "pictures": 0,
        "dangling": [],
        "empty": 0,
        "live": ["polite"],
        "language": "en",
    }


def test_a_phone_shows_it_without_scrolling_sideways(window: Browser, page: PageBench) -> None:
    window.size(360, 740)
    opened(window, page)
    overflow = """
        return [...document.querySelectorAll("body *")].filter((each) => {
          const box = each.getBoundingClientRect();
          return box.right > innerWidth + 0.5 && !each.closest("pre, .candidates, .skip, thead")
            && !each.closest("svg")?.closest(".picture");
        }).map((each) => each.outerHTML.slice(0, 120));
    """
    wide = "return document.documentElement.scrollWidth"
    assert (window.run(overflow), window.run(wide)) == ([], 360)

    page.answer("large", 12_345)
    page.refuse("w" * 380)
    page.refuse("no", status="FAILED_PRECONDITION", outcome=Outcome.INFEASIBLE, variant="middle")
    page.fake.answer = explained()
    shows(window, "#refusals", "FAILED_PRECONDITION")
    window.run("document.querySelectorAll('.open').forEach((each) => each.click())")
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "would answer")
    assert (window.run(overflow), window.run(wide)) == ([], 360)


CONTRAST = """
const parse = (color) => color.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (each) => {
  for (; each; each = each.parentElement) {
    const color = parse(getComputedStyle(each).backgroundColor);
    if (color.length < 4 || color[3] === 1) return color;
  }
};
const worst = [];
for (const each of document.querySelectorAll("body *")) {
  const own = [...each.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  const svg = each.namespaceURI.endsWith("svg");
  if (!own || !each.getClientRects().length || each.closest(".chosen")) continue;
  const style = getComputedStyle(each);
  const [a, b] = [light(parse(svg ? style.fill : style.color)), light(behind(each))];
  worst.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.outerHTML.slice(0, 90)]);
}
return worst.filter(([contrast]) => contrast < 4.5);
"""


@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_it_is_readable_in_both_schemes(
    window: Browser, page: PageBench, scheme: str, bright: bool
) -> None:
    """Contrast of at least 4.5 everywhere, as WCAG 2 (AA) asks."""
    window.prefer(prefers_color_scheme=scheme)
    page.answer("large", 5)
    page.answer("large", 5, late=True)
    page.refuse("too much")
    page.fake.error = grpc.StatusCode.NOT_FOUND, "no such model"
    opened(window, page)
    shows(window, "#refusals", "too much")
    window.run("document.querySelector('.open').click()")
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "no such model")
    back = window.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0]")
    assert (int(back) > 128) == bright
    assert window.run(CONTRAST) == []
    refused(window, "404")


def test_nothing_moves_for_who_wants_that(window: Browser, page: PageBench) -> None:
    page.answer("large")
    duration = "return getComputedStyle(document.querySelector('.dot .mark')).transitionDuration"
    opened(window, page)
    window.until("return document.querySelector('.dot .mark')")
    assert "0.5s" in window.run(duration)
    window.prefer(prefers_reduced_motion="reduce")
    assert set(window.run(duration).split(", ")) == {"0s"}
