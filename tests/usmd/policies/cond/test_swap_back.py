"""swap_back: the most recently swapped pages first, while memory is free."""

import pytest

from tests.support.fake_view import fake_view
from usmd.errors import InvalidArgument
from usmd.policies.cond.swap_back import SwapBack


def policy_with(*pages, **parameters):
    policy = SwapBack(fake_view(frame_count=100, free_frames=100), **parameters)
    for page in pages:
        policy.page_swapped(page, 0)
    return policy


def requested(policy, free=100):
    policy.memory.free_frames = free
    requests = policy.turn()
    return [] if requests is None else list(requests.swap_in)


def test_the_most_recently_swapped_pages_come_first():
    assert requested(policy_with(1, 2, 3)) == [3, 2, 1]


def test_as_many_as_are_free_above_the_mark_and_at_most_a_batch():
    policy = policy_with(*range(9), batch=4)
    assert [requested(policy, free) for free in (0, 20, 21, 23, 90)] == [[], [], [8], [8, 7, 6], [8, 7, 6, 5]]


def test_what_returned_is_not_requested():
    policy = policy_with(1, 2, 3)
    policy.page_returned(3)
    policy.page_returned(9)  # it has never heard of this one
    assert requested(policy) == [2, 1]
    policy.page_swapped(3, 0)
    assert requested(policy) == [3, 2, 1]


def test_a_page_that_was_moved_to_another_device_keeps_its_place():
    policy = policy_with(1, 2, 3)
    policy.page_swapped(1, 1)
    assert requested(policy) == [3, 2, 1]


def test_it_remembers_the_last_ones_only():
    policy = policy_with(*range(9), remember=3)
    assert requested(policy) == [8, 7, 6]


@pytest.mark.parametrize("parameters", [{"free": -0.1}, {"free": 1.1}, {"batch": 0}, {"remember": 0}])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidArgument, match="allowed are free from 0 to 1"):
        policy_with(**parameters)
