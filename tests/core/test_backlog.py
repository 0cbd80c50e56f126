import math

from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.backlog import BLOCK, Backlog

ITEMS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=200)


def filled(items):
    backlog = Backlog()
    for ticket_id, (due, work) in enumerate(items):
        backlog.add(float(due), ticket_id, float(work))
    return backlog


@given(ITEMS, st.integers(-1, 51))
def test_up_to_is_the_sum_of_what_is_due(items, moment):
    assert filled(items).up_to(moment) == sum(work for due, work in items if due <= moment)


@given(ITEMS, st.data())
def test_what_was_removed_no_longer_counts(items, data):
    backlog = filled(items)
    gone = data.draw(st.sets(st.sampled_from(range(len(items))))) if items else set()
    for ticket_id in gone:
        due, work = items[ticket_id]
        backlog.remove(float(due), ticket_id, float(work))
    left = [item for ticket_id, item in enumerate(items) if ticket_id not in gone]
    assert len(backlog) == len(left)
    for moment in range(0, 51, 7):
        assert backlog.up_to(moment) == sum(work for due, work in left if due <= moment)


@given(ITEMS)
def test_demand_rises_and_ends_with_everything(items):
    backlog = filled(items)
    demand = list(backlog.demand())
    assert demand == sorted(demand)
    for moment, work in demand:
        # Work with the same due time may stand in the next block: never more than all of it.
        assert work <= backlog.up_to(moment)
    if items:
        assert demand[-1][1] == sum(work for _, work in items)


def test_the_nearest_entries_are_told_one_by_one():
    backlog = filled([(due, 1) for due in range(10 * BLOCK)])
    first = [moment for moment, _ in backlog.demand()][:BLOCK]
    assert first == [float(due) for due in range(BLOCK)]
    assert len(list(backlog.demand())) < 3 * BLOCK


def test_unlimited_work_has_no_moment():
    backlog = Backlog()
    backlog.add(math.inf, 1, 5.0)
    backlog.add(1.0, 2, 1.0)
    assert list(backlog.demand()) == [(1.0, 1.0)]
    assert backlog.up_to(1e12) == 1.0
