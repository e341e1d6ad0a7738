"""Real page faults that cannot be served, or whose page, region or session changes while they wait."""

import pytest

from tests.support.real_app import DATA, OTHER, App
from tests.support.real_shell import DONE, SIGBUS, WAITS
from usmd.core import events
from usmd.core.commands import Yielded
from usmd.errors import DataLoss, SwapIOError


def test_without_memory_or_swap_the_thread_gets_sigbus_and_the_operator_a_notice():
    app = App(frames=1, devices=())
    app.touch(0, DATA)
    assert app.touch(1, OTHER).state == SIGBUS
    assert app.counters("poisoned", "oom_refusals") == (1, 1)
    (notice,) = app.notices("page_poisoned")
    assert notice.process_id == app.process
    assert notice.fields == {"region_id": str(app.region), "page": "1", "reason": "OUT_OF_MEMORY"}
    assert "a touch of it is SIGBUS now, because no frame for page 1" in notice.message
    assert app.shell.outcomes == {}
    assert app.touch(0).read == DATA


def test_kill_largest_lets_the_thread_of_another_go_on():
    app = App(frames=3, devices=(), oom="kill_largest")
    app.touch(0, DATA)
    large = app.shell.attach("large")
    region = app.shell.map(large, 2)
    theirs = [app.shell.touch(large, region, page, OTHER) for page in range(2)]
    assert [thread.state for thread in theirs] == [DONE] * 2
    assert (app.touch(1, DATA).state, app.counters("poisoned")) == (DONE, (0,))
    assert app.shell.ended[large].killed
    assert app.shell.touch(large, region, 0).state == SIGBUS


@pytest.mark.parametrize(
    ("error", "reason"), [(DataLoss("flipped"), "DATA_LOSS"), (SwapIOError("the device said no"), "SWAP_IO")]
)
def test_a_page_that_cannot_be_read_poisons_all_who_wait_for_it(error, reason):
    app = App(auto_io=False).swapped()
    threads = [app.touch(0), app.touch(0, DATA)]
    app.shell.fail_read = error
    app.shell.complete_io()
    assert [thread.state for thread in threads] == [SIGBUS] * 2
    assert app.counters("poisoned", "swap_read_errors") == (2, 1)
    assert {notice.fields["reason"] for notice in app.notices("page_poisoned")} == {reason}
    assert (app.state_of(), app.state.frames.free, app.slots_used()) == ("SWAPPED", 8, 1)
    assert app.touch(0).state == SIGBUS, "it is poisoned for good"
    assert app.shell.outcomes == {}


def test_a_page_in_flight_whose_region_goes_is_sigbus_and_frees_all():
    app = App(auto_io=False).swapped(2)
    waits, parks, other = app.touch(0), app.touch(0, DATA), app.touch(1)
    app.shell.do(events.Unmap(app.process, app.region))
    assert [thread.state for thread in (waits, parks, other)] == [SIGBUS] * 3
    assert (app.notices("page_poisoned"), app.counters("poisoned")) == ([], (0,))
    assert app.state.processes[app.process].missing == 0
    while app.shell.pending:
        app.shell.complete_io()
    app.shell.tick()
    assert (app.state.frames.free, app.slots_used(), app.shell.outcomes) == (8, 0, {})
    assert app.touch(0).state == SIGBUS


def test_a_page_that_waits_for_memory_whose_region_goes_is_sigbus():
    app = App(frames=1, auto_io=False)
    app.touch(0, DATA)
    other = app.shell.map(app.process, 1)
    thread = app.shell.touch(app.process, other, 0, OTHER)
    assert (thread.state, len(app.shell.core.waiting)) == (WAITS, 1)
    app.shell.do(events.Unmap(app.process, other))
    assert (thread.state, len(app.shell.core.waiting)) == (SIGBUS, 0)
    app.shell.complete_io()
    assert app.touch(0).state == WAITS
    app.shell.complete_io()
    assert app.touch(0).read == DATA


@pytest.mark.parametrize("frames", [1, 8])
def test_a_session_that_ends_while_threads_wait_ends_their_wait(frames):
    app = App(frames=frames, auto_io=False).swapped()
    if frames == 1:
        app.touch(1, DATA)
    thread = app.touch(0)
    assert thread.state == WAITS
    app.shell.do(events.Detach(app.process, "bye"))
    assert thread.state == SIGBUS
    while app.shell.pending:
        app.shell.complete_io()
    app.shell.tick()
    assert (app.state.frames.free, app.slots_used(), app.shell.outcomes) == (frames, 0, {})
    assert not app.shell.core.waiting


def test_the_kernels_message_may_come_after_its_session_or_region_or_beyond_it():
    app = App()
    stranger = app.shell.attach("stranger")
    before = app.shell.counters()
    for process, region, page in (
        (stranger, app.region, 0), (app.process, 99, 0), (app.process, app.region, 4), (app.process, app.region, -1),
        (77, app.region, 0),
    ):  # fmt: skip
        for kind in (events.MISSING, events.PROTECTED, events.MINOR):
            app.shell.do(events.PageFaults(process, [events.PageFault(region, page, kind == events.PROTECTED, kind)]))
    assert app.shell.counters() == before
    assert app.state.regions[app.region].resident == 0


def test_one_that_is_wrong_does_not_stop_the_others_of_its_batch():
    app = App()
    app.shell.do(
        events.PageFaults(app.process, [events.PageFault(99, 0, False), events.PageFault(app.region, 2, True)])
    )
    assert app.state_of(2) == "PRESENT"


def test_a_policy_that_yields_brings_the_page_and_no_outcome():
    app = App(alloc="async_aware", auto_io=False).swapped(2)
    thread = app.touch(0)
    assert app.counters("yields") == (0,)
    app.shell.complete_io()
    assert (thread.state, app.shell.outcomes) == (DONE, {})
    assert app.shell.fault(app.process, app.region, 1) == [Yielded(1, 1)]


def test_a_page_that_cannot_be_protected_stays_and_can_be_written_to():
    app = App()
    app.touch(0, DATA)
    app.shell.stays = {app.key()}
    app.evict()
    assert (app.state_of(), app.is_dirty(), app.slots_used()) == ("PRESENT", True, 0)
    assert app.state.processes[app.process].evictions[-1].result == "cannot be protected"
    assert (app.touch(0, OTHER).read, app.counters("faults")) == (DATA, (1,))
    app.shell.stays = set()
    app.shell.tick(1.0)
    app.evict()
    assert (app.state_of(), app.touch(0).read) == ("SWAPPED", OTHER)


def test_a_write_that_waits_while_its_page_cannot_be_protected_goes_on():
    app = App(auto_read=False)
    app.touch(0, DATA)
    app.shell.read_faults()
    app.shell.late = True
    app.evict()
    thread = app.touch(0, OTHER)
    assert thread.state == WAITS  # the page is protected already
    (protected,) = app.shell.untold
    app.shell.untold.clear()
    app.shell.do(events.Protected(protected.ticket, protected.frames, [None]))
    assert (thread.state, app.state_of()) == (DONE, "PRESENT")


def test_a_write_that_fails_lets_those_go_on_who_wait_for_the_page():
    app = App(auto_io=False, auto_read=False)
    app.touch(0, DATA)
    app.shell.read_faults()
    app.evict()
    thread = app.touch(0, OTHER)
    app.shell.fail_write = SwapIOError("the device said no")
    app.shell.complete_io()
    assert (thread.state, app.state_of(), app.is_dirty()) == (DONE, "PRESENT", True)
    assert app.shell.unread == []


def test_a_message_that_is_read_after_its_thread_went_on_does_no_harm():
    app = App()
    app.touch(0, DATA)
    stale = [events.PageFault(app.region, 0, False), events.PageFault(app.region, 0, True, events.PROTECTED)]
    app.shell.do(events.PageFaults(app.process, stale))
    assert (app.state_of(), app.is_dirty(), app.touch(0).read) == ("PRESENT", True, DATA)


def test_a_protect_fault_that_is_read_after_its_page_went_brings_it_back_writable():
    """The thread waits while its page goes out, which wakes nobody."""
    app = App(auto_read=False)
    app.touch(0, DATA)
    app.shell.read_faults()
    app.evict()
    assert app.state_of() == "SWAPPED"
    app.shell.do(events.PageFaults(app.process, [events.PageFault(app.region, 0, True, events.PROTECTED)]))
    assert (app.state_of(), app.is_dirty(), app.slots_used()) == ("PRESENT", True, 0)
    assert app.touch(0, OTHER).read == DATA
