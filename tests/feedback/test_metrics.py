"""What was learned is on the page, and several processes' pages make one that is right."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from feedback_place import Place
from gearshift import telemetry as pages
from gearshift.feedback import FeedbackCollector
from gearshift.telemetry import Past, PrometheusTelemetry
from gearshift.telemetry.merge import GREATEST, SUMMED
from prometheus_judge import judged


def together(*living: bytes) -> bytes:
    """The page of several processes."""
    return pages.exposed(pages.merged(living, Past()))[0]


def page_of(place: Place) -> bytes:
    telemetry = PrometheusTelemetry(place.catalog)
    telemetry.registry.register(FeedbackCollector(place.book, place.readings))
    telemetry.learned(
        {names: each.live.value for names, each in place.book.standings.items() if each.live}
    )
    return telemetry.exposition()[0]


def read(page: bytes) -> dict[str, float]:
    """By name and labels, as they are written."""
    found = {}
    for line in page.decode().splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            found[series] = float(value)
    return found


def filled(place: Place, prefix: str = "r") -> Place:
    ids = [f"{prefix}{n}" for n in range(200)]
    place.answer("kinds", [1] * 200, ids)
    place.recorder.shadowed(
        place.batch("kinds", [1] * 150 + [0] * 50, ids, variant="large"),
    )
    place.recorder.write()
    place.report("kinds", [1] * 30 + [2] * 70, ids[:100])
    place.report("kinds", [2, 9], [ids[0], ids[1]])
    place.report("unheard of", [2], ids[:1])
    place.learner.look(0.0)
    place.book.dropped = 7
    return place


def test_the_page(at):
    page = page_of(filled(at()))
    found = read(page)
    of = 'model="kinds",variant="small"'
    assert found['gearshift_feedback_total{model="kinds",outcome="counted"}'] == 100
    assert found['gearshift_feedback_total{model="kinds",outcome="conflict"}'] == 1
    assert found['gearshift_feedback_total{model="kinds",outcome="invalid"}'] == 1
    assert found['gearshift_feedback_total{model="",outcome="invalid"}'] == 1
    assert found['gearshift_feedback_total{model="risk",outcome="counted"}'] == 0
    assert not any("unheard" in series for series in found)
    labels = found[f"gearshift_feedback_labels{{{of}}}"]
    live = found['gearshift_variant_accuracy{model="kinds",source="live",variant="small"}']
    declared = found['gearshift_variant_accuracy{model="kinds",source="declared",variant="small"}']
    low, high = (
        found[f'gearshift_variant_accuracy_interval{{bound="{bound}",{of}}}']
        for bound in ("low", "high")
    )
    used = found[f"gearshift_variant_accuracy_used{{{of}}}"]
    assert 0 < labels <= 100
    assert low < live < high < declared == 0.8
    assert live < used < declared
    assert found[f"gearshift_variant_fallen{{{of}}}"] == 1
    assert found[f"gearshift_variant_below_floors{{{of}}}"] == 0
    assert found['gearshift_variant_fallen{model="kinds",variant="large"}'] == 0
    for agreed, count in (("true", 150), ("false", 50)):
        names = f'agreed="{agreed}",model="kinds",service_class="default",variant="small"'
        assert found[f"gearshift_shadow_total{{{names}}}"] == count
    assert 0 < found[f"gearshift_shadow_accuracy{{{of}}}"] < 1
    assert found["gearshift_journal_dropped_total"] == 7
    assert judged(page) == (0, [])


def test_a_fresh_page_passes_the_judge(at):
    assert judged(page_of(at())) == (0, [])


def test_the_pages_of_two_processes_that_share_a_database(at):
    one, other = filled(at()), at()
    other.learner.look(0.0)
    alone, both = read(page_of(one)), read(together(page_of(one), page_of(other)))
    for series, value in alone.items():
        name = series.partition("{")[0]
        if "_created" in name or "build_info" in name:
            continue
        # What one counted alone is the sum; what both found is not added up.
        assert both[series] == value, series


def test_every_gauge_has_its_rule_when_pages_are_merged(at):
    for family in text_string_to_metric_families(page_of(filled(at())).decode()):
        if family.type == "gauge":
            assert family.name in SUMMED | GREATEST, family.name
