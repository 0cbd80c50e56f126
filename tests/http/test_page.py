"""The page at / in a real browser: what it shows."""

from __future__ import annotations

import ast
import math

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from browser import Browser
from gearshift.errors import Outcome
from gearshift.http import HttpServer
from page_bench import CARD, PageBench
from page_window import explained, opened, refused, shows, text

ROWS = """
return Object.fromEntries([...document.querySelectorAll(arguments[0])]
  .filter((row) => !row.hidden && !row.classList.contains("card-row"))
  .map((row) => [row.dataset.key, Object.fromEntries([...row.children]
    .map((cell) => [cell.className.split(" ")[0], cell.innerText.trim()]))]));
"""


TABLES = "#model-garment .{} tbody tr"


def rows(window: Browser, table: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = window.run(ROWS, TABLES.format(table))
    return found


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
    page.learn("variant_resident", 0, variant="middle", device="gpu0")
    opened(window, page)
    shows(window, "#model-garment .variants", "live 0.8700")
    variants = rows(window, "variants")
    assert variants["middle"]["accuracy"].startswith("0.8800")
    assert variants["small"]["variant"].endswith("fallen")
    assert variants["large"]["variant"].endswith("canary")
    assert variants["middle"]["variant"].endswith("not loaded")
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
