"""clock: first in, first out with a chance for each touch, as far as its counter goes."""

import pytest

from tests.support.access_traces import SmallMemory
from tests.support.fake_view import fake_view
from usmd.errors import InvalidArgument
from usmd.policies import registry


def test_a_touched_page_has_one_more_chance_and_goes_to_the_end():
    memory = SmallMemory("clock", 3)
    memory.touch(0, 1, 2, 0)
    assert [memory.touch(page) for page in (3, 4, 5)] == [[1], [2], [0]]


def test_where_all_were_touched_the_hand_goes_round_once_and_takes_the_oldest():
    memory = SmallMemory("clock", 3)
    memory.touch(0, 1, 2, 2, 1, 0)
    assert memory.touch(3) == [0]
    assert memory.touch(4) == [1], "its chance was used up"


@pytest.mark.parametrize(("bits", "survives"), [(1, 1), (2, 3), (3, 5)])
def test_a_page_survives_as_many_passes_as_its_counter_can_count(bits, survives):
    memory = SmallMemory(f"clock(bits={bits})", 2)
    memory.touch(*[0] * 6)  # the first is the fill
    memory.touch(1)
    gone = [memory.touch(page) for page in range(2, 9)]
    assert gone.index([0]) == survives


def test_writes_are_touches_as_well():
    memory = SmallMemory("clock", 2)
    memory.touch(0, 1)
    memory.touch(0, write=True)
    assert memory.touch(2) == [1]


def test_a_page_that_comes_into_a_used_frame_has_no_chance_yet():
    memory = SmallMemory("clock(bits=8)", 2)
    memory.touch(0, 1, 0, 0, 0)
    memory.hint("DONTNEED", 0)
    memory.touch(2)
    assert memory.frame(2) == 0
    assert memory.touch(3) == [1]
    assert memory.touch(4) == [2]


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_a_counter_has_1_to_8_bits(bits):
    with pytest.raises(InvalidArgument, match=rf"clock\(bits={bits}\); allowed are 1 to 8"):
        registry.make("evict", f"clock(bits={bits})", fake_view())


def test_its_reason():
    memory = SmallMemory("clock", 2)
    memory.touch(0)
    assert memory.reason(0) == "not touched since the hand last passed it"
