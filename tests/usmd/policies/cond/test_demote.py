"""demote: what has been on the fast device for long goes to the slow one."""

import pytest

from tests.support.fake_view import fake_view
from usmd.errors import InvalidArgument
from usmd.policies.cond.demote import Demote


def policy_with(**parameters):
    return Demote(fake_view(now=0.0, movable_pages=100), **parameters)


def requested(policy, now):
    policy.memory.now = now
    requests = policy.turn()
    return [] if requests is None else list(requests.demote)


def swapped(policy, now, *pages, device=0):
    policy.memory.now = now
    for page in pages:
        policy.page_swapped(page, device)


def test_a_page_goes_after_its_time_and_the_oldest_first():
    policy = policy_with()
    swapped(policy, 0.0, 5, 4)
    swapped(policy, 1.0, 6)
    assert [requested(policy, now) for now in (2.9, 3.0, 3.1, 4.0)] == [[], [(5, 1), (4, 1)], [], [(6, 1)]]


def test_what_did_not_go_is_named_again_after_as_long():
    policy = policy_with(after=2.0)
    swapped(policy, 0.0, 5)
    assert [requested(policy, now) for now in (2.0, 3.9, 4.0)] == [[(5, 1)], [], [(5, 1)]]


def test_pages_on_the_slow_device_and_in_memory_are_no_concern():
    policy = policy_with(fast=2, slow=0, after=0.0)
    swapped(policy, 0.0, 1, 2, device=2)
    swapped(policy, 0.0, 3, device=0)
    swapped(policy, 0.0, 1, device=0)
    assert requested(policy, 1.0) == [(2, 0)]
    policy.page_returned(2)
    policy.page_returned(9)
    assert requested(policy, 9.0) == []


def test_a_page_that_was_in_memory_in_between_begins_anew():
    policy = policy_with()
    swapped(policy, 0.0, 1)
    policy.page_returned(1)
    swapped(policy, 2.0, 1)
    assert [requested(policy, now) for now in (3.0, 5.0)] == [[], [(1, 1)]]


def test_as_many_as_there_are_frames_for_and_at_most_a_batch():
    policy = policy_with(batch=3)
    swapped(policy, 0.0, *range(9))
    policy.memory.movable_pages = 2
    assert requested(policy, 3.0) == [(0, 1), (1, 1)]
    policy.memory.movable_pages = 100
    assert requested(policy, 3.0) == [(2, 1), (3, 1), (4, 1)]
    policy.memory.movable_pages = 0
    assert requested(policy, 3.0) == []


@pytest.mark.parametrize("parameters", [{"fast": -1}, {"fast": 1}, {"slow": -2}, {"after": -1.0}, {"batch": 0}])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidArgument, match="two numbers of swap devices"):
        policy_with(**parameters)
