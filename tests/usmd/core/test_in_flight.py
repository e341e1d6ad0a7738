"""Records of what is under way: who hears of the end of a fill, and what an eviction begins with."""

from tests.support.shell import make_core
from usmd.core.events import PageFault
from usmd.core.frames import NO_SLOT
from usmd.core.in_flight import Evicting, Filling
from usmd.core.real_faults import ThreadWaiter
from usmd.core.region import EvictionRecord, Process, Region


def some_region():
    return Region(1, Process(1, "app", None, None, None), 0, 16, 16, "")


def test_the_touch_of_the_first_that_parks_is_the_fill_and_those_of_others_are_accesses():
    filling = Filling(some_region(), 7, writable=False)
    faults = make_core()._real_faults
    waiters = [ThreadWaiter(faults, filling.region, PageFault(1, 0, False), parked=True) for _ in range(3)]
    for waiter in waiters:
        filling.park(waiter)
    assert filling.waiters == waiters
    assert [each.told for each in waiters] == [True, False, False]
    assert filling.yields is None


def test_an_eviction_begins_without_a_slot_and_refused_by_none():
    evicting = Evicting(some_region(), 3, EvictionRecord(0, 0.0, "fifo", ""))
    assert (evicting.reference, evicting.refused, evicting.device) == (NO_SLOT, 0, None)
