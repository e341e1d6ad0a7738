"""tiers: the oldest pages of a device that is nearly full go down, those below first."""

import pytest

from tests.support.fake_view import fake_view
from usmd.core.settings import DeviceInfo
from usmd.core.swap_map import DeviceMap
from usmd.core.view import TierView
from usmd.errors import InvalidArgument
from usmd.policies.cond.tiers import Tiers


def tier_view(number, share):
    """A device as the policy sees it, with 100 slots in use; compiled, it accepts nothing that only looks like one."""
    view = TierView(DeviceMap(number, DeviceInfo(f"tier{number}", 100)), 0.0)
    view.share, view.takes, view.used = share, True, 100
    return view


class Bench:
    """A policy over devices whose shares and slots in use the test sets."""

    def __init__(self, shares=(0.0, 0.0, 0.0), **parameters):
        self.since = {}
        self.tiers = [tier_view(number, share) for number, share in enumerate(shares)]
        self.memory = fake_view(now=0.0, movable_pages=1000, swap_tiers=lambda: self.tiers, stored_since=self.since.get)
        self.policy = Tiers(self.memory, **parameters)

    def swapped(self, *pages, device=0, now=None):
        self.memory.now = self.memory.now if now is None else now
        for page in pages:
            self.since[page] = self.memory.now
            self.policy.page_swapped(page, device)

    def turn(self, now=None):
        self.memory.now = self.memory.now if now is None else now
        requests = self.policy.turn()
        return [] if requests is None else list(requests.demote)


def test_nothing_goes_below_the_high_mark():
    bench = Bench(shares=(0.9, 0.9, 1.0))
    bench.swapped(*range(10))
    bench.swapped(*range(10, 20), device=1)
    assert bench.turn() == []


def test_above_it_the_oldest_go_until_the_low_mark():
    bench = Bench(shares=(1.0, 0.0, 0.0), low=0.5)
    bench.swapped(*range(10, 0, -1))
    assert bench.turn() == [(page, 1) for page in (10, 9, 8, 7, 6)]
    for page in (10, 9, 8, 7):
        bench.swapped(page, device=1)
    bench.tiers[0].share = 0.6
    assert bench.turn() == [(5, 1)], "one of the six that are left"
    bench.tiers[0].share = 0.5
    assert bench.turn() == []
    bench.tiers[0].share = 0.8
    assert bench.turn() == [], "until it is above the high mark again"


def test_the_lowest_device_that_is_too_full_gives_first_and_the_last_one_never():
    bench = Bench(shares=(1.0, 0.95, 1.0), low=0.0, batch=3)
    bench.swapped(1, 2)
    bench.swapped(11, 12, device=1)
    bench.swapped(21, device=2)
    assert bench.turn() == [(11, 2), (12, 2), (1, 2)]


def test_a_device_that_takes_no_page_is_passed_over():
    bench = Bench(shares=(1.0, 0.0, 0.0), low=0.0)
    bench.swapped(1)
    bench.tiers[1].takes = False
    assert bench.turn() == [(1, 2)]
    bench.tiers[2].takes = False
    assert bench.turn() == []


def test_with_a_time_pages_go_when_it_is_over_whatever_is_full():
    bench = Bench(after=3.0)
    bench.swapped(1, now=0.0)
    bench.swapped(2, device=1, now=0.0)
    bench.swapped(3, now=1.0)
    assert bench.turn(2.9) == []
    assert bench.turn(3.0) == [(2, 2), (1, 1)]
    bench.swapped(2, device=2)
    bench.swapped(1, device=1)
    assert bench.turn(4.0) == [(3, 1)]
    assert bench.turn(5.9) == [(3, 1)], "it stayed, and is named again"
    assert bench.turn(6.0) == [(1, 2), (3, 1)], "and one that went down goes further"


def test_a_page_that_stays_lets_others_go_before_it_is_named_again():
    bench = Bench(shares=(1.0, 0.0, 0.0), low=0.0, batch=2)
    bench.swapped(1, 2, 3)
    assert [bench.turn(), bench.turn()] == [[(1, 1), (2, 1)], [(3, 1), (1, 1)]]


def test_no_more_than_may_be_moved_now():
    bench = Bench(shares=(1.0, 0.0, 0.0), low=0.0)
    bench.swapped(1, 2, 3)
    bench.memory.movable_pages = 1
    assert bench.turn() == [(1, 1)]
    bench.memory.movable_pages = 0
    assert bench.turn() == []


def test_pages_in_memory_are_no_concern():
    bench = Bench(shares=(1.0, 0.0, 0.0), low=0.0)
    bench.swapped(1, 2)
    bench.policy.page_returned(1)
    bench.policy.page_returned(9)
    assert bench.turn() == [(2, 1)]
    bench.policy.page_returned(2)
    assert bench.turn() == []


def test_it_promotes_unless_told_otherwise():
    assert (Bench().policy.promotes, Bench(promote=False).policy.promotes) == (True, False)


@pytest.mark.parametrize("parameters", [{"high": 1.1}, {"low": -0.1}, {"low": 0.95}, {"after": -1.0}, {"batch": 0}])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(InvalidArgument, match="0 <= low <= high <= 1"):
        Bench(**parameters)
