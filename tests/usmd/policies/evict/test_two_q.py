"""two_q: new pages pass a queue, in which touches do not count; those that are missed again enter an LRU list."""

import pytest

from tests.support.access_traces import SmallMemory
from usmd.errors import InvalidArgument


def lists(memory):
    return memory.pages(memory.policy.a_in), memory.pages(memory.policy.a_main)


def test_touches_soon_after_the_first_count_for_nothing():
    memory = SmallMemory("two_q", 8)
    memory.touch(*range(8))
    memory.touch(*[0] * 20)
    assert memory.touch(8) == [0]


def test_a_page_that_is_missed_after_it_left_the_queue_enters_the_lru_list():
    memory = SmallMemory("two_q", 8)
    memory.touch(*range(10))
    assert lists(memory) == ([2, 3, 4, 5, 6, 7, 8, 9], [])
    memory.touch(0, 1)
    assert lists(memory) == ([4, 5, 6, 7, 8, 9], [0, 1])
    memory.touch(0)
    assert lists(memory)[1] == [1, 0], "where touches count"


def test_a_scan_goes_by_the_lru_list():
    memory = SmallMemory("two_q", 8)
    memory.touch(*range(10), 0, 1)
    memory.touch(*range(20, 60))
    assert lists(memory) == ([54, 55, 56, 57, 58, 59], [0, 1])


def test_the_queue_gives_victims_only_while_it_has_more_than_its_share():
    memory = SmallMemory("two_q(a_in=0.25, a_out=2.0)", 8)
    memory.touch(*range(14), *range(6))
    assert lists(memory) == ([12, 13], [0, 1, 2, 3, 4, 5])
    assert [memory.touch(page) for page in (20, 21, 22)] == [[0], [12], [13]]
    assert lists(memory) == ([20, 21, 22], [1, 2, 3, 4, 5])


@pytest.mark.parametrize(("a_out", "remembered"), [(0.5, 4), (0.1, 0), (3.0, 24)])
def test_how_many_are_remembered_and_what_left_the_lru_list_is_not(a_out, remembered):
    memory = SmallMemory(f"two_q(a_out={a_out})", 8)
    memory.touch(*range(60))
    assert [key & 63 for key in memory.policy.a_out.pages] == list(range(52 - remembered, 52))
    if remembered:
        memory.touch(51)  # to the LRU list
        memory.hint("DONTNEED", 51)
        assert 51 not in [key & 63 for key in memory.policy.a_out.pages]


@pytest.mark.parametrize("parameters", ["a_in=0", "a_in=1", "a_out=0", "a_out=16.5"])
def test_parameters_out_of_range(parameters):
    with pytest.raises(InvalidArgument, match="allowed are a_in between 0 and 1, a_out to 16"):
        SmallMemory(f"two_q({parameters})", 8)


def test_its_reasons():
    memory = SmallMemory("two_q", 8)
    memory.touch(*range(10), 0)
    assert memory.reason(5) == "first in of the new pages"
    assert memory.reason(0) == "least recently used of the pages that came back"
