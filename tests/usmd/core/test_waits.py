"""Waits that end: each waiter is notified once, a few in the event that ends their wait, the others in parts."""

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events, work
from usmd.core.commands import Allocated, Failed
from usmd.core.waits import AT_ONCE
from usmd.core.work import Kind
from usmd.errors import SwapIOError

MANY = 4 * AT_ONCE
DATA = b"x" * PAGE


class App:
    """A process with very many faults on one page that comes in, whose deferred work waits for the test."""

    def __init__(self, monkeypatch, faults=MANY):
        monkeypatch.setattr(work, "PAGES_AN_EVENT", 32)
        self.shell = Shell(make_core(), auto_io=False)
        self.process = self.shell.attach()
        self.region = self.shell.map(self.process, 2)
        self.shell.put(self.process, self.region, 0, DATA)
        self.shell.evict(self.process, self.region)
        while self.shell.pending:
            self.shell.complete_io()
        self.shell.outcomes.clear()
        self.shell.hold_go_on = True
        requests = [events.FaultRequest(number, self.region, 0, 1, False) for number in range(faults)]
        self.shell.do(events.Faults(self.process, requests))

    def answered(self):
        return len(self.shell.outcomes.get(self.process, []))

    def works(self):
        """Kinds of the pieces of deferred work."""
        return [piece.kind for piece in self.shell.core.state.work.queue]

    def parts(self):
        """Do the rest of the work; returns how many faults each event has answered."""
        found = [self.answered()]
        while self.shell.asked:
            self.shell.do_work()
            found.append(self.answered() - sum(found))
        return found


def test_few_waiters_are_notified_at_once_and_no_work_is_left(monkeypatch):
    app = App(monkeypatch, AT_ONCE)
    app.shell.complete_io()
    assert (app.answered(), app.works()) == (AT_ONCE, [])


def test_of_many_the_rest_is_notified_by_one_piece_of_work_with_the_error_of_all(monkeypatch):
    app = App(monkeypatch)
    app.shell.fail_read = SwapIOError("the device said no")
    app.shell.complete_io()
    assert app.works() == [Kind.NOTIFY]
    app.parts()
    outcomes = app.shell.outcomes[app.process]
    assert [each.fault_id for each in outcomes] == list(range(MANY))
    assert {each.error.reason for each in outcomes} == {app.shell.fail_read.reason}
    assert app.works() == []


def test_the_end_of_a_region_is_the_error_of_waiters_that_are_notified_later(monkeypatch):
    app = App(monkeypatch)
    app.shell.complete_io()
    present = app.answered()
    app.shell.do(events.Unmap(app.process, app.region))
    app.parts()
    kinds = [type(each) for each in app.shell.outcomes[app.process]]
    assert kinds == [Allocated] * present + [Failed] * (MANY - present)


def test_no_event_answers_very_many_faults_on_a_page_that_came_in(monkeypatch):
    app = App(monkeypatch)
    app.shell.complete_io()
    parts = app.parts()
    assert (sum(parts), max(parts)) == (MANY, AT_ONCE + 32)
    outcomes = app.shell.outcomes[app.process]
    assert [each.fault_id for each in outcomes] == list(range(MANY))
    assert all(isinstance(each, Allocated) and each.runs for each in outcomes)
    assert app.shell.core.state.processes[app.process].missing == 0


def test_no_event_answers_very_many_faults_on_a_region_that_is_unmapped(monkeypatch):
    app = App(monkeypatch)
    app.shell.do(events.Unmap(app.process, app.region))
    parts = app.parts()
    assert sum(parts) == MANY
    assert max(parts) <= AT_ONCE + 32
    assert {(type(each), each.error.reason) for each in app.shell.outcomes[app.process]} == {(Failed, "UNMAPPED")}
    assert app.shell.core.state.processes[app.process].missing == 0


def test_a_fault_whose_page_leaves_before_its_turn_ends_without_it(monkeypatch):
    app = App(monkeypatch)
    app.shell.complete_io()
    app.shell.core.life.evict(0, "test", "")
    app.shell.tick()
    assert app.shell.state_of(app.region, 0) == "SWAPPED"
    app.parts()
    outcomes = app.shell.outcomes[app.process]
    assert [bool(each.runs) for each in outcomes] == [True] * (AT_ONCE + 32) + [False] * (MANY - AT_ONCE - 32)
    assert app.shell.core.state.processes[app.process].missing == 0


def test_a_process_that_ends_before_its_waiters_are_notified_leaves_nothing(monkeypatch):
    app = App(monkeypatch)
    app.shell.complete_io()
    before = app.answered()
    app.shell.do(events.Detach(app.process, "bye"))
    app.parts()
    assert (app.answered(), len(app.shell.core.state.waits.late)) == (before, 0)
