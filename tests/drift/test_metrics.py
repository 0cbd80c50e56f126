"""What is on the page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gearshift.core.drift import Shift
from gearshift.drift import DriftCollector
from gearshift.drift.metrics import MOST_SHOWN
from gearshift.drift.watch import Drift
from prometheus_judge import judged


def page(**drifts: Drift) -> bytes:
    registry = CollectorRegistry()
    registry.register(DriftCollector(lambda: drifts))
    return generate_latest(registry)


def samples(made: bytes) -> dict[tuple[str, ...], float]:
    return {
        (
            sample.name.removeprefix("gearshift_input_"),
            *(value for _, value in sorted(sample.labels.items(), reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(made.decode())
        for sample in family.samples
    }


def drift(*psis: float, drifted: bool = False) -> Drift:
    return Drift(300, {f"x[{at}]": Shift(psi, 0.0) for at, psi in enumerate(psis)}, drifted)


def test_a_model_s_features_and_the_whole():
    made = page(m=drift(0.75, 0.25, drifted=True), n=drift(0.0))
    assert samples(made) == {
        ("drift_psi", "m", "x[0]"): 0.75,
        ("drift_psi", "m", "x[1]"): 0.25,
        ("drift", "m"): 0.75,
        ("drift_mean", "m"): 0.5,
        ("drift_rows", "m"): 300,
        ("drifted", "m"): 1,
        ("drift_psi", "n", "x[0]"): 0,
        ("drift", "n"): 0,
        ("drift_mean", "n"): 0,
        ("drift_rows", "n"): 300,
        ("drifted", "n"): 0,
    }
    assert judged(made) == (0, [])


def test_before_there_are_enough_rows_only_their_number_is_told():
    assert samples(page(m=Drift(7, {}, False))) == {("drift_rows", "m"): 7}
    assert samples(page()) == {}


def test_many_features_have_no_series_each():
    most = samples(page(m=drift(*[0.5] * MOST_SHOWN)))
    more = samples(page(m=drift(*[0.5] * (MOST_SHOWN + 1))))
    assert sum(name[0] == "drift_psi" for name in most) == MOST_SHOWN
    assert set(more) == {(f"drift{what}", "m") for what in ("", "_mean", "_rows")} | {
        ("drifted", "m")
    }
