"""Pages that a conditional policy moves from one swap device to another, and what comes in between."""

import pytest

from tests.support.conditional_app import App
from tests.support.shell import PAGE
from usmd.core import commands, events
from usmd.core.policy import Requests
from usmd.errors import DataLoss, NoRoom, Refused, SwapIOError

# Demotion


def test_a_demoted_page_is_on_the_other_device_with_its_bytes():
    app = App(4, [0, 1], low=1, high=2)
    before = app.counted("evictions", "clean_drops", "faults", "read_ahead")
    app.demote(1)
    assert app.states() == ["SWAPPED", "SWAPPED", "PRESENT", "PRESENT"]
    assert [app.device(0), app.device(1)] == [0, 1]
    assert app.used() == [1, 1]
    assert app.policy.told == [("swapped", app.key(1), 1)]
    assert app.counted("demotions", "swap_ins", "swap_outs") == [1, 1, 3]
    assert app.counted("evictions", "clean_drops", "faults", "read_ahead") == before
    assert app.state.regions[app.region].evictions == 2
    record = app.state.processes[app.process].evictions[-1]
    assert (record.page, record.policy, record.reason, record.result) == (
        app.key(1), "requester", "demoted to swap device slow", "demoted",
    )  # fmt: skip
    app.is_right()
    assert app.errors == 0


def test_the_evict_policy_hears_of_a_demoted_page_when_it_is_retaken_only():
    app = App(4, [0])
    evict = app.state.processes[app.process].policies
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()  # the read; the write is under way
    assert (app.states()[0], len(list(evict.candidates(9)))) == ("EVICTING", 3)
    app.shell.fault(app.process, app.region, 0)
    assert (app.states()[0], len(list(evict.candidates(9)))) == ("PRESENT", 4)


def test_a_fault_during_the_read_ends_the_demotion():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    assert app.states()[0] == "FILLING"
    assert app.shell.fault(app.process, app.region, 0, fault_id=5) == []
    app.shell.complete_io()
    assert app.shell.outcomes[app.process][-1] == commands.Allocated(5, ((0, 0, 1),))
    assert app.states()[0] == "PRESENT"
    assert app.policy.told == [("returned", app.key(0), None)]
    assert (app.used(), list(app.shell.pending)) == ([1, 0], [])
    app.is_right()
    assert app.counted("demotions") == [0]


def test_the_read_of_a_page_that_moves_is_told_from_one_that_is_waited_for():
    app = App(4, [0, 1])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.fault(app.process, app.region, 1)
    assert [(page.page == app.key(0), page.moves) for _, page in app.shell.pending] == [(True, True), (False, False)]
    app.is_right()


def test_a_fault_during_the_write_retakes_the_page():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()
    assert (app.states()[0], app.used()) == ("EVICTING", [1, 1])
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(0), 1)]))
    assert app.errors == 0
    (outcome,) = app.shell.fault(app.process, app.region, 0, fault_id=5, write=True)
    assert isinstance(outcome, commands.Allocated)
    assert app.shell.store(app.process, app.region, 0, b"new " * 4)
    assert app.policy.told == [("returned", app.key(0), None)]
    app.shell.complete_io()
    assert app.used() == [0, 0]
    app.shell.auto_io = True
    app.shell.evict(app.process, app.region, 0, 1)
    assert app.shell.get(app.process, app.region, 0) == b"new " * 4
    assert app.counted("demotions") == [0]


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("end", ["unmap", "detach"])
def test_a_region_that_goes_during_a_demotion_leaves_nothing(steps, end):
    app = App(4, [0, 1])
    app.shell.auto_io = False
    app.demote(0, 1)
    for _ in range(2 * steps):
        app.shell.complete_io()
    assert app.states()[:2] == [["FILLING"] * 2, ["EVICTING"] * 2][steps]
    event = events.Unmap(app.process, app.region) if end == "unmap" else events.Detach(app.process, "bye")
    app.shell.do(event)
    while app.shell.pending:
        app.shell.complete_io()
    assert (app.used(), app.state.frames.free, app.shell.slots) == ([0, 0], 8, {})
    if end == "unmap":
        assert app.policy.known == {}
        app.turn()
        assert app.errors == 0


def test_a_device_without_room_is_not_read_for():
    app = App(4, [0, 1, 2], slots=(16, 1))
    app.demote(0, 1, 2)
    assert [app.device(page) for page in range(3)] == [1, 0, 0]
    app.demote(1, 2)
    assert app.counted("demotions", "swap_ins") == [1, 1]
    assert app.errors == 0
    app.is_right()


def test_no_more_pages_move_than_the_rate_allows():
    app = App(4, [0, 1, 2, 3], demotion_rate=10 * PAGE)
    app.demote(0, 1, 2, 3)  # 0.1 s: one page
    assert app.counted("demotions") == [1]
    app.shell.tick(10.0)
    app.demote(1, 2, 3)
    assert app.counted("demotions") == [3], "two pages were saved up"
    assert app.errors == 0
    app.is_right()


def test_a_device_that_became_full_meanwhile_leaves_the_page_where_it_was():
    app = App(4, [0], slots=(16, 1))
    app.shell.auto_io = False
    app.demote(0)
    app.shell.hint(app.process, app.region, "SWAP=slow; DONTNEED", 3, 1)
    assert app.used() == [1, 1]
    app.shell.complete_io()
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [1, 1])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.state.processes[app.process].evictions[-1].result == "no swap slot"
    app.is_right()
    assert app.counted("demotions") == [0]


def test_a_write_that_fails_leaves_the_page_where_it_was_and_the_device_rests():
    app = App(4, [0, 1])
    app.shell.fail_write = SwapIOError("the disk is full")
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [2, 0])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.counted("demotions", "swap_write_errors", "swap_ins") == [0, 1, 1]
    app.shell.fail_write = None
    app.demote(0, 1)
    assert app.counted("demotions", "swap_ins") == [0, 1]
    app.shell.tick(2)
    app.demote(0, 1)
    assert ([app.device(0), app.device(1)], app.used()) == ([1, 1], [0, 2])
    app.is_right()
    assert app.errors == 0


@pytest.mark.parametrize("error", [Refused("it does not compress"), NoRoom("it is full")])
def test_a_write_that_is_refused_leaves_the_page_where_it_was_and_the_device_does_not_rest(error):
    app = App(4, [0, 1])
    app.shell.refuses = {1: error}
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [2, 0])
    assert app.policy.told == [("swapped", app.key(0), 0)]
    assert app.counted("demotions", "swap_write_errors", "swap_ins") == [0, 0, 1]
    assert app.state.processes[app.process].evictions[-1].result == "refused"
    app.shell.refuses = {}
    app.demote(0)
    assert app.device(0) == (0 if isinstance(error, NoRoom) else 1)
    app.is_right()
    assert app.errors == 0


@pytest.mark.parametrize("error", [SwapIOError("the disk said no"), DataLoss("the checksum is wrong")])
def test_a_read_that_fails_leaves_the_page_where_it_was(error):
    app = App(4, [0])
    app.shell.fail_read = error
    app.demote(0)
    assert (app.states()[0], app.device(0), app.used()) == ("SWAPPED", 0, [1, 0])
    assert app.state.frames.free == 5
    assert app.policy.told == [("returned", app.key(0), None)]
    assert app.counted("demotions", "swap_read_errors") == [0, 1]
    app.shell.fail_read = None
    app.is_right()


def test_hints_say_where_a_page_goes_and_whether():
    app = App(4, [0, 1, 2, 3])
    for page, hint in enumerate(["EVICTION=DENY", "SWAP=fast", "SWAP=1", "PRIORITY=LOW"]):
        app.shell.hint(app.process, app.region, hint, page, 1)
    app.demote(0, 1, 2, 3)
    assert [app.device(page) for page in range(4)] == [0, 0, 1, 1]
    assert app.errors == 0
    app.is_right()


def test_a_page_that_shall_stay_by_now_stays_in_memory():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.hint(app.process, app.region, "EVICTION=DENY", 0, 1)
    app.shell.complete_io()
    assert (app.states()[0], app.state.unevictable) == ("PRESENT", 1)
    assert app.policy.told == [("returned", app.key(0), None)]


def test_a_page_on_its_way_to_another_device_stays_when_that_is_unevictable():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    app.shell.complete_io()
    app.shell.hint(app.process, app.region, "EVICTION=DENY; PRIORITY=HIGH", 0, 1)
    assert (app.states()[0], app.state.unevictable) == ("PRESENT", 1)
    assert app.policy.told == [("returned", app.key(0), None)]
    app.is_right()
    assert app.used() == [1, 0]


def test_a_page_that_cannot_be_protected_stays_in_memory():
    app = App(4, [0])
    app.shell.auto_io = False
    app.demote(0)
    happened = app.shell.core.handle(app.shell._completion(), app.shell.now)
    (protect,) = [each for each in happened if isinstance(each, commands.Protect)]
    app.shell.do(events.Protected(protect.ticket, protect.frames, [None]))
    assert app.states()[0] == "PRESENT"
    assert app.policy.told == [("returned", app.key(0), None)]
    app.is_right()


def test_demotion_takes_frames_above_half_the_low_mark_only_and_nothing_is_evicted_for_it():
    app = App(8, [0, 1, 2, 3], frames=8, low=2, high=3)
    app.shell.auto_io = False
    assert app.state.frames.free == 4
    app.demote(0, 1, 2, 3)
    assert app.states() == ["FILLING"] * 3 + ["SWAPPED"] + ["PRESENT"] * 4
    while app.shell.pending:
        app.shell.complete_io()
    assert app.states() == ["SWAPPED"] * 4 + ["PRESENT"] * 4
    app.is_right()


def test_a_memory_that_rests_at_the_low_mark_demotes_all_the_same():
    app = App(6, [0, 1], frames=8, low=2, high=4)
    region = app.shell.map(app.process, 2)
    for page in range(2):
        app.shell.put(app.process, region, page, b"o" * PAGE)
    assert app.state.frames.free == 2
    for _ in range(2):
        app.demote(*(page for page in (0, 1) if app.device(page) == 0))
    assert [app.device(0), app.device(1)] == [1, 1]
    assert app.state.frames.free == 2
    app.is_right()


def test_reclaim_goes_before_demotion():
    app = App(8, [0, 1, 2, 3], frames=8, low=2, high=6)
    app.shell.auto_io = False
    app.shell.core.reclaim.reclaiming = True  # on the way from below the low mark
    app.demote(0)
    assert app.states()[0] == "SWAPPED"
    app.is_right()


def test_pages_go_by_way_of_the_last_free_frame_when_memory_is_full_of_unevictable_ones():
    app = App(7, [0, 1, 2], frames=8, slots=(3, 3))
    app.shell.hint(app.process, app.region, "EVICTION=DENY", 3, 4)
    other = app.shell.attach()
    region = app.shell.map(other, 3)
    for page in range(3):
        app.shell.put(other, region, page, b"o" * PAGE)
    assert app.state.frames.free == 1
    for page in range(3):
        app.demote(page)
        assert app.device(page) == 1
    assert app.errors == 0
    app.is_right()
