"""Orders that go from the parent to every process in turn, without processes."""

from __future__ import annotations

import asyncio
import json

import pytest

from gearshift.app.observing import Here
from gearshift.app.passing import Passed, Passing
from gearshift.core.observability import Beginning, Observability
from gearshift.core.reload import Reload, Reloaded, Result
from gearshift.errors import (
    InvalidInput,
    LoadFailed,
    ModelNotFound,
    NotReady,
    NotServed,
    Overloaded,
    Problem,
)
from gearshift.processes import Orders

WITHIN = 10.0
BEGUN = Beginning(Observability(traced=True, rate=100), traceable=True)
BAD = Reloaded({"m": Result.FAILED}, (Problem("m/model.toml", "", "wrong"),))
GOOD = Reloaded({"m": Result.LOADED})


class Processes:
    """The supervisor's part: each process answers as it is told, or ends (None)."""

    def __init__(self, passing, answers):
        self.passing, self.answers = passing, answers
        self.asked = []
        self.followed = []
        self.heard_of_all = asyncio.Event()
        self.letters = []

    def serving(self):
        return sorted(self.answers)

    def write(self, index, body):
        told = json.loads(body)
        if "order" not in told:
            self.letters.append((index, told))
            return
        answer = self.answers[index]
        loop = asyncio.get_running_loop()
        if "observe" in told:
            self.followed.append((index, Observability.unpack(told["observe"])))
            if {each for each, _ in self.followed} == set(self.answers):
                self.heard_of_all.set()
            answer = answer and GOOD
        else:
            self.asked.append((index, Reload.unpack(told["reload"].encode())))
        if answer is None:
            loop.call_soon(self.passing.gone, index)
        else:
            body = {"order": told["order"], "told": answer.pack().decode()}
            loop.call_soon(self.passing.came, index, json.dumps(body).encode())


class Reloads:
    """The reloading's part."""

    generation, out = 3, ("b",)

    def __init__(self):
        self.error = None
        self.caught_up = asyncio.Event()

    async def load(self, model, who):
        if self.error:
            raise self.error

    async def catch_up(self, known, carry_out):
        self.known = known
        told = await carry_out(Reload(3, None, ("b",)))
        self.caught_up.set()
        return told


class Line:
    """Between parent and process: letters arrive in a later turn."""

    def __init__(self, passing, processes):
        self.passing = passing
        processes.write = self._to_process

    def on_letter(self, came):
        self.came = came

    def write(self, body):
        asyncio.get_running_loop().call_soon(self.passing.came, 0, body)

    def _to_process(self, index, body):
        asyncio.get_running_loop().call_soon(self.came, body)


@pytest.fixture
def shown(monkeypatch):
    """What this process would log; the log of the tests stays as it is."""
    told = []
    monkeypatch.setattr("gearshift.telemetry.show_logs", lambda **kinds: told.append(kinds))
    return told


def made(answers):
    passing = Passing(Here(BEGUN))
    processes = Processes(passing, answers)
    reloads = Reloads()
    passing.follow(processes, reloads)
    return passing, processes, reloads


@pytest.mark.parametrize(
    ("answers", "asked", "told"),
    [
        ({0: GOOD, 1: GOOD}, [0, 1], GOOD),
        ({0: BAD, 1: GOOD}, [0], BAD),
        ({0: None, 1: GOOD}, [0, 1], GOOD),  # who takes its place reads what is there then
        ({0: Reloaded({"m": Result.UNCHANGED}), 1: GOOD}, [0, 1], GOOD),
    ],
)
async def test_every_process_is_asked_in_turn_and_a_failure_ends_it(answers, asked, told):
    passing, processes, _ = made(answers)
    async with asyncio.timeout(WITHIN):
        assert await passing.carry_out(Reload(2)) == told
    assert processes.asked == [(index, Reload(2)) for index in asked]


async def test_when_a_later_one_fails_the_others_go_on():
    passing, processes, _ = made({0: GOOD, 1: BAD, 2: GOOD})
    async with asyncio.timeout(WITHIN):
        told = await passing.carry_out(Reload(2))
    assert [str(problem) for problem in told.problems] == ["m/model.toml: wrong (process 1)"]
    assert len(processes.asked) == 3


async def test_without_any_process_nothing_is_done():
    passing, _, _ = made({0: None})
    async with asyncio.timeout(WITHIN):
        told = await passing.carry_out(Reload(2))
    assert "no process could look at it" in str(told.problems[0])


async def test_who_starts_later_is_told_what_is_served_now():
    passing, processes, reloads = made({0: GOOD})
    orders = passing.orders(Orders(0, (0,), 0, {}))
    assert (orders.generation, orders.out) == (3, ("b",))
    passing.ready(0)
    async with asyncio.timeout(WITHIN):
        await reloads.caught_up.wait()
    assert (reloads.known, processes.asked) == (3, [(0, Reload(3, None, ("b",)))])
    passing.close()


@pytest.mark.parametrize(
    "error",
    [None, LoadFailed("wrong"), ModelNotFound("no folder"), Overloaded("many", retry_after=2.0)],
)
async def test_a_call_to_one_process_is_answered_by_the_parent(error):
    passing, processes, reloads = made({0: GOOD})
    reloads.error = error
    passed = Passed(Line(passing, processes), None, Here(BEGUN))
    async with asyncio.timeout(WITHIN):
        if error is None:
            await passed.load("m", "me")
        else:
            with pytest.raises(type(error), match=str(error)) as failed:
                await passed.load("m", "me")
            assert getattr(failed.value, "retry_after", 2.0) == 2.0
    passing.close()


async def test_what_is_logged_reaches_the_parent_and_all_processes(shown):
    passing, processes, _ = made({0: GOOD, 1: GOOD, 2: None})
    async with asyncio.timeout(WITHIN):
        told = await passing.observed.logs({"log_info": False})
    assert told["log_info"] is False
    assert [index for index, _ in processes.followed] == [0, 1, 2]
    assert {state.info for _, state in processes.followed} == {False}
    assert [kinds["info"] for kinds in shown] == [False]


async def test_who_does_not_follow_is_named(shown, monkeypatch):
    monkeypatch.setattr("gearshift.app.passing.FOLLOWED_WITHIN", 0.01)
    passing, processes, _ = made({0: GOOD, 1: GOOD})
    answers = processes.write
    processes.write = lambda index, body: answers(index, body) if index == 0 else None
    with pytest.raises(NotReady, match="process 1 has not followed yet"):
        await passing.observed.traces({"trace_rate": ["5"]})
    assert passing.observed.state.rate == 5


async def test_who_starts_later_follows_what_was_set_before(shown):
    passing, processes, _ = made({0: GOOD})
    passing.ready(0)
    async with asyncio.timeout(WITHIN):
        await passing.observed.traces({"trace_level": ["OFF"]}, "m")
    processes.answers[1] = GOOD
    processes.heard_of_all.clear()
    passing.ready(1)
    async with asyncio.timeout(WITHIN):
        await processes.heard_of_all.wait()
    assert [(index, state.of("m"), state.traced) for index, state in processes.followed] == [
        (0, (False, 100), True),
        (1, (False, 100), True),
    ]
    passing.close()


async def test_a_process_asks_the_parent_and_follows(shown):
    passing, processes, _ = made({0: GOOD})

    class Traces:
        def __init__(self):
            self.told = []

        def sample(self, share, models):
            self.told.append((*share, dict(models)))

    traces = Traces()
    passed = Passed(Line(passing, processes), None, Here(BEGUN, traces))
    async with asyncio.timeout(WITHIN):
        assert (await passed.traces({}))["trace_rate"] == ["100"]
        assert (await passed.traces({"trace_rate": ("4",)}))["trace_rate"] == ["4"]
        assert (await passed.traces({"trace_rate": ("5",)}, "m"))["trace_rate"] == ["5"]
        assert (await passed.traces({}, "m"))["trace_rate"] == ["5"]
        assert (await passed.traces({}))["trace_rate"] == ["4"]
        assert (await passed.logs({"log_verbose_level": 1}))["log_verbose_level"] == 1
        with pytest.raises(InvalidInput, match="log_info must be true or false"):
            await passed.logs({"log_info": 3})
        with pytest.raises(NotServed, match="into no file"):
            await passed.traces({"trace_file": ["x"]})
    own = {"m": (True, 0.2)}
    assert traces.told == [(True, 0.25, {}), (True, 0.25, own), (True, 0.25, own)]
    # The parent's own, and the process's.
    assert [kinds["debug"] for kinds in shown] == [False] * 4 + [True] * 2
    passing.close()
