"""The table of copies of a mirror: states, numbers of writes, counts, and what is found to be repaired."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from usmd.errors import SwapDeviceError
from usmd.swap.copies import ALONE, BEHIND, BOTH, COMING, FAR, NOTHING, Copies

STATES = (NOTHING, COMING, BEHIND, BOTH, ALONE, FAR)


@pytest.fixture
def copies():
    table = Copies(8)
    yield table
    table.close()


def test_each_write_has_a_number_of_its_own(copies):
    assert copies.begin([3, 1]) == [1, 2]
    assert copies.begin([3]) == [3]
    assert [copies.number(slot) for slot in (0, 1, 3)] == [0, 2, 3]


def test_what_became_of_an_older_write_changes_nothing(copies):
    (old,) = copies.begin([3])
    (new,) = copies.begin([3])
    assert not copies.settle(3, old, BOTH)
    assert copies.state(3) == NOTHING
    assert copies.settle(3, new, COMING)
    copies.discard([3])
    assert not copies.settle(3, new, BOTH)
    assert (copies.state(3), copies.number(3)) == (NOTHING, 0)


def test_slots_of_a_state_are_found_in_turn_with_their_numbers(copies):
    slots = [1, 2, 5]
    for slot, number in zip(slots, copies.begin(slots), strict=True):
        copies.settle(slot, number, BEHIND)
    assert copies.find(BEHIND, 2) == [(1, 1), (2, 2)]
    assert copies.find(BEHIND, 2) == [(5, 3)]
    assert copies.find(BEHIND, 9) == [(1, 1), (2, 2), (5, 3)]
    assert copies.find(BOTH) == []


def test_a_table_that_the_kernel_grants_no_memory_for_is_refused():
    with pytest.raises(SwapDeviceError, match="no memory for the table of"):
        Copies(1 << 58)


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from([*STATES, "begin", "discard"])), max_size=40))
def test_counts_are_those_of_the_states(steps):
    table = Copies(8)
    for slot, what in steps:
        if what == "begin":
            table.begin([slot])
        elif what == "discard":
            table.discard([slot])
        elif table.number(slot):
            assert table.settle(slot, table.number(slot), what)
            assert table.state(slot) == what
    found = [table.state(slot) for slot in range(8)]
    assert [table.count(state) for state in STATES] == [found.count(state) for state in STATES]
    table.close()
