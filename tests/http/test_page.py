"""The page at / in a real browser."""

from __future__ import annotations

import ast
import math
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from browser import Browser
from gearshift.errors import Outcome
from gearshift.http import HttpServer
from gearshift.v1 import gearshift_pb2 as pb
from page_bench import CARD, PageBench

ROWS = """
return Object.fromEntries([...document.querySelectorAll(arguments[0])]
  .filter((row) => !row.hidden && !row.classList.contains("card-row"))
  .map((row) => [row.dataset.key, Object.fromEntries([...row.children]
    .map((cell) => [cell.className.split(" ")[0], cell.innerText.trim()]))]));
"""

TABLES = "#model-garment .{} tbody tr"


def opened(window: Browser, page: PageBench) -> None:
    window.open(page.url)
    window.until("return document.querySelector('#state').dataset.state === 'serving'")


def rows(window: Browser, table: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = window.run(ROWS, TABLES.format(table))
    return found


def text(window: Browser, selector: str) -> str:
    found: str = window.run("return document.querySelector(arguments[0]).innerText", selector)
    return found


def shows(window: Browser, selector: str, part: str, *, by_itself: bool = False) -> None:
    """Wait until the text is there. The page looks every two seconds, and at once when somebody
    comes back to it, which is what the test does unless it is to look `by_itself`."""
    back = "" if by_itself else "document.dispatchEvent(new Event('visibilitychange'));"
    window.until(
        f"{back} return document.querySelector(arguments[0])?.innerText.includes(arguments[1])",
        selector,
        part,
        every=0.25,
    )


def refused(window: Browser, status: str) -> None:
    """The browser writes one line for an answer that is not 200, and nothing else."""
    (line,) = window.complaints()
    assert status in line


def metrics(page: PageBench, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
    body = page.telemetry.exposition()[0].decode()
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_every_figure_is_that_of_metrics(window: Browser, page: PageBench) -> None:
    page.answer("large", 30)
    page.answer("small", 60)
    page.answer("small", 10, late=True)
    page.answer("middle", 5, service_class="archive")
    page.refuse("too much", 20)
    page.telemetry.admitted("garment", "realtime")
    opened(window, page)
    shows(window, "#model-garment .classes", "75.0 %")

    garment = {"model": "garment"}
    ended: dict[str, float] = {}
    by_variant: dict[str, float] = {}
    for labels, value in metrics(page, "gearshift_requests_total", **garment):
        if labels["service_class"] == "realtime":
            ended[labels["outcome"]] = ended.get(labels["outcome"], 0) + value
        if labels["outcome"] in ("served", "late"):
            by_variant[labels["variant"]] = by_variant.get(labels["variant"], 0) + value
    realtime = {**garment, "service_class": "realtime"}
    sums = {
        name: metrics(page, f"gearshift_{name}", **realtime)[0][1]
        for name in (
            "served_accuracy_sum",
            "served_accuracy_count",
            "accuracy_deficit_sum",
            "queue_depth",
        )
    }
    shown = rows(window, "classes")["realtime"]
    assert shown["attainment"] == f"{100 * ended['served'] / sum(ended.values()):.1f} %"
    answered = sums["served_accuracy_count"]
    assert shown["served"] == f"{sums['served_accuracy_sum'] / answered:.4f}"
    assert shown["deficit"] == f"{sums['accuracy_deficit_sum'] / answered:.4f}"
    assert shown["waiting"] == f"{sums['queue_depth']:.0f}" == "1"

    variants = rows(window, "variants")
    for labels, value in metrics(page, "gearshift_variant_accuracy", **garment):
        assert variants[labels["variant"]]["accuracy"].startswith(f"{value:.4f}")
    for name, count in by_variant.items():
        share = 100 * count / sum(by_variant.values())
        assert variants[name]["traffic"] == f"{share:.1f} %"
    for labels, value in metrics(page, "gearshift_variant_latency_seconds", **garment):
        column = "p50" if labels["quantile"] == "0.5" else "p99"
        shown_ms = variants[labels["variant"]][column].split()
        unit = {"µs": 1e-6, "ms": 1e-3}[shown_ms[1]]
        assert float(shown_ms[0]) * unit == pytest.approx(value, rel=5e-3)
    # A cascade is a point of its own.
    assert variants["both"]["variant"].endswith("cascade")
    assert variants["both"]["p50"] == "5.10 ms"


def test_it_moves_without_being_loaded_again(window: Browser, page: PageBench) -> None:
    page.answer("large", 10)
    opened(window, page)
    shows(window, "#model-garment .variants", "100 %")
    radius = "return +document.querySelector('#model-garment [data-name=small] .mark')"
    before = window.run(f"{radius}.getAttribute('r')")
    page.answer("small", 90)
    shows(window, "#model-garment .variants", "90.0 %", by_itself=True)
    assert window.run(f"{radius}.getAttribute('r')") > before
    assert window.run("return performance.getEntriesByType('navigation').length") == 1


def test_a_card_tells_what_is_known_of_its_variant_and_stays_open(
    window: Browser, page: PageBench
) -> None:
    opened(window, page)
    card = "#card-garment-large"
    assert window.run("return document.querySelector(arguments[0]).hidden", card)
    window.run("document.querySelector('#model-garment .open').click()")
    shows(window, card, "0.9500 (0.9450 to 0.9550, n 10,000)")
    for part in ("98,765 parameters", CARD.recipe.description, "clothes", "MIT", "top1"):
        assert part in text(window, card)
    page.answer("large", 3)
    shows(window, card, "3 since the start")
    assert not window.run("return document.querySelector(arguments[0]).hidden", card)


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


def test_before_the_first_request_it_says_what_to_do(window: Browser, page: PageBench) -> None:
    opened(window, page)
    shows(window, "#start", "No requests yet")
    assert "no requests" in text(window, "#totals")
    code = text(window, "#start pre")
    ast.parse(code)
    for part in (f"127.0.0.1:{page.fake.port}", '"fraud"', '"x", [1, 3], "FP32"', "np.float32"):
        assert part in code
    window.run("document.querySelector('.copy').click()")
    window.until("return !document.querySelector('.copy').innerText.startsWith('Copy ')")
    # The frontier is there already: it was measured at the start.
    idle = "return document.querySelectorAll('#model-garment .chart .dot.idle').length"
    assert window.run(idle) == 4
    page.answer("large")
    window.until("return document.querySelector('#start').hidden")


def test_a_server_that_does_not_answer_is_said_and_waited_for(
    window: Browser, page: PageBench
) -> None:
    page.answer("large", 7)
    opened(window, page)
    shows(window, "#model-garment .variants", "100 %")
    page.server.stop()
    shows(window, "#banner", "The server does not answer since")
    assert "the figures below are from then" in text(window, "#banner")
    assert window.run("return document.querySelector('#state').dataset.state") == "lost"
    again: HttpServer = page.serve(page.server.port)
    try:
        window.until("return document.querySelector('#banner').hidden")
        assert text(window, "#state") == "serving"
    finally:
        again.stop()


def explained(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "model": "garment",
        "service_class": "realtime",
        "budget_ms": 10.0,
        "floor": 0.85,
        "chosen": "middle",
        "reason": "budget",
        "candidates": [
            pb.Candidate(
                name="large",
                version=1,
                accuracy=0.95,
                p50_ms=20.0,
                p99_ms=40.0,
                verdict=pb.Candidate.VERDICT_TOO_SLOW,
                why="its p99 of 40 ms is above the budget",
            ),
            pb.Candidate(
                name="middle",
                version=2,
                accuracy=0.9,
                wait_ms=1.5,
                p50_ms=2.0,
                p99_ms=4.0,
                verdict=pb.Candidate.VERDICT_CHOSEN,
                why="the most accurate in time",
            ),
        ],
    }
    return pb.ExplainResponse(**(fields | changes))


def test_explain_tells_what_would_be_chosen_and_why(window: Browser, page: PageBench) -> None:
    page.fake.answer = explained()
    opened(window, page)
    window.run(
        """
        const model = document.querySelector("#explain-model");
        model.value = "garment";
        model.dispatchEvent(new Event("change"));
        """
    )
    assert text(window, "#explain-class") == "realtime\narchive"
    placeholder = "return document.querySelector('#explain-budget').placeholder"
    assert window.run(placeholder) == "10 by class"
    window.run("document.querySelector('#explain-budget').value = '12'")
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "middle would answer")
    (asked,) = page.fake.asked
    assert (asked.model, asked.service_class) == ("garment", "realtime")
    assert asked.latency_budget_ms == 12.0
    told = text(window, "#explain-answer")
    for part in ("budget 10 ms", "floor 0.8500", "too slow", "its p99 of 40 ms", "1.50 ms"):
        assert part in told

    page.fake.answer = explained(
        chosen="", refused_status="FAILED_PRECONDITION", refused_message="nothing is fast enough"
    )
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "It would be refused: FAILED_PRECONDITION nothing is fast")

    page.fake.answer = explained(floor=-math.inf, chosen="large", reason="most_accurate")
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "any accuracy")

    page.fake.error = grpc.StatusCode.INVALID_ARGUMENT, "the budget is not positive"
    window.run("document.querySelector('#explain-form button').click()")
    shows(window, "#explain-answer", "INVALID_ARGUMENT the budget is not positive")
    refused(window, "400")


def test_refusals_are_shown_as_text_whatever_is_in_them(window: Browser, page: PageBench) -> None:
    evil = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    page.refuse(evil, service_class="", model="", outcome=Outcome.INVALID, status="NOT_FOUND")
    page.refuse("no room", 1_500)
    for index in range(20):
        page.refuse(f"late {index}", outcome=Outcome.EXPIRED, variant="", status=f"S{index}")
    opened(window, page)
    shows(window, "#refusals-list", "late 19")
    listed = text(window, "#refusals-list")
    assert listed.index("late 19") < listed.index("late 18")
    assert "no room" not in listed
    window.run("document.querySelector('.more').click()")
    listed = text(window, "#refusals-list")
    for part in (evil, "(no known model)", "garment / realtime", "1,500 times"):
        assert part in listed
    assert window.run("return document.title") == "gearshift"
    assert window.run("return document.querySelectorAll('#refusals-list img').length") == 0


def test_what_feedback_says_is_marked(window: Browser, page: PageBench) -> None:
    page.learn("variant_accuracy", 0.87, variant="middle", source="live")
    page.learn("variant_accuracy_interval", 0.85, variant="middle", bound="low")
    page.learn("variant_accuracy_interval", 0.89, variant="middle", bound="high")
    page.learn("variant_accuracy_used", 0.88, variant="middle")
    page.learn("feedback_labels", 412, variant="middle")
    page.learn("variant_fallen", 1, variant="small")
    page.learn("variant_standing", 1, variant="large", standing="canary")
    opened(window, page)
    shows(window, "#model-garment .variants", "live 0.8700")
    variants = rows(window, "variants")
    assert variants["middle"]["accuracy"].startswith("0.8800")
    assert variants["small"]["variant"].endswith("fallen")
    assert variants["large"]["variant"].endswith("canary")
    dashes = "return getComputedStyle(document.querySelector('.dot.canary .mark')).strokeDasharray"
    assert window.run(dashes) != "none"
    chart = "#model-garment .chart"
    assert window.run(f"return document.querySelectorAll('{chart} .interval').length") == 1
    assert window.run(f"return document.querySelectorAll('{chart} .declared').length") == 1
    out = "document.querySelector('#model-garment [data-name=small] .out').getAttribute('d')"
    assert window.run(f"return {out}")
    assert "small (fallen)" in window.run(f"return document.querySelector('{chart}').textContent")
    window.run("[...document.querySelectorAll('#model-garment .open')][2].click()")
    shows(window, "#card-garment-middle", "0.8500 to 0.8900, 412 labels")
