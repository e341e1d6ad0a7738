"""Real page faults, in a model of what the kernel does: who waits, who goes on, who hears SIGBUS, and what was counted.

Pins are in test_pins.py; any order of everything in test_machine_properties.py.
"""

from array import array

import pytest

from tests.support.real_shell import DONE, SIGBUS, WAITS, RealShell
from tests.support.shell import PAGE, make_core
from usmd.core import commands, events
from usmd.core.commands import Allocated, Yielded
from usmd.core.frames import DIRTY, NO_SLOT
from usmd.core.region import page_key
from usmd.errors import DataLoss, SwapIOError

DATA = b"x" * PAGE
OTHER = b"y" * PAGE
ZEROS = bytes(PAGE)


class App:
    """A process with one region, and the shell it lives in."""

    def __init__(self, pages=4, *, frames=8, auto_io=True, auto_read=True, devices=(("swap0", 64),), **more):
        policies = {kind: more.pop(kind) for kind in ("alloc", "evict", "oom") if kind in more}
        core = make_core(frames=frames, devices=devices, **more)
        self.shell = RealShell(core, auto_io=auto_io, auto_read=auto_read)
        self.process = self.shell.attach(**policies)
        self.region = self.shell.map(self.process, pages)

    @property
    def state(self):
        return self.shell.core.state

    def key(self, page=0):
        return page_key(self.region, page)

    def touch(self, page=0, data=None):
        return self.shell.touch(self.process, self.region, page, data)

    def evict(self, page=0, count=1):
        self.shell.evict(self.process, self.region, page, count)

    def state_of(self, page=0):
        return self.shell.state_of(self.region, page)

    def is_dirty(self, page=0):
        """Whether the page's frame is dirty; if so it has no slot, else it has one."""
        pfn = self.state.regions[self.region].table[page] - 1
        dirty = bool(self.state.frames.flags[pfn] & DIRTY)
        assert dirty == (self.state.frames.slot[pfn] == NO_SLOT)
        return dirty

    def slots_used(self):
        return self.state.swap.slots - self.state.swap.free

    def swapped(self, count=1):
        """Have the first `count` pages written by threads, and in swap."""
        auto_io, self.shell.auto_io = self.shell.auto_io, True
        auto_read, self.shell.auto_read = self.shell.auto_read, True
        for page in range(count):
            assert self.touch(page, bytes([page % 255 + 1]) * PAGE).state == DONE
        self.evict(0, count)
        assert {self.state_of(page) for page in range(count)} == {"SWAPPED"}
        self.shell.auto_io, self.shell.auto_read = auto_io, auto_read
        return self

    def counters(self, *names):
        counters = self.shell.counters()
        return tuple(counters[name] for name in names)

    def notices(self, kind):
        return [notice for notice in self.shell.notices if notice.kind == kind]


def test_a_touch_of_a_page_that_was_never_there_finds_zeros_and_nobody_is_answered():
    app = App()
    thread = app.touch(1)
    assert (thread.state, thread.read) == (DONE, ZEROS)
    assert app.counters("faults", "minor_faults", "zero_fills", "major_faults") == (1, 1, 1, 0)
    assert app.shell.outcomes == {}


def test_a_page_of_zeros_may_be_written_to_at_once_and_faults_no_more():
    app = App()
    app.touch(0)
    assert (app.touch(0, DATA).state, app.touch(0).read) == (DONE, DATA)
    assert app.counters("faults", "protect_faults") == (1, 0)
    assert app.is_dirty()


def test_a_page_that_comes_in_for_a_read_is_clean_protected_and_keeps_its_slot():
    app = App().swapped()
    assert app.touch(0).read == b"\x01" * PAGE
    assert not app.is_dirty()
    assert app.key() in app.shell.protected
    assert app.slots_used() == 1
    assert app.counters("major_faults", "swap_ins", "protect_faults") == (1, 1, 0)


def test_a_page_that_comes_in_for_a_write_is_dirty_and_its_slot_free():
    app = App().swapped()
    thread = app.touch(0, DATA)
    assert (thread.state, thread.read) == (DONE, b"\x01" * PAGE)
    assert app.is_dirty()
    assert app.key() not in app.shell.protected
    assert (app.slots_used(), app.shell.slots) == (0, {})
    assert app.counters("major_faults", "swap_ins", "protect_faults") == (1, 1, 0)


def test_a_page_that_comes_in_for_a_write_after_a_wait_for_memory_is_dirty_as_well():
    app = App(frames=1).swapped(1)
    app.touch(1, DATA)
    thread = app.touch(0, OTHER)
    assert thread.state == DONE
    assert app.is_dirty(0)
    assert app.key(0) not in app.shell.protected
    assert app.state_of(1) == "SWAPPED"
    assert (app.touch(1).read, app.touch(0).read) == (DATA, OTHER)


def test_the_first_write_to_a_clean_page_dirties_it_frees_its_slot_and_is_counted():
    app = App().swapped()
    app.touch(0)
    assert (app.touch(0, DATA).state, app.is_dirty(), app.slots_used()) == (DONE, True, 0)
    assert app.counters("protect_faults") == (1,)
    app.touch(0, OTHER)
    assert app.counters("protect_faults") == (1,)


def test_threads_that_write_to_a_clean_page_at_once_all_go_on():
    app = App(auto_read=False).swapped()
    app.touch(0)
    app.shell.read_faults()
    threads = [app.touch(0, bytes([each]) * PAGE) for each in (7, 8, 9)]
    assert {thread.state for thread in threads} == {WAITS}
    app.shell.read_faults()
    assert [thread.state for thread in threads] == [DONE] * 3
    assert (app.is_dirty(), app.slots_used()) == (True, 0)
    assert app.touch(0).read == b"\x09" * PAGE


def test_a_write_to_a_page_on_its_way_out_takes_it_back():
    app = App(auto_io=False)
    app.touch(0, DATA)
    app.evict()
    assert app.state_of() == "EVICTING"
    assert app.touch(0).state == DONE, "to read is to find the bytes that are still there"
    assert app.state_of() == "EVICTING"
    thread = app.touch(0, OTHER)
    assert (thread.state, thread.read, app.state_of()) == (DONE, DATA, "PRESENT")
    assert app.key() not in app.shell.protected
    assert app.counters("retaken", "protect_faults") == (1, 1)
    app.shell.complete_io()
    assert (app.slots_used(), app.touch(0).read) == (0, OTHER)


def test_a_clean_page_goes_at_once_without_a_protect_and_a_write_brings_it_back_dirty():
    app = App().swapped()
    app.touch(0)
    app.shell.late = True  # a Protect would have no answer
    app.evict()
    assert app.state_of() == "SWAPPED"
    assert not app.shell.untold
    app.shell.late = False
    assert app.touch(0, OTHER).state == DONE
    assert (app.state_of(), app.is_dirty(), app.slots_used()) == ("PRESENT", True, 0)
    assert app.touch(0).read == OTHER


def test_a_thread_is_woken_for_a_clean_page_before_the_page_goes_in_the_same_event():
    app = App(frames=1, hold_budget=0, low=0, high=0).swapped()
    app.touch(0)
    faults = [events.PageFault(app.region, page, write=False) for page in (0, 1)]
    kinds = [type(each) for each in app.shell.core.handle(events.PageFaults(app.process, faults), app.shell.now)]
    assert kinds.index(commands.Wake) < kinds.index(commands.Protect)
    assert commands.Release not in kinds


def test_the_first_write_to_a_clean_page_is_the_one_touch_that_the_evict_policy_and_a_recorder_hear_of():
    app = App(evict="lfu")
    app.swapped(1)
    app.touch(0)
    app.state.processes[app.process].touches = array("q")
    policy = app.state.processes[app.process].policies.on_access.__self__
    assert list(policy.lists) == [1], "its fault was its only touch so far"
    app.touch(0, OTHER)
    assert list(policy.lists) == [2]
    app.touch(0, DATA)  # it is dirty and writable now: nobody hears
    assert list(policy.lists) == [2]
    assert list(app.state.processes[app.process].touches) == [app.key(), 1]


def test_what_comes_of_a_protect_that_went_out_is_left_alone_by_a_page_taken_back():
    app = App()
    app.touch(0, DATA)
    app.shell.late = True
    app.evict()
    assert app.touch(0, OTHER).state == DONE  # before the core hears that the page is protected
    while app.shell.untold:
        app.shell.tell()
    assert (app.state_of(), app.slots_used(), app.key() in app.shell.protected) == ("PRESENT", 0, False)


def test_an_eviction_cancelled_in_the_event_that_began_it_is_not_protected():
    """What such an event says is performed in an order of kinds, and a Protect would come after the Restore."""
    app = App()
    for page in range(3):
        app.touch(page, DATA)
    life = app.shell.core.life
    pfns = [app.state.regions[app.region].table[page] - 1 for page in range(3)]
    for pfn in pfns:
        life.evict(pfn, "test", "test")
    life.retake(pfns[1])
    assert app.state.take_commands() == [
        commands.Restore([app.key(1)], [True]),
        commands.Protect(app.state.next_ticket - 1, [pfns[0], pfns[2]], [app.key(0), app.key(2)]),
    ]


def test_an_eviction_begun_cancelled_and_begun_again_in_one_event_is_protected_once():
    app = App()
    app.touch(0, DATA)
    life = app.shell.core.life
    life.evict(0, "test", "test")
    life.retake(0)
    life.evict(0, "test", "test")
    said = app.state.take_commands()
    assert [each.frames for each in said if isinstance(each, commands.Protect)] == [[0]]
    ticket = app.state.next_ticket - 1
    life.retake(0)
    assert app.state.protects == []
    life.evict(0, "test", "test")  # whose Protect has another ticket
    life.protected(ticket, 0, zero=True)
    assert app.state_of() == "EVICTING"


def test_a_fault_on_a_page_that_is_coming_in_parks_and_goes_on_with_it():
    app = App(auto_io=False).swapped()
    threads = [app.touch(0), app.touch(0), app.touch(0)]
    assert [thread.state for thread in threads] == [WAITS] * 3
    assert len(app.shell.pending) == 1
    app.shell.complete_io()
    assert [thread.read for thread in threads] == [b"\x01" * PAGE] * 3
    assert app.counters("parked_faults", "major_faults", "swap_ins") == (2, 3, 1)
    assert app.state.processes[app.process].missing == 0


def test_every_real_fault_is_one_touch_for_a_recorder_whatever_its_page_was():
    app = App(auto_io=False).swapped()
    touches = app.state.processes[app.process].touches = array("q")
    app.touch(1, DATA)  # it was never written to
    app.touch(0)
    app.touch(0)  # it is being filled
    app.shell.complete_io()
    assert list(touches) == [app.key(1), 3, app.key(0), 2, app.key(0), 2]
    app.evict(1)
    assert app.state_of(1) == "EVICTING"
    app.state.regions[app.region].process.touches = touches = array("q")
    app.shell.do(events.PageFaults(app.process, [events.PageFault(app.region, 1, False)]))
    assert (app.state_of(1), list(touches)) == ("PRESENT", [app.key(1), 2])
    app.shell.do(events.PageFaults(app.process, [events.PageFault(app.region, 1, True)]))  # it came meanwhile
    assert list(touches) == [app.key(1), 2, app.key(1), 3]


def test_nobody_sees_a_page_before_it_is_there():
    app = App(auto_io=False).swapped()
    app.touch(0)
    assert app.state_of() == "FILLING"
    assert app.shell.memory == {}
    assert app.shell.load(app.process, app.region, 0) is None


def test_a_write_to_a_page_that_is_coming_in_for_a_read_faults_again_and_is_heard_of():
    app = App(auto_io=False).swapped()
    reader, writer = app.touch(0), app.touch(0, DATA)
    app.shell.complete_io()
    assert (reader.read, writer.state) == (b"\x01" * PAGE, DONE)
    assert (app.is_dirty(), app.slots_used()) == (True, 0)
    assert app.counters("protect_faults", "parked_faults") == (1, 1)
    assert app.touch(0).read == DATA


def test_a_read_of_a_page_that_is_coming_in_for_a_write_parks():
    app = App(auto_io=False).swapped()
    writer, reader = app.touch(0, DATA), app.touch(0)
    app.shell.complete_io()
    assert (writer.state, reader.read) == (DONE, DATA)
    assert (app.is_dirty(), app.slots_used()) == (True, 0)
    assert app.counters("protect_faults") == (0,)


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


def test_a_dirty_page_that_its_client_emptied_reads_as_zeros():
    app = App()
    app.touch(0, DATA)
    app.shell.punch(app.region, 0)
    assert app.touch(0).read == ZEROS
    assert app.is_dirty()


def test_a_clean_page_that_its_client_emptied_is_dirty_and_its_slot_free():
    app = App().swapped()
    app.touch(0)
    app.shell.punch(app.region, 0)
    assert app.touch(0).read == ZEROS
    assert (app.is_dirty(), app.slots_used()) == (True, 0)
    app.evict()
    assert (app.state_of(), app.touch(0).read) == ("ABSENT", ZEROS)


def test_a_page_that_its_client_emptied_while_it_goes_out_is_taken_back():
    app = App(auto_io=False)
    app.touch(0, DATA)
    app.evict()
    app.shell.punch(app.region, 0)
    assert (app.touch(0).read, app.state_of()) == (ZEROS, "PRESENT")
    app.shell.complete_io()
    assert (app.is_dirty(), app.slots_used()) == (True, 0)


def test_emptied_of_what_is_not_present_changes_nothing():
    app = App(auto_io=False).swapped(2)
    app.touch(1)
    app.shell.do(events.Punched([app.key(0), app.key(1), app.key(2), page_key(99, 0)]))
    assert [app.state_of(page) for page in range(3)] == ["SWAPPED", "FILLING", "ABSENT"]
    assert app.slots_used() == 2


def test_a_call_and_a_thread_that_wait_for_one_page_share_its_read():
    app = App(auto_io=False).swapped()
    assert app.shell.fault(app.process, app.region, 0, fault_id=5) == []
    thread = app.touch(0)
    assert len(app.shell.pending) == 1
    app.shell.complete_io()
    assert thread.read == b"\x01" * PAGE
    assert app.shell.outcomes[app.process] == [Allocated(5, ((0, 0, 1),))]


def test_a_page_that_a_call_faults_in_to_write_is_still_heard_of_when_a_thread_does():
    """A store tells the core by itself; a thread's write must fault."""
    app = App(auto_io=False).swapped()
    app.shell.fault(app.process, app.region, 0, write=True)
    thread = app.touch(0, DATA)
    app.shell.complete_io()
    assert (thread.state, app.counters("protect_faults"), app.slots_used()) == (DONE, (1,), 0)
    assert app.shell.load(app.process, app.region, 0) == DATA


def test_a_failed_read_answers_a_call_and_poisons_a_thread():
    app = App(auto_io=False).swapped()
    app.shell.fault(app.process, app.region, 0, fault_id=5)
    thread = app.touch(0)
    app.shell.fail_read = DataLoss("flipped")
    app.shell.complete_io()
    (failed,) = app.shell.outcomes[app.process]
    assert (failed.fault_id, failed.error.reason, thread.state) == (5, "DATA_LOSS", SIGBUS)
    assert app.counters("poisoned") == (1,)


def test_calls_and_threads_see_what_the_other_wrote():
    app = App()
    app.touch(0, DATA)
    assert app.shell.load(app.process, app.region, 0) == DATA
    assert app.shell.store(app.process, app.region, 0, OTHER)
    assert app.touch(0).read == OTHER
    assert app.shell.get(app.process, app.region, 1) == ZEROS
    assert app.touch(1).state == DONE
    assert app.counters("faults") == (2,)


def test_a_store_by_call_to_a_clean_page_frees_its_slot_and_a_write_after_it_goes_on():
    app = App().swapped()
    app.touch(0)
    assert app.shell.store(app.process, app.region, 0, OTHER)
    assert (app.is_dirty(), app.slots_used()) == (True, 0)
    thread = app.touch(0, DATA)
    assert (thread.state, thread.read) == (DONE, OTHER)
    app.evict()
    assert app.touch(0).read == DATA


def test_pages_that_come_along_with_a_real_fault_fault_no_more():
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=4)")
    app.touch(1, DATA)
    assert [app.touch(page).state for page in range(4)] == [DONE] * 4
    assert app.counters("faults", "read_ahead", "zero_fills") == (1, 3, 4)


@pytest.mark.parametrize("data", [DATA, None])
def test_pages_from_swap_that_come_along_with_a_write_are_writable_and_with_a_read_they_are_not(data):
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=4)").swapped(4)
    app.touch(1, data)
    assert [app.is_dirty(page) for page in range(4)] == [data is not None] * 4
    assert app.slots_used() == (0 if data else 4)
    for page in (0, 2, 3):
        app.touch(page, DATA[:1] * PAGE if data else None)
    assert app.counters("protect_faults") == (0,)


def test_the_window_of_a_write_that_waits_for_memory_comes_in_writable_too():
    app = App(8, frames=6, alloc="flexible_huge_pages(pages=4)", auto_io=False)
    app.shell.auto_io = True
    app.swapped(8)
    for page in range(4, 6):
        app.touch(page)
    app.shell.auto_io = False
    app.touch(0, DATA)
    while app.shell.pending:
        app.shell.complete_io()
    assert app.is_dirty(0)
    present = [page for page in range(4) if app.state_of(page) == "PRESENT"]
    assert all(app.is_dirty(page) for page in present)


def sequential(app, pages, touch):
    """Touch pages in order; the protect faults and the faults in all that this takes."""
    before = app.counters("protect_faults", "faults")
    for page in pages:
        touch(page)
    after = app.counters("protect_faults", "faults")
    return after[0] - before[0], after[1] - before[1]


@pytest.mark.parametrize("pages", [1, 4, 16])
def test_a_region_that_is_read_and_written_in_order_costs_few_protect_faults(pages):
    app = App(240, frames=100, devices=(("swap0", 300),), low=2, high=40, alloc=f"flexible_huge_pages(pages={pages})")
    app.swapped(240)

    def add(page):
        assert app.touch(page).read[0] == page % 255 + 1
        assert app.touch(page, bytes([(page + 2) % 256]) * PAGE).state == DONE

    protect, faults = sequential(app, range(240), add)
    assert protect <= 240 / 4
    assert faults <= 2 * 240 / pages + protect
    assert [app.touch(page).read[0] for page in range(240)] == [(page + 2) % 256 for page in range(240)]


@pytest.mark.parametrize("pages", [1, 16])
def test_a_region_that_is_read_in_order_after_it_was_written_in_order_is_clean_again(pages):
    app = App(400, frames=100, devices=(("swap0", 500),), low=2, high=40, alloc=f"flexible_huge_pages(pages={pages})")
    app.swapped(400)
    sequential(app, range(200), lambda page: (app.touch(page), app.touch(page, DATA)))
    before = app.counters("swap_outs")[0]
    sequential(app, range(200, 400), app.touch)
    app.shell.evict(app.process, app.region, 200, 200)
    written = app.counters("swap_outs")[0] - before
    assert written <= 100 + 16 * pages, "what was foreseen wrongly, beside what was written"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 12, 13, 20, 40])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("hinted", [False, True])
def test_a_window_larger_than_one_event_may_bring_in_comes_in_whole_with_one_fault(size, order, hinted):
    alloc = "flexible_huge_pages" if hinted else f"flexible_huge_pages(pages={size})"
    app = App(40, frames=128, max_fault_pages=6, alloc=alloc)
    if hinted:
        app.shell.hint(app.process, app.region, f"FHP={size * PAGE}B")
    for page in range(40)[::order]:
        app.touch(page)
    assert app.counters("faults", "zero_fills") == (-(-40 // size), 40)


def test_threads_of_several_processes_share_memory_smaller_than_theirs():
    app = App(6, frames=3)
    other = app.shell.attach("other")
    theirs = app.shell.map(other, 6)
    for round_ in range(3):
        for page in range(6):
            assert app.touch(page, bytes([round_ * 6 + page]) * PAGE).state == DONE
            assert app.shell.touch(other, theirs, page, bytes([100 + round_ * 6 + page]) * PAGE).state == DONE
    assert [app.touch(page).read[0] for page in range(6)] == [12 + page for page in range(6)]
    assert [app.shell.touch(other, theirs, page).read[0] for page in range(6)] == [112 + page for page in range(6)]


def test_of_pages_that_came_along_those_are_used_that_are_written_to_or_have_new_bytes_when_they_are_evicted():
    app = App(8, frames=16, alloc="flexible_huge_pages(pages=8)")
    app.touch(0, DATA)
    for page in (1, 2, 3):
        app.touch(page, DATA)  # unheard: the page is writable
    found = app.shell.core.state.regions[app.region]
    assert (found.along, found.along_used, found.along_unused) == (7, 0, 0)
    app.shell.evict(app.process, app.region)
    assert (found.along, found.along_used, found.along_unused) == (7, 3, 4)
    app.touch(2)
    assert (found.along, found.along_used, found.along_unused) == (14, 3, 4)
    app.touch(1, DATA)  # the first write to a clean page
    assert found.along_used == 4
