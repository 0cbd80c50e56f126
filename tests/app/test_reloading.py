"""One reload at a time, in order; what is left out; what is told to whom."""

from __future__ import annotations

import asyncio

import pytest

from gearshift.app import reloading as module
from gearshift.app.reloading import Reloading
from gearshift.app.watching import hang_up, watch
from gearshift.core.reload import Reloaded, Result
from gearshift.errors import LoadFailed, ModelNotFound, NotReady, Overloaded, Problem
from gearshift.telemetry import ReloadsCollector

WITHIN = 10.0


class Place:
    """A repository of folders with one file each, and who carries orders out: nobody."""

    def __init__(self, root):
        self.root = root
        for name in ("a", "b"):
            self.put(name)
        self.orders = []
        self.audited = []
        self.results = {"a": Result.LOADED}
        self.problems = ()
        self.go = asyncio.Event()
        self.go.set()
        self.counted = ReloadsCollector()
        self.reloading = Reloading(
            root,
            self.carry_out,
            self.counted,
            lambda: {"b": "unloaded"},
            lambda *told: self.audited.append(told),
            clock=lambda: 0.0,
        )

    def put(self, name, text="1"):
        (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / name / "model.toml").write_text(text)

    async def carry_out(self, order):
        self.orders.append(order)
        await self.go.wait()
        return Reloaded(dict(self.results), self.problems)

    def series(self):
        (results, _) = self.counted.collect()
        return {tuple(s.labels.values()): s.value for s in results.samples if s.value}


@pytest.fixture
async def place(tmp_path):
    made = Place(tmp_path / "repo")
    yield made
    made.go.set()
    await made.reloading.close()


async def test_orders_are_carried_out_one_by_one_in_the_order_asked_for(place):
    place.go.clear()
    asked = [
        asyncio.ensure_future(each)
        for each in (
            place.reloading.load("a", "me"),
            place.reloading.unload("b", "you"),
            place.reloading.reload("SIGHUP"),
        )
    ]
    async with asyncio.timeout(WITHIN):
        while not place.orders:  # noqa: ASYNC110 - folders are read on a thread
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert [order.look for order in place.orders] == [("a",)]
    place.go.set()
    async with asyncio.timeout(WITHIN):
        await asyncio.gather(*asked)
    assert [(o.generation, o.look, o.out) for o in place.orders] == [
        (2, ("a",), ()),
        (3, (), ("b",)),
        (4, None, ("b",)),
    ]
    assert place.reloading.generation == 4
    assert place.audited == [
        ("me", "load a", "loaded a"),
        ("you", "unload b", "loaded a"),
        ("SIGHUP", "reload", "loaded a"),
    ]
    assert place.series() == {("a", "loaded"): 3}


async def test_what_changes_nothing_has_no_number(place):
    place.results = {"a": Result.UNCHANGED}
    await place.reloading.load("a", "me")
    assert place.reloading.generation == 1
    assert place.audited == [("me", "load a", "unchanged")]


async def test_a_failure_tells_every_reason(place):
    place.results = {"a": Result.FAILED}
    place.problems = (Problem("a/model.toml", "metric", "wrong"), Problem("a/x", "", "missing"))
    with pytest.raises(LoadFailed) as failed:
        await place.reloading.load("a", "me")
    assert str(failed.value) == ("nothing has changed: a/model.toml: metric: wrong\na/x: missing")
    assert place.reloading.generation == 1
    assert place.series() == {("a", "failed"): 1}
    assert place.audited[0][2].startswith("failed: nothing has changed")


async def test_a_name_without_a_folder_asks_nobody(place):
    for name in ("nobody", "../repo/a", "", "a/.."):
        with pytest.raises(ModelNotFound, match="there are: a, b"):
            await place.reloading.load(name, "me")
    await place.reloading.unload("../a", "me")
    assert place.orders == []
    await place.reloading.unload("nobody", "me")
    assert place.reloading.out == ()  # nothing is remembered of names that callers make up


async def test_an_unloaded_model_stays_so_until_it_is_loaded_or_its_files_change(place):
    await place.reloading.unload("b", "me")
    await place.reloading.reload("SIGHUP")
    assert place.orders[-1].out == ("b",)
    await place.reloading.load("b", "me")
    await place.reloading.reload("SIGHUP")
    assert place.orders[-1].out == ()

    await place.reloading.unload("b", "me")
    place.put("b", "other")
    place.results, place.problems = {"b": Result.FAILED}, (Problem("b", "", "wrong"),)
    with pytest.raises(LoadFailed):
        await place.reloading.reload("--watch", ["b"])
    assert place.orders[-1].out == ()
    assert place.reloading.out == ("b",)  # it was not loaded, so that it is still left out
    place.results, place.problems = {"b": Result.LOADED}, ()
    await place.reloading.reload("--watch", ["b"])
    assert (place.orders[-1].look, place.reloading.out) == (("b",), ())


async def test_who_leaves_does_not_end_what_was_begun(place):
    place.go.clear()
    asked = asyncio.ensure_future(place.reloading.load("a", "me"))
    async with asyncio.timeout(WITHIN):
        while not place.orders:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    place.go.set()
    await place.reloading.reload("SIGHUP")
    assert place.audited[0] == ("me", "load a", "loaded a")


async def test_too_many_at_once_are_refused_and_none_is_taken_at_the_end(place, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    place.go.clear()
    asked = [asyncio.ensure_future(place.reloading.load("a", "me")) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="2 loads and unloads wait"):
        await place.reloading.load("a", "me")
    await place.reloading.close()
    assert all(each.cancelled() for each in await _ended(asked))
    with pytest.raises(NotReady, match="shutting down"):
        await place.reloading.load("a", "me")


async def _ended(tasks):
    await asyncio.wait(tasks)
    return tasks


async def test_who_begins_late_catches_up(place):
    seen = []

    async def late(order):
        seen.append(order)
        return Reloaded()

    await place.reloading.catch_up(1, late)
    assert seen == []
    await place.reloading.unload("b", "me")
    await place.reloading.catch_up(1, late)
    assert [(o.generation, o.look, o.out) for o in seen] == [(2, None, ("b",))]


async def test_names_cannot_make_series_without_end(monkeypatch):
    monkeypatch.setattr("gearshift.telemetry.reloads.MOST_MODELS", 3)
    counted = ReloadsCollector()
    for number in range(50):
        counted.add(Reloaded({f"m{number}": Result.LOADED}), 0.1)
    (results, _) = counted.collect()
    assert len({s.labels["model"] for s in results.samples}) == 4
    assert sum(s.value for s in results.samples) == 50


async def test_the_watch_asks_again_where_it_was_turned_away():
    class Busy:
        def __init__(self):
            self.asked = []
            self.done = asyncio.Event()

        async def reload(self, who, look):
            self.asked.append((who, look))
            if len(self.asked) < 3:
                raise Overloaded("later", retry_after=0.01)
            self.done.set()
            raise LoadFailed("broken")

    busy = Busy()
    task = asyncio.ensure_future(watch(busy, None, 0.1, {}, look=lambda root: {"a": ()}))
    async with asyncio.timeout(WITHIN):
        await busy.done.wait()
    assert busy.asked == [("--watch", ["a"])] * 3
    await asyncio.sleep(0.3)  # what is broken is not tried again before it has changed
    assert len(busy.asked) == 3
    assert not task.done()
    task.cancel()


async def test_signals_while_the_repository_is_read_are_heard_once_more():
    reads, wanted, go = [], asyncio.Event(), asyncio.Semaphore(0)

    class Slow:
        async def reload(self, who, look):
            reads.append((who, look))
            await go.acquire()

    task = asyncio.ensure_future(hang_up(Slow(), wanted))
    for _ in range(5):
        wanted.set()
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    wanted.set()
    go.release()
    go.release()
    await asyncio.sleep(0.01)
    assert reads == [("SIGHUP", None)] * 2
    task.cancel()
