"""The time in which faults wait: of real and explicit ones, of one process and of all."""

import pytest

from tests.support.real_app import App
from tests.support.real_shell import WAITS
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.region import Process
from usmd.core.stalls import Stalls
from usmd.errors import SwapIOError, Unmapped


def process(missing=0):
    found = Process(1, "p", None, None, None)
    found.missing = missing
    return found


def test_all_wait_while_any_does_and_a_second_end_is_none():
    stalls, one, other = Stalls(), process(1), process(1)
    stalls.served(one, False, 0, 0.5, 1.0)
    stalls.served(other, False, 1, 0.5, 3.0)
    stalls.end(one.stall, 4.0)
    stalls.end(one.stall, 5.0)
    assert (stalls.waiting, stalls.all.seconds(6.0)) == (1, 5.5)
    stalls.end(other.stall, 7.0)
    assert (stalls.waiting, stalls.all.seconds(9.0)) == (0, 6.5)
    assert (one.stall.seconds(9.0), other.stall.seconds(9.0)) == (3.5, 4.5)


def test_a_turn_in_which_faults_were_served_is_a_wait_unless_a_wait_includes_it():
    stalls, one, other = Stalls(), process(), process(1)
    stalls.served(one, one.stall.waits, stalls.waiting, 2.0, 2.0)
    assert (one.stall.seconds(9.0), stalls.all.seconds(9.0), one.stall.waits) == (2.0, 2.0, False)
    stalls.served(other, other.stall.waits, stalls.waiting, 0.0, 2.0)
    stalls.served(one, one.stall.waits, stalls.waiting, 1.0, 4.0)
    stalls.served(other, other.stall.waits, stalls.waiting, 1.0, 5.0)
    assert (one.stall.seconds(5.0), other.stall.seconds(5.0), stalls.all.seconds(5.0)) == (3.0, 3.0, 5.0)


def test_a_session_that_has_ended_in_the_turn_waits_no_more():
    stalls, one = Stalls(), process(1)
    one.ended = Unmapped("bye")
    stalls.served(one, False, 0, 1.0, 1.0)
    assert (one.stall.waits, stalls.waiting) == (False, 0)


def served(shell, process_id):
    """Report a turn that took no time, as the shell does for each."""
    process, stalls = shell.core.state.processes[process_id], shell.core.state.stalls
    stalls.served(process, process.stall.waits, stalls.waiting, 0.0, shell.now)


class Explicit:
    """A process whose pages 0 to 3 are in swap, and whose reads complete when the test says so."""

    def __init__(self):
        self.shell = Shell(make_core())
        self.process = self.shell.attach()
        self.region = self.shell.map(self.process, 8)
        for page in range(4):
            self.shell.put(self.process, self.region, page, b"x" * PAGE)
        self.shell.evict(self.process, self.region, 0, 4)
        self.shell.auto_io = False
        self.stall = self.shell.core.state.processes[self.process].stall
        self.before = self.stall.seconds(self.shell.now)

    def fault(self, page, count=1):
        self.shell.fault(self.process, self.region, page, count)
        served(self.shell, self.process)

    def later(self, seconds=1.0):
        self.shell.now += seconds

    def waited(self):
        """Seconds of the process, and of all."""
        now, of_all = self.shell.now, self.shell.core.state.stalls.all
        return self.stall.seconds(now) - self.before, of_all.seconds(now)


def test_an_explicit_fault_waits_until_its_last_page_is_there_yielded_or_not():
    app = Explicit()
    app.fault(0, 2)
    app.later()
    app.shell.complete_io()
    app.later()
    app.shell.complete_io()
    app.later(5.0)
    assert app.waited() == (2.0, 2.0)


def test_faults_that_wait_at_the_same_time_count_once():
    app = Explicit()
    app.fault(0)
    app.later()
    app.fault(1)
    app.later()
    app.shell.complete_io()
    app.later()
    app.shell.complete_io()
    app.later(5.0)
    assert app.waited() == (3.0, 3.0)


def test_a_fault_that_is_answered_at_once_has_not_waited():
    app = Explicit()
    app.fault(5)
    app.later()
    assert app.waited() == (0.0, 0.0)


def test_a_fault_that_fails_waits_until_then():
    app = Explicit()
    app.shell.fail_read = SwapIOError("the device said no")
    app.fault(0, 2)
    app.later()
    app.shell.complete_io()
    app.later()
    assert app.waited() == (1.0, 1.0)
    app.shell.complete_io()
    assert not app.stall.waits


@pytest.mark.parametrize("event", [events.Detach, events.Unmap])
def test_a_wait_ends_with_its_region_or_session_though_the_device_has_not_answered(event):
    app = Explicit()
    app.fault(0)
    app.later()
    app.shell.do(event(app.process, "bye") if event is events.Detach else event(app.process, app.region))
    app.later()
    assert app.waited() == (1.0, 1.0)
    app.shell.complete_io()
    assert app.shell.core.state.stalls.waiting == 0


def test_two_processes_that_wait_one_after_the_other_are_one_wait_of_all():
    app = Explicit()
    other = app.shell.attach("other")
    region = app.shell.map(other, 2)
    app.shell.auto_io = True
    app.shell.put(other, region, 0, b"y" * PAGE)
    app.shell.evict(other, region)
    app.shell.auto_io = False
    app.fault(0)
    app.later()
    app.shell.fault(other, region, 0)
    served(app.shell, other)
    app.later()
    app.shell.complete_io()
    app.later()
    app.shell.complete_io()
    app.later()
    assert app.waited() == (2.0, 3.0)


def test_threads_wait_for_a_page_from_swap_and_not_for_a_new_one():
    app = App().swapped(2)
    state, process = app.state, app.state.processes[app.process]
    app.shell.auto_io = False
    thread = app.touch(0)
    served(app.shell, app.process)
    app.shell.now += 1.0
    assert thread.state == WAITS
    app.shell.complete_io()
    app.touch(3)
    served(app.shell, app.process)
    app.shell.now += 1.0
    assert (process.stall.seconds(app.shell.now), state.stalls.all.seconds(app.shell.now)) == (1.0, 1.0)
