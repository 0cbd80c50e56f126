"""Log lines of ours and of the libraries, in one form on one stream."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog

from gearshift.errors import ConfigurationInvalid
from gearshift.telemetry import LOG_LEVELS, configure_logs, show_logs


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_of_ours_and_of_libraries() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    structlog.get_logger("gearshift.engine").warning("drain ran out of time", unanswered=3)
    logging.getLogger("grpc._server").error("broken %s", "pipe")
    ours, theirs = lines(stream)
    assert ours["event"] == "drain ran out of time"
    assert (ours["unanswered"], ours["level"], ours["logger"]) == (3, "warning", "gearshift.engine")
    assert theirs["event"] == "broken pipe"
    assert str(theirs["timestamp"]).endswith("Z")


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    try:
        raise ValueError("the cause")
    except ValueError:
        structlog.get_logger("x").exception("failed", reference="r1")
    (line,) = lines(stream)
    assert "ValueError: the cause" in str(line["exception"])


def test_the_level_holds_for_all() -> None:
    stream = io.StringIO()
    configure_logs("warning", "json", stream)
    structlog.get_logger("x").info("quiet")
    logging.getLogger("grpc").info("quiet")
    logging.getLogger("uvicorn.error").info("Started server process")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("shown", ["debug", "info", "warning", "error"])
def test_kinds_of_lines_are_chosen_while_it_runs(shown: str) -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    show_logs(**{kind: kind == shown for kind in LOG_LEVELS})
    for kind in LOG_LEVELS:
        getattr(structlog.get_logger("x"), kind)("ours")
        getattr(logging.getLogger("grpc"), kind)("theirs")
    logging.getLogger("grpc").critical("as errors are")
    told = [(line["event"], line["level"]) for line in lines(stream)]
    more = [("as errors are", "critical")] if shown == "error" else []
    assert told == [("ours", shown), ("theirs", shown), *more]
    configure_logs("info", "json", stream)
    structlog.get_logger("x").info("as ever")
    assert lines(stream)[-1]["event"] == "as ever"


def test_no_kind_of_line_at_all() -> None:
    stream = io.StringIO()
    configure_logs("debug", "json", stream)
    show_logs(debug=False, info=False, warning=False, error=False)
    structlog.get_logger("x").critical("nothing")
    assert stream.getvalue() == ""


def test_the_console_form_is_for_people() -> None:
    stream = io.StringIO()
    configure_logs("INFO", "console", stream)
    structlog.get_logger("x").info("ready", port=8001)
    assert "ready" in stream.getvalue()
    assert "port=8001" in stream.getvalue()


@pytest.mark.parametrize(("level", "form"), [("loud", "json"), ("info", "xml")])
def test_unknown_words_are_refused(level: str, form: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="expected one of"):
        configure_logs(level, form)


def test_an_exception_on_the_console_is_no_picture_of_all_local_names() -> None:
    """Drawing one takes a tenth of a second, on the loop that serves."""
    stream = io.StringIO()
    configure_logs("info", "console", stream)
    secret = "the inputs of a caller"
    try:
        raise ValueError("the cause")
    except ValueError:
        structlog.get_logger("x").exception("failed", reference="r1")
    text = stream.getvalue()
    assert "ValueError: the cause" in text
    assert secret not in text
