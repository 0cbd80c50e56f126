"""Feedback as part of a process: from an answered batch to what routing goes by."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from feedback_place import Place, make_feedback_catalog
from gearshift.app.feedback import taking_feedback
from gearshift.app.settings import load_settings
from gearshift.core.reports import Report
from gearshift.errors import ConfigurationInvalid, FeedbackUnavailable
from gearshift.telemetry import PrometheusTelemetry


@pytest.fixture
def settings(tmp_path):
    return load_settings(state_dir=tmp_path / "state")


def batch(ids):
    return Place.batch_of(make_feedback_catalog(), "kinds", [1] * len(ids), ids)


async def test_from_an_answer_to_what_routing_goes_by(settings):
    catalog = make_feedback_catalog()
    telemetry = PrometheusTelemetry(catalog)
    moved: asyncio.Queue = asyncio.Queue()
    ids = [f"r{n}" for n in range(200)]
    async with taking_feedback(settings, catalog, telemetry) as taken:
        taken.follow(lambda model, used: moved.put_nowait((model, used)))
        (journal,) = taken.journals
        journal.answered(batch(ids))
        told = [Report("kinds", i.encode(), (2,)) for i in ids]
        assert {r.ruling for r in await taken.feedback.report(told)} == {"counted"}
        model, used = await asyncio.wait_for(moved.get(), 20)
    assert model == "kinds"
    assert used["small"] < 0.2 < used["large"]
    page = telemetry.exposition()[0].decode()
    assert 'gearshift_variant_accuracy{model="kinds",source="live",variant="small"} 0.0' in page
    assert (settings.state_dir / "feedback.sqlite3").exists()
    # The next start knows it.
    async with taking_feedback(settings, catalog, PrometheusTelemetry(catalog)) as taken:
        taken.follow(lambda model, used: moved.put_nowait((model, used)))
        assert await asyncio.wait_for(moved.get(), 20) == (model, used)


async def test_off_means_off(settings):
    catalog = make_feedback_catalog()
    off = settings.model_copy(update={"feedback": False})
    async with taking_feedback(off, catalog, PrometheusTelemetry(catalog)) as taken:
        taken.follow(lambda model, used: None)
        assert not taken.journals
        assert taken.feedback is None
    assert not settings.state_dir.exists()


async def test_a_database_that_is_away_does_not_keep_anybody_from_serving(settings):
    away = settings.model_copy(
        update={"feedback_url": "postgresql://nobody@127.0.0.1:1/x?connect_timeout=1"}
    )
    catalog = make_feedback_catalog()
    with capture_logs() as logs:
        async with taking_feedback(away, catalog, PrometheusTelemetry(catalog)) as taken:
            (journal,) = taken.journals
            journal.answered(batch(["a"]))
            with pytest.raises(FeedbackUnavailable):
                await taken.feedback.report([Report("kinds", b"a", (1,))])
    assert logs[0]["event"] == "the feedback database cannot be used yet"


async def test_a_database_that_can_never_be_used_is_a_wrong_setting(settings):
    wrong = settings.model_copy(update={"feedback_url": "mysql://x"})
    catalog = make_feedback_catalog()
    with pytest.raises(ConfigurationInvalid, match="feedback_url"):
        async with taking_feedback(wrong, catalog, PrometheusTelemetry(catalog)):
            pytest.fail("it was taken")


async def test_models_without_feedback_are_named(settings):
    catalog = make_feedback_catalog()
    with capture_logs() as logs:
        async with taking_feedback(settings, catalog, PrometheusTelemetry(catalog)):
            pass
    assert [log["model"] for log in logs if log["event"] == "no feedback for a model"] == ["faces"]
