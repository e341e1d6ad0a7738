"""trim: between two marks, each process its part."""

import pytest

from tests.support.fake_view import fake_view
from usmd.errors import InvalidArgument
from usmd.policies.cond.trim import Trim


def memory(free, leaving=0, resident=None):
    resident = 100 - free if resident is None else resident
    return fake_view(frame_count=100, free_frames=free, leaving_frames=leaving, resident_pages=resident)


def requested(policy, *where, **more):
    policy.memory = memory(*where, **more)
    requests = policy.turn()
    return 0 if requests is None else requests.trim


def test_it_begins_below_the_low_mark_and_ends_at_the_high_one():
    policy = Trim(memory(50))
    assert [requested(policy, free) for free in (50, 7, 5, 4, 5, 9, 10, 7, 4)] == [0, 0, 0, 6, 5, 1, 0, 0, 6]


def test_what_is_on_its_way_out_counts_as_free():
    policy = Trim(memory(50))
    assert [requested(policy, free, leaving) for free, leaving in ((2, 3), (2, 2), (2, 5), (2, 8))] == [0, 6, 3, 0]


def test_a_process_gives_its_part_and_at_least_a_page():
    policy = Trim(memory(50), low=0.2, high=0.5)
    assert [requested(policy, 0, resident=resident) for resident in (100, 50, 1, 0)] == [50, 25, 1, 0]


def test_all_of_memory_can_be_asked_for():
    policy = Trim(memory(50), low=1, high=1)
    assert [requested(policy, free) for free in (0, 99, 100)] == [100, 1, 0]
    assert requested(Trim(memory(0), low=0, high=0), 0) == 0


@pytest.mark.parametrize("marks", [{"low": -0.1}, {"low": 0.2}, {"high": 1.1}, {"low": float("nan")}])
def test_marks_out_of_range_are_refused(marks):
    with pytest.raises(InvalidArgument, match="allowed is 0 <= low <= high <= 1"):
        Trim(memory(50), **marks)
