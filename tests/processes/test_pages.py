"""The last page of each process counts, also of one that is slow or gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fake_member import FakeMember
from gearshift.processes import Pages
from gearshift.processes.messages import METRICS, TRITON

Born = Callable[[bytes], FakeMember]


@pytest.fixture
def member() -> Iterator[Born]:
    """Makes members with pages of this content; b"" for one without any."""
    made = []

    def born(name: bytes) -> FakeMember:
        made.append(FakeMember({METRICS: name, TRITON: b"t" + name} if name else {}))
        return made[-1]

    yield born
    for each in made:
        each.close()


def test_pages_of_all_that_live(member: Born) -> None:
    pages = Pages()
    one, two, silent = member(b"1"), member(b"2"), member(b"")
    for each in (one, two, silent):
        pages.began(each)
    assert pages.collect(METRICS) == ([b"1", b"2"], [])
    assert pages.collect(TRITON) == ([b"t1", b"t2"], [])


def test_one_that_does_not_answer_is_shown_as_it_was(member: Born) -> None:
    pages = Pages()
    one = member(b"1")
    pages.began(one)
    one.late = True
    assert pages.collect(METRICS) == ([], [])
    one.late = False
    pages.collect(METRICS)
    one.late = True
    assert pages.collect(METRICS) == ([b"1"], [])


def test_the_last_page_of_one_that_ended_is_told_once_for_each_question(member: Born) -> None:
    pages = Pages()
    one, two = member(b"1"), member(b"2")
    pages.began(one)
    pages.began(two)
    pages.collect(METRICS)
    pages.collect(TRITON)
    one.end()
    # Before the end was noticed it counts as one that does not answer.
    assert pages.collect(METRICS) == ([b"1", b"2"], [])
    pages.ended(one)
    assert one.closed
    assert pages.collect(METRICS) == ([b"2"], [b"1"])
    assert pages.collect(METRICS) == ([b"2"], [])
    assert pages.collect(TRITON) == ([b"t2"], [b"t1"])
    assert pages.collect(TRITON) == ([b"t2"], [])


def test_the_sockets_of_one_that_ends_meanwhile_stay_until_nobody_asks() -> None:
    pages = Pages()

    class Ending(FakeMember):
        def answer(self, number: int, deadline: float) -> bytes:
            pages.ended(self)
            assert not self.closed
            return super().answer(number, deadline)

    one = Ending({METRICS: b"1"})
    pages.began(one)
    assert pages.collect(METRICS) == ([b"1"], [])
    assert one.closed
    assert pages.collect(METRICS) == ([], [b"1"])
