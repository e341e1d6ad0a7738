"""Real page faults, in a model of what the kernel does: who waits, who goes on, and what was counted.

Faults that end otherwise are in test_real_fault_failures.py, pages that come along in test_real_fault_windows.py, pins
in test_pins.py; any order of everything in test_machine_properties.py.
"""

from array import array

from tests.support.real_app import DATA, OTHER, App
from tests.support.real_shell import DONE, SIGBUS, WAITS
from tests.support.shell import PAGE
from usmd.core import commands, events
from usmd.core.commands import Allocated
from usmd.core.region import page_key
from usmd.errors import DataLoss

ZEROS = bytes(PAGE)


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


def test_when_fewer_faults_wait_than_a_process_may_have_the_shell_is_told_once():
    app = App().swapped(4)
    app.shell.auto_io = False
    process = app.state.processes[app.process]
    process.max_faults = 3
    told = []
    perform = app.shell._perform

    def watched(command):
        told.extend([command] if isinstance(command, commands.FaultsFit) else [])
        return perform(command)

    app.shell._perform = watched
    for page in range(4):
        app.touch(page)
    assert (process.missing, told) == (4, [])
    for left, times in ((3, 0), (2, 1), (1, 1), (0, 1)):
        app.shell.complete_io()
        assert (process.missing, len(told)) == (left, times)
