"""Pins: what is allowed, what it costs, and how they end."""

import pytest

from tests.support.pinning_app import DATA, App
from tests.support.real_shell import DONE, RealShell
from tests.support.shell import make_core
from usmd.core import commands, events
from usmd.core.frames import UNEVICTABLE
from usmd.core.region import page_key
from usmd.errors import InvalidArgument, LimitExceeded, NotFound, OutOfRange

# All or none


def test_a_range_that_is_there_is_pinned():
    app = App(4)
    assert app.pin(1, 2) == []
    assert app.pinned() == [1, 2]
    assert (app.own.pinned, app.state.pinned) == (2, 2)


def test_with_an_absent_page_nothing_is_pinned_and_all_that_are_absent_are_told():
    app = App(5)
    app.shell.evict(app.process, app.region, 1, 1)
    assert app.pin(0, 8) == [1, 5, 6, 7]
    assert (app.pinned(), app.victims()) == ([], [0, 2, 3, 4])
    for page in (1, 5):
        app.shell.get(app.process, app.region, page)
    assert app.pin(0, 6) == []
    assert app.pinned() == [0, 1, 2, 3, 4, 5]


def test_a_page_that_is_coming_in_is_absent():
    app = App(1, auto_io=False)
    app.shell.evict(app.process, app.region)
    app.shell.complete_io()
    app.shell.fault(app.process, app.region, 0)
    assert app.states(0) == ["FILLING"]
    assert app.pin() == [0]
    app.shell.complete_io()
    assert (app.pin(), app.pinned()) == ([], [0])


def test_a_page_on_its_way_out_is_taken_back_unless_another_is_absent():
    app = App(2, auto_io=False)
    app.shell.evict(app.process, app.region)
    assert app.pin(0, 3) == [2]
    assert app.states(0, 1) == ["EVICTING"] * 2
    assert app.pin(0, 2) == []
    assert app.states(0, 1) == ["PRESENT"] * 2
    while app.shell.pending:
        app.shell.complete_io()
    assert (app.pinned(), app.victims()) == ([0, 1], [])
    assert app.shell.get(app.process, app.region, 1) == DATA
    assert app.shell.counters()["retaken"] == 2


def test_a_real_page_on_its_way_out_that_is_pinned_may_be_written_to():
    app = App(0, shell=RealShell(make_core(), auto_io=False))
    app.shell.touch(app.process, app.region, 0, DATA)
    app.shell.evict(app.process, app.region)
    assert page_key(app.region, 0) in app.shell.protected
    assert app.pin() == []
    assert app.shell.touch(app.process, app.region, 0, DATA).state == DONE
    assert app.shell.counters()["faults"] == 1


def test_a_pinned_page_takes_no_fault_for_good():
    app = App(0, shell=RealShell(make_core(frames=3)))
    app.shell.touch(app.process, app.region, 0, DATA)
    app.pin()
    for page in (1, 2, 3, 4):
        assert app.shell.touch(app.process, app.region, page, DATA).state == DONE
    assert app.shell.touch(app.process, app.region, 0).read == DATA
    assert app.shell.counters()["faults"] == 5


# The budget


def test_a_pin_over_the_budget_is_refused_and_changes_nothing():
    app = App(4, deny_budget=3)
    with pytest.raises(
        LimitExceeded,
        match=r"a pin of 4 pages \(64 B\) from page 0 of region 1 would keep 4 more frames in memory, and 3 may "
        r"be: memory.deny_budget is 3 pages \(48 B\), of which EVICTION=DENY keeps 0 and pins 0",
    ):
        app.pin(0, 4)
    assert (app.pinned(), app.victims(), app.state.pinned) == ([], [0, 1, 2, 3], 0)
    assert app.pin(0, 3) == []


def test_the_budget_is_asked_before_anything_comes_in():
    app = App(2, deny_budget=2)
    with pytest.raises(LimitExceeded, match="3 more frames"):
        app.pin(0, 3)
    assert app.pin(1, 2) == [2]
    with pytest.raises(LimitExceeded, match=r"a pin of 5 pages .* 5 more frames"):
        app.shell.do(events.Pin(app.process, app.region, 0, 1, planned=5))
    assert app.shell.do(events.Pin(app.process, app.region, 0, 1, planned=2)).absent == []
    assert app.pinned() == [0]
    with pytest.raises(OutOfRange):
        app.shell.do(events.Pin(app.process, app.region, 7, 1, planned=2))


def test_a_refused_pin_does_not_take_back_what_is_on_its_way_out():
    app = App(2, deny_budget=1, auto_io=False)
    app.shell.evict(app.process, app.region)
    with pytest.raises(LimitExceeded):
        app.pin(0, 2)
    assert app.states(0, 1) == ["EVICTING"] * 2


def test_eviction_deny_takes_from_the_budget_of_pins():
    app = App(4, deny_budget=3)
    assert app.hint("EVICTION=DENY", 2, 2).over_budget == 0
    with pytest.raises(
        LimitExceeded, match=r"2 more frames in memory, and 1 may be: memory.deny_budget.*keeps 2 and pins 0"
    ):
        app.pin(0, 2)
    assert app.pin(0, 1) == []
    app.hint("", 2, 2)
    assert app.pin(1, 2) == []


def test_pins_take_from_the_budget_of_eviction_deny():
    app = App(4, deny_budget=3)
    app.pin(0, 2)
    answer = app.hint("EVICTION=DENY", 2, 2)
    assert answer.over_budget == 1
    assert [bool(app.flags(page) & UNEVICTABLE) for page in (2, 3)] == [True, False]
    app.unpin(0, 2)
    assert app.hint("EVICTION=DENY", 2, 2).over_budget == 0


def test_a_page_that_comes_in_under_deny_gets_what_pins_leave():
    app = App(2, deny_budget=2)
    app.pin(0, 2)
    app.hint("EVICTION=DENY", 2, 1)
    app.shell.put(app.process, app.region, 2, DATA)
    assert not app.flags(2) & UNEVICTABLE
    assert app.shell.counters()["deny_over_budget"] == 1
    assert app.victims() == [2]


def test_the_budget_of_all_is_shared_by_processes():
    app = App(3, deny_budget=3, deny_budget_total=4)
    other = App(3, shell=app.shell)
    app.pin(0, 3)
    with pytest.raises(
        LimitExceeded, match=r"2 more frames in memory, and 1 may be: memory.deny_budget_total is 4 pages.*pins 3"
    ):
        other.pin(0, 2)
    other.hint("EVICTION=DENY")
    with pytest.raises(LimitExceeded, match="1 more frames in memory, and 0 may be"):
        other.pin(1, 1)
    app.shell.do(events.Detach(app.process, "bye"))
    assert other.pin(1, 2) == []


def test_a_page_pinned_already_costs_nothing_more():
    app = App(4, deny_budget=2)
    app.pin(0, 2)
    assert app.pin(0, 2) == []
    with pytest.raises(LimitExceeded, match="would keep 1 more"):
        app.pin(1, 2)
    assert app.own.pinned == 2


# As many unpins as pins


def test_a_page_stays_until_as_many_unpins_as_pins():
    app = App(2)
    for _ in range(3):
        app.pin(0, 2)
    for _ in range(2):
        app.unpin(0, 2)
        assert (app.pinned(), app.victims()) == ([0, 1], [])
    app.unpin(0, 2)
    assert (app.pinned(), app.victims()) == ([], [0, 1])
    assert app.state.pinned == 0


def test_pins_of_ranges_that_overlap_end_each_by_itself():
    app = App(4)
    app.pin(0, 3)
    app.pin(2, 2)
    app.unpin(0, 3)
    assert app.pinned() == [2, 3]
    app.unpin(2, 2)
    assert app.pinned() == []


def test_an_unpin_of_what_is_not_pinned_is_refused_and_changes_nothing():
    app = App(4)
    app.pin(0, 2)
    for first, count, loose in ((2, 1, 2), (0, 3, 2), (1, 7, 2), (5, 1, 5)):
        with pytest.raises(InvalidArgument, match=f"page {loose} of region {app.region} is not pinned"):
            app.unpin(first, count)
    assert app.pinned() == [0, 1]
    app.unpin(0, 2)
    with pytest.raises(InvalidArgument, match=r"page 0 .* is not pinned; unpin what was pinned"):
        app.unpin(0, 2)


@pytest.mark.parametrize("event", [events.Pin, events.Unpin])
@pytest.mark.parametrize(
    ("first", "count", "error", "says"),
    [
        (0, 0, InvalidArgument, "a pin of 0 pages; allowed are 1 to 8"),
        (0, -1, InvalidArgument, "a pin of -1 pages"),
        (0, 9, InvalidArgument, "a pin of 9 pages; allowed are 1 to 8"),
        (0, 1 << 70, InvalidArgument, "allowed are 1 to 8"),
        (-1, 2, OutOfRange, "pages -1 to 0 of region"),
        (15, 2, OutOfRange, "pages 15 to 16 of region"),
        (16, 1, OutOfRange, "which has pages 0 to 15"),
        (1 << 70, 1, OutOfRange, "which has pages 0 to 15"),
    ],
)
def test_a_range_that_cannot_be_is_refused(event, first, count, error, says):
    app = App(2, pages=16)
    app.pin(0, 2)
    with pytest.raises(error, match=says):
        app.shell.do(event(app.process, app.region, first, count))
    assert app.pinned() == [0, 1]


@pytest.mark.parametrize("event", [events.Pin, events.Unpin])
def test_the_region_of_another_is_not_found(event):
    app = App(2)
    app.pin(0, 2)
    stranger = app.shell.attach("stranger")
    for process, region in ((stranger, app.region), (app.process, 99), (77, app.region)):
        with pytest.raises(NotFound):
            app.shell.do(event(process, region, 0, 1))
    assert app.pinned() == [0, 1]


# What goes with its region


def test_unmapping_a_region_ends_its_pins_and_no_others():
    app = App(2)
    other = app.shell.map(app.process, 2)
    for page in range(2):
        app.shell.put(app.process, other, page, DATA)
    app.pin(0, 2)
    app.pin(0, 2)
    app.shell.do(events.Pin(app.process, other, 0, 2))
    app.shell.do(events.Unmap(app.process, app.region))
    assert [page in app.state.regions[other].pins for page in (0, 1)] == [True, True]
    assert (app.own.pinned, app.state.pinned, app.state.frames.free) == (2, 2, 6)
    app.shell.do(events.Unpin(app.process, other, 0, 2))
    assert app.state.pinned == 0


def test_a_session_that_ends_ends_its_pins():
    app = App(3, evict="lru")
    app.pin(0, 3)
    app.hint("EVICTION=DENY", 0, 2)
    app.shell.do(events.Detach(app.process, "bye"))
    assert (app.state.pinned, app.state.unevictable, app.state.frames.free) == (0, 0, 8)
    again = App(3, shell=app.shell)
    assert again.pin(0, 3) == []


def test_a_process_that_is_killed_for_memory_loses_its_pins():
    app = App(3, frames=4, devices=(), oom="kill_largest")
    other = App(1, shell=app.shell, oom="kill_largest")
    app.pin(0, 3)
    app.shell.do(events.Faults(other.process, [events.FaultRequest(1, other.region, 1, 1, True)]))
    assert app.shell.ended[app.process].killed
    assert app.state.pinned == 0
    assert isinstance(app.shell.outcomes[other.process][-1], commands.Allocated)
