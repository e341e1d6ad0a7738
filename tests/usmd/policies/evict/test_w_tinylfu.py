"""w_tinylfu: a page that leaves the window takes a place in the main part if it was used more often than who had it."""

import pytest

from tests.support.access_traces import SmallMemory, one_hit_wonders, zipf
from usmd.errors import InvalidArgument
from usmd.policies.evict.w_tinylfu import CountingFilter


def parts(memory):
    policy = memory.policy
    return memory.pages(policy.window), memory.pages(policy.probation), memory.pages(policy.protected)


def filled():
    """Eleven pages: a window of one frame, two on probation, eight protected."""
    memory = SmallMemory("w_tinylfu", 11)
    memory.touch(*range(11))
    memory.touch(11)
    return memory


def test_memory_is_a_window_and_a_main_part_in_two():
    memory = filled()
    assert [len(each) for each in parts(memory)] == [1, 2, 8]
    assert parts(memory) == ([11], [0, 1], [2, 3, 4, 5, 6, 7, 8, 9])


@pytest.mark.parametrize("main", [5, 10, 15, 20, 25, 30, 100, 105])
def test_where_a_fifth_of_the_main_part_is_whole_probation_has_all_of_it(main):
    memory = SmallMemory("w_tinylfu", main + 1, pages=256)
    memory.touch(*range(main + 2))
    assert len(memory.policy.probation) == main // 5


def test_a_page_that_is_used_once_goes_out_of_the_window():
    memory = SmallMemory("w_tinylfu", 101, pages=256)
    memory.touch(*range(102))
    _, *main = parts(memory)
    for page in range(150, 180):
        memory.touch(page)
        assert parts(memory) == ([page], *main)


def test_a_page_that_is_used_more_often_than_the_one_on_probation_takes_its_place():
    memory = SmallMemory("w_tinylfu", 101, pages=256)
    memory.touch(*range(102))
    assert parts(memory)[1] == list(range(20))
    memory.touch(200)
    assert memory.touch(201) == [200], "0 was counted when it came in and when it went on"
    memory.touch(200)
    assert memory.touch(202) == [0]
    assert parts(memory)[1] == [*range(1, 20), 200]


def test_a_touch_on_probation_protects_and_the_least_recent_protected_page_comes_down():
    memory = filled()
    memory.touch(0)
    assert parts(memory)[1:] == ([1, 2], [3, 4, 5, 6, 7, 8, 9, 0])
    memory.touch(3)
    assert parts(memory)[2] == [4, 5, 6, 7, 8, 9, 0, 3]


def test_a_popular_part_survives_many_pages_that_are_used_once():
    trace = one_hit_wonders(4000, 4000, hot=40, share=0.6).tolist()
    misses = {}
    for evict in ("w_tinylfu", "lru", "fifo"):
        memory = SmallMemory(evict, 40, pages=4096)
        memory.touch(*trace)
        misses[evict] = memory.misses
    assert misses["w_tinylfu"] < 0.85 * misses["lru"] < misses["fifo"]


def test_frequencies_age_when_the_main_part_was_touched_often_enough():
    memory = SmallMemory("w_tinylfu(sample=2)", 11)
    memory.touch(*range(12))
    policy = memory.policy
    places = policy.filter.places(policy.memory.page(memory.frame(5)))
    memory.touch(*[5] * 19)
    before = policy.filter.estimate(places)
    assert before >= 19
    memory.touch(5)
    assert policy.filter.estimate(places) == (before + 1) // 2
    assert policy.touches == 0


def test_the_window_has_its_share_and_one_page_at_least():
    memory = SmallMemory("w_tinylfu(window=0.5)", 20)
    memory.touch(*range(21))
    assert [len(each) for each in parts(memory)] == [10, 2, 8]
    memory = SmallMemory("w_tinylfu", 1)
    memory.touch(*zipf(20, 200, 1.0).tolist())
    assert len(memory.resident) == 1


def test_a_filter_counts_and_seldom_too_much():
    counts = CountingFilter(100)
    assert (counts.hashes, counts.size) == (10, 1438)
    places = [counts.places(key) for key in range(100)]
    for key in range(100):
        for _ in range(key % 5):
            counts.count(places[key])
    estimates = [counts.estimate(each) for each in places]
    assert all(estimate >= key % 5 for key, estimate in enumerate(estimates))
    assert sum(estimate > key % 5 for key, estimate in enumerate(estimates)) <= 2
    for one in range(0, 100, 7):
        assert [counts.exceeds(places[one], each) for each in places] == [estimates[one] > each for each in estimates]
    counts.halve()
    assert counts.estimate(places[4]) == 2
    assert CountingFilter(1).size == 20, "each counter of a key should be its own"


def test_the_counters_of_the_page_in_each_frame_are_kept():
    memory = filled()
    policy, number = memory.policy, memory.policy.filter.hashes
    for pfn in range(11):
        places = policy.filter.places(policy.memory.page(pfn))
        assert list(policy.places[pfn * number : (pfn + 1) * number]) == list(places)


def test_a_policy_without_pages_has_no_filter():
    memory = SmallMemory("hint_aware(fallback=w_tinylfu)", 11)
    memory.touch(*range(12))
    assert [each.filter is None for each in memory.policy.classes] == [True, False, True]


@pytest.mark.parametrize("parameters", ["window=0", "window=1", "protected=0", "protected=1", "sample=0"])
def test_parameters_out_of_range(parameters):
    with pytest.raises(InvalidArgument, match="allowed are shares between 0 and 1, and a sample from 1"):
        SmallMemory(f"w_tinylfu({parameters})", 8)


def test_its_reasons():
    memory = filled()
    assert memory.reason(11) == "least frequent of the victims of window and main part: 1 times, in the window"
    assert memory.reason(0).endswith("times, in the main part")
