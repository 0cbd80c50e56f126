"""A trial: what is added up, when it ends, and what the front door takes."""

import pytest

from gearshift.simulate.planning.trial import Conditions, simulate
from planning import attainment, make_kind, make_pod, make_traffic


def tried(pods, traffic, *goals, **options):
    conditions = Conditions(**{"seeds": 1, "requests": 1_000, "noise": 0.0, "door": 0.0, **options})
    return simulate(make_pod(make_kind()), pods, traffic, goals, conditions, lambda *_: None)


def test_accuracies_add_up_with_their_spread():
    trial = tried(1, make_traffic({"fraud": 420}, seconds=3), attainment(0.5))
    answers, tally = trial.answers["fraud"], trial.tallies["fraud/default"]
    assert min(answers.values()) > 10
    assert tally.served == sum(answers.values())
    assert tally.gained == pytest.approx(0.9 * answers["large"] + 0.8 * answers["small"])
    assert tally.squared == pytest.approx(0.81 * answers["large"] + 0.64 * answers["small"])


def test_what_is_hopeless_or_certain_ends_early_and_what_is_neither_goes_on():
    traffic = make_traffic({"fraud": 12_000}, seconds=0.5)
    whole = len(next(traffic.pods(1, 0, ["fraud"], 10**9))[1])
    # Four pods: the first one's requests are enough to know.
    hopeless = tried(4, traffic, attainment(0.999), requests=10**6)
    assert hopeless.simulated < whole / 2
    assert not hopeless.holds
    calm = make_traffic({"fraud": 100}, seconds=5)
    certain = tried(1, calm, attainment(0.9), requests=400)
    # 0.998 wants 1,917 requests, and four times 500 are 2,000; 0.9999 wants more than that.
    shown = tried(1, calm, attainment(0.998), requests=500)
    too_few = tried(1, calm, attainment(0.9999), requests=500)
    assert certain.simulated == too_few.simulated < shown.simulated
    assert {v.standing.value for v in shown.verdicts} == {"holds"}
    assert {v.standing.value for v in too_few.verdicts} == {"unshown"}


def test_the_front_door_takes_time_from_the_workers():
    traffic = make_traffic({"fraud": 100}, seconds=5)
    free, dear = (tried(1, traffic, attainment(0.5), door=door) for door in (0.0, 2e-3))
    assert (free.door, dear.door) == (0.0, pytest.approx(0.2, rel=0.1))
    assert dear.busy["cpu"] > 1.1 * free.busy["cpu"]
