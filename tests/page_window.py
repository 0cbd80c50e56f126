"""What a test sees of the page in a browser."""

from __future__ import annotations

from typing import Any

from browser import Browser
from gearshift.v1 import gearshift_pb2 as pb
from page_bench import PageBench


def opened(window: Browser, page: PageBench) -> None:
    window.open(page.url)
    window.until("return document.querySelector('#state').dataset.state === 'serving'")


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
