"""Pinned pages: nothing takes one, and what hints and policies make of it meanwhile."""

import pytest

from tests.support.pinning_app import DATA, App
from tests.support.real_shell import SIGBUS, RealShell
from tests.support.shell import make_core
from usmd.core import events
from usmd.core.frames import PINNED, UNEVICTABLE

EVICT = ["fifo", "lru", "hint_aware", "hint_aware(fallback=fifo)"]


# With hints


@pytest.mark.parametrize("evict", EVICT)
def test_a_pinned_page_may_be_unevictable_and_allowed_again_and_stays(evict):
    app = App(3, evict=evict)
    app.pin()
    app.hint("EVICTION=DENY")
    assert app.flags(0) & (UNEVICTABLE | PINNED) == UNEVICTABLE | PINNED
    assert sorted(app.victims()) == [1, 2]
    app.hint("")
    assert app.flags(0) & (UNEVICTABLE | PINNED) == PINNED
    assert sorted(app.victims()) == [1, 2]
    app.unpin()
    assert sorted(app.victims()) == [0, 1, 2]
    assert (app.state.unevictable, app.state.pinned) == (0, 0)


@pytest.mark.parametrize("evict", EVICT)
def test_an_unevictable_page_may_be_pinned_and_is_unevictable_still_when_that_ends(evict):
    app = App(3, evict=evict)
    app.hint("EVICTION=DENY")
    app.pin()
    app.unpin()
    assert app.flags(0) & (UNEVICTABLE | PINNED) == UNEVICTABLE
    assert sorted(app.victims()) == [1, 2]
    app.hint("")
    assert sorted(app.victims()) == [0, 1, 2]
    assert (app.state.unevictable, app.state.pinned) == (0, 0)


@pytest.mark.parametrize("evict", EVICT)
def test_a_priority_that_changes_while_a_page_is_pinned_holds_afterwards(evict):
    app = App(3, evict=evict)
    app.pin(0, 2)
    app.hint("PRIORITY=HIGH")
    app.hint("PRIORITY=LOW", 1)
    app.unpin(0, 2)
    assert sorted(app.victims()) == [0, 1, 2]
    if evict.startswith("hint_aware"):
        assert app.victims() == [1, 2, 0]
    app.hint("", 0, 3)
    app.shell.do(events.Unmap(app.process, app.region))
    assert app.victims() == []
    assert app.shell.counters()["policy_errors"] == 0


def test_a_deny_that_expires_leaves_a_pin_alone():
    app = App(2)
    app.pin()
    app.hint("EVICTION=DENY; TTL=1")
    app.shell.tick(2)
    assert app.flags(0) & (UNEVICTABLE | PINNED) == PINNED
    assert app.victims() == [1]


# Nobody takes a pinned page


@pytest.mark.parametrize("evict", EVICT)
def test_the_policy_knows_a_page_again_when_its_last_pin_ends(evict):
    app = App(4, evict=evict)
    app.pin(1, 2)
    assert sorted(app.victims()) == [0, 3]
    app.unpin(1, 2)
    assert sorted(app.victims()) == [0, 1, 2, 3]
    assert app.shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("evict", EVICT)
def test_reclaim_between_the_watermarks_passes_pinned_pages(evict):
    app = App(0, pages=32, frames=8, low=2, high=4, evict=evict)
    for page in range(3):
        app.shell.put(app.process, app.region, page, DATA)
    app.pin(0, 3)
    for page in range(3, 32):
        app.shell.put(app.process, app.region, page, DATA)
    app.shell.tick(1)
    assert app.states(0, 1, 2) == ["PRESENT"] * 3
    assert app.state.frames.free >= 2
    assert app.shell.counters()["policy_errors"] == 0


def test_dontneed_passes_pinned_pages():
    app = App(4)
    app.pin(1, 2)
    app.hint("DONTNEED", 0, 4)
    assert app.states(0, 1, 2, 3) == ["SWAPPED", "PRESENT", "PRESENT", "SWAPPED"]


def test_with_all_pinned_a_fault_is_refused_and_says_so():
    app = App(4, frames=4)
    app.pin(0, 4)
    (failed,) = app.shell.fault(app.process, app.region, 4)
    assert failed.error.reason == "OUT_OF_MEMORY"
    assert "none can be evicted (0 unevictable, 4 pinned" in str(failed.error)
    assert app.states(0, 1, 2, 3) == ["PRESENT"] * 4
    app.unpin(0, 4)
    app.shell.put(app.process, app.region, 4, DATA)


def test_the_sweep_before_the_oom_policy_passes_pinned_pages():
    """A policy that names nothing leaves it to the sweep."""
    app = App(3, frames=4)
    app.pin(0, 3)
    for page in range(3, 8):
        app.shell.put(app.process, app.region, page, DATA)
    assert app.states(0, 1, 2) == ["PRESENT"] * 3
    for pfn in range(4):  # a policy that forgot all its pages
        if app.state.links.owner[pfn]:
            app.own.policies.page_left(pfn)
    app.shell.put(app.process, app.region, 3, DATA)
    app.shell.put(app.process, app.region, 4, DATA)
    assert app.states(0, 1, 2) == ["PRESENT"] * 3


def test_a_thread_that_finds_all_memory_pinned_gets_sigbus():
    app = App(0, shell=RealShell(make_core(frames=2)))
    for page in range(2):
        app.shell.touch(app.process, app.region, page, DATA)
    app.pin(0, 2)
    assert app.shell.touch(app.process, app.region, 2).state == SIGBUS
    assert app.shell.counters()["poisoned"] == 1


def test_the_process_with_most_pages_that_can_go_gives_first():
    large = App(5, pages=6, frames=9)
    small = App(3, pages=6, shell=large.shell)
    large.pin(0, 4)
    small.shell.put(small.process, small.region, 3, DATA)
    large.shell.put(large.process, large.region, 5, DATA)
    assert large.states(0, 1, 2, 3, 4) == ["PRESENT"] * 5
    assert small.states(0, 1, 2, 3).count("SWAPPED") == 1


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_a_pin_outlives_the_hold_of_a_fault(seconds):
    app = App(0, frames=4, hold_budget=2)
    app.shell.fault(app.process, app.region, 0, write=True)
    app.pin()
    app.shell.tick(seconds)
    app.hint("DONTNEED")
    assert app.states(0) == ["PRESENT"]
    app.unpin()
    app.hint("DONTNEED")
    assert app.states(0) == ["ABSENT"]


def test_pages_pinned_and_unevictable_do_not_keep_the_others_of_their_process_from_going():
    app = App(2, frames=5, low=2, high=3)
    app.hint("EVICTION=DENY", 0, 2)
    app.pin(0, 2)
    app.shell.put(app.process, app.region, 2, DATA)
    app.shell.put(app.process, app.region, 3, DATA)
    assert app.states(0, 1, 2, 3) == ["PRESENT", "PRESENT", "SWAPPED", "PRESENT"]
    assert app.state.frames.free == 2
