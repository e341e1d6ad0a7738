"""The frame table."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.examples import steps
from usmd.core.frames import (
    DIRTY,
    END_OF,
    ENDS_CLEAN,
    ENDS_WRITTEN,
    ENDS_ZERO,
    EVICTING,
    FILLING,
    FREE,
    KEPT,
    NO_PAGE,
    NO_SLOT,
    PRESENT,
    PRIORITY_MASK,
    ZERO,
    FrameTable,
)


def test_the_lowest_free_frame_is_taken_and_is_filling():
    frames = FrameTable(3)
    assert [frames.take(), frames.take()] == [0, 1]
    assert (frames.state[0], frames.free) == (FILLING, 1)


def test_a_preferred_frame_is_taken_if_it_is_free_and_exists():
    frames = FrameTable(4)
    assert frames.take(2) == 2
    assert [frames.take(2), frames.take(-1), frames.take(4)] == [0, 1, 3]
    assert frames.free == 0


def test_a_frame_given_back_forgets_all_and_is_found_again():
    frames = FrameTable(3)
    for _ in range(3):
        frames.take()
    frames.flags[1], frames.page[1], frames.slot[1] = DIRTY, 77, 5
    frames.give_back(1)
    assert (frames.state[1], frames.flags[1], frames.page[1], frames.slot[1]) == (FREE, 0, NO_PAGE, NO_SLOT)
    assert (frames.free, frames.take()) == (1, 1)


def test_a_run_is_found_without_taking_it():
    frames = FrameTable(8)
    for pfn in (0, 3):
        frames.take(pfn)
    assert (frames.find_run(2), frames.find_run(3), frames.find_run(5)) == (1, 4, None)
    assert frames.free == 6


def test_frames_are_counted_by_state():
    frames = FrameTable(5)
    for state in (PRESENT, PRESENT, EVICTING):
        frames.state[frames.take()] = state
    assert [frames.count_state(state) for state in (FREE, FILLING, PRESENT, EVICTING)] == [2, 0, 2, 1]


def test_an_eviction_ends_as_the_bytes_say_and_not_as_the_hints_do():
    for other in (0, PRIORITY_MASK):
        assert END_OF[other] == ENDS_CLEAN
        assert END_OF[DIRTY | other] == ENDS_WRITTEN
        assert {END_OF[ZERO | other], END_OF[ZERO | DIRTY | other]} == {ENDS_ZERO}


COUNT = 24


class Allocator(RuleBasedStateMachine):
    """Single frames and runs are taken and given back in any order, beside a set of the free ones."""

    def __init__(self):
        super().__init__()
        self.frames = FrameTable(COUNT)
        self.unused = set(range(COUNT))

    @precondition(lambda self: self.unused)
    @rule(prefer=st.none() | st.integers(-2, COUNT + 1))
    def take(self, prefer):
        pfn = self.frames.take(prefer)
        assert pfn == (prefer if prefer in self.unused else min(self.unused))
        self.unused.remove(pfn)

    @rule(length=st.integers(1, COUNT))
    def take_run(self, length):
        runs = [first for first in range(COUNT) if set(range(first, first + length)) <= self.unused]
        found = self.frames.find_run(length)
        assert found == (min(runs) if runs else None)
        if found is not None:
            self.frames.take_run(found, length, PRESENT)
            self.unused -= set(range(found, found + length))

    @precondition(lambda self: len(self.unused) < COUNT)
    @rule(which=st.integers(0, COUNT - 1))
    def give_back(self, which):
        used = sorted(set(range(COUNT)) - self.unused)
        pfn = used[which % len(used)]
        self.frames.give_back(pfn)
        self.unused.add(pfn)

    @invariant()
    def counts_and_states_are_right(self):
        assert self.frames.free == self.frames.count_state(FREE) == len(self.unused)
        assert {pfn for pfn in range(COUNT) if self.frames.state[pfn] == FREE} == self.unused


TestAllocator = Allocator.TestCase
TestAllocator.settings = steps(20, 40)


def test_present_frames_without_some_flags_are_those_as_the_first_is_asked_for():
    frames = FrameTable(5)
    for pfn, flags in enumerate((0, DIRTY, KEPT, 0)):
        frames.take(pfn)
        frames.state[pfn], frames.flags[pfn] = PRESENT, flags
    found = frames.present_without(KEPT | DIRTY)
    assert next(found) == 0
    frames.state[3] = FILLING
    assert list(found) == [3]
    assert list(frames.present_without(DIRTY)) == [0, 2]
