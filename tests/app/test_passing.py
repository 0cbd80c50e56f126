"""Orders that go from the parent to every process in turn, without processes."""

from __future__ import annotations

import asyncio
import json

import pytest

from gearshift.app.passing import Passed, Passing
from gearshift.core.reload import Reload, Reloaded, Result
from gearshift.errors import LoadFailed, ModelNotFound, Overloaded, Problem
from gearshift.processes import Orders

WITHIN = 10.0
BAD = Reloaded({"m": Result.FAILED}, (Problem("m/model.toml", "", "wrong"),))
GOOD = Reloaded({"m": Result.LOADED})


class Processes:
    """The supervisor's part: each process answers as it is told, or ends (None)."""

    def __init__(self, passing, answers):
        self.passing, self.answers = passing, answers
        self.asked = []
        self.letters = []

    def serving(self):
        return sorted(self.answers)

    def write(self, index, body):
        told = json.loads(body)
        if "order" not in told:
            self.letters.append((index, told))
            return
        self.asked.append((index, Reload.unpack(told["reload"].encode())))
        answer = self.answers[index]
        loop = asyncio.get_running_loop()
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


def made(answers):
    passing = Passing()
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

    class Line:
        """Between the two: letters arrive in a later turn."""

        def on_letter(self, came):
            self.came = came

        def write(self, body):
            asyncio.get_running_loop().call_soon(passing.came, 0, body)

    line = Line()
    passed = Passed(line, None)

    def write(index, body):
        asyncio.get_running_loop().call_soon(line.came, body)

    processes.write = write
    async with asyncio.timeout(WITHIN):
        if error is None:
            await passed.load("m", "me")
        else:
            with pytest.raises(type(error), match=str(error)) as failed:
                await passed.load("m", "me")
            assert getattr(failed.value, "retry_after", 2.0) == 2.0
    passing.close()
