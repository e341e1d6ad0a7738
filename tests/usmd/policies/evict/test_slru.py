"""slru: a touch lifts a page by a segment, and what has no room there comes down."""

import pytest

from tests.support.access_traces import SmallMemory, scans_and_hot_set
from usmd.errors import InvalidArgument


def segments(memory):
    return [memory.pages(each) for each in memory.policy.segments]


def test_pages_come_into_the_lowest_segment_that_has_room():
    memory = SmallMemory("slru", 8)
    memory.touch(*range(8))
    assert segments(memory) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert memory.touch(8) == [0]
    assert segments(memory) == [[1, 8], [2, 3], [4, 5], [6, 7]]


def test_a_touch_lifts_by_one_segment_and_its_least_recent_page_comes_down():
    memory = SmallMemory("slru", 8)
    memory.touch(*range(8))
    memory.touch(0)
    assert segments(memory) == [[1, 2], [3, 0], [4, 5], [6, 7]]
    memory.touch(0, 0)
    assert segments(memory) == [[1, 2], [3, 4], [5, 6], [7, 0]]
    memory.touch(7)
    assert segments(memory)[3] == [0, 7], "at the top a touch makes a page the most recent"


def test_a_scan_passes_the_lowest_segment_only():
    memory = SmallMemory("slru", 8)
    memory.touch(*range(8))
    memory.touch(*range(8, 60))
    assert segments(memory)[1:] == [[2, 3], [4, 5], [6, 7]]


def test_what_memory_has_beyond_its_segments_goes_when_the_lowest_is_found_too_full():
    memory = SmallMemory("slru", 11)  # of two frames each, and three are left
    memory.touch(*range(11))
    assert [len(each) for each in segments(memory)] == [5, 2, 2, 2]
    assert memory.touch(0) == [1, 8, 9], "2 came down for 0, and two pages have room there"
    assert segments(memory)[:2] == [[10, 2], [3, 0]]


def test_one_segment_is_lru():
    trace = scans_and_hot_set(64, 2000, hot=10, scan=15).tolist()
    seen = []
    for evict in ("slru(segments=1)", "lru"):
        memory = SmallMemory(evict, 13)
        memory.touch(*trace)
        seen.append((memory.misses, memory.resident))
    assert seen[0] == seen[1]


def test_the_two_segments_of_the_paper_keep_what_was_touched_twice():
    memory = SmallMemory("slru(segments=2)", 8)
    memory.touch(*range(8), 0, 1, 2, 3)
    assert segments(memory) == [[4, 5, 6, 7], [0, 1, 2, 3]]
    memory.touch(*range(10, 50))
    assert segments(memory)[1] == [0, 1, 2, 3]


def test_more_segments_than_frames_are_of_one_frame_each():
    memory = SmallMemory("slru(segments=64)", 3)
    memory.touch(*range(20), 18, 18, 18, *range(5))
    assert 18 in memory.resident


@pytest.mark.parametrize("number", [0, 65])
def test_there_are_1_to_64_segments(number):
    with pytest.raises(InvalidArgument, match=rf"slru\(segments={number}\); allowed are 1 to 64"):
        SmallMemory(f"slru(segments={number})", 8)


def test_its_reason():
    memory = SmallMemory("slru", 8)
    memory.touch(*range(8))
    assert memory.reason(0) == "least recently used of segment 1 of 4"
    assert memory.reason(7) == "least recently used of segment 4 of 4"
