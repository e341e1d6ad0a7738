"""Limits that change while a process runs."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, work
from usmd.core.events import Quotas
from usmd.core.region import NO_MAX
from usmd.errors import InvalidArgument, LimitExceeded, NotFound, OutOfMemory

DATA = b"x" * PAGE


class App:
    """A process with 20 dirty pages in memory."""

    def __init__(self, slots=64, **more):
        self.shell = Shell(make_core(frames=32, devices=(("swap0", slots),), reclaim_batch=4), **more)
        self.process_id = self.shell.attach()
        self.region = self.shell.map(self.process_id, 40)
        for page in range(20):
            self.shell.put(self.process_id, self.region, page, DATA)
        self.process = self.shell.core.state.processes[self.process_id]

    def limit(self, memory_max=None, swap_max=None, memory_min=0, weight=100, **quotas):
        self.shell.do(events.SetLimits(self.process_id, memory_max, swap_max, memory_min, weight, Quotas(**quotas)))

    def check(self, pages=20):
        assert all(self.shell.get(self.process_id, self.region, page) == DATA for page in range(pages))


def test_a_lower_memory_max_holds_at_once_and_pages_above_it_go_in_parts(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 1)
    app = App(auto_io=False)
    app.shell.hold_go_on = True
    app.limit(memory_max=8)
    assert (app.process.memory_max, app.process.lent) == (8, 13)
    assert app.process.leaving >= 4
    while app.shell.asked or app.shell.pending:
        if app.shell.asked:
            app.shell.do_work()
        if app.shell.pending:
            app.shell.complete_io()
    assert (app.process.resident, app.process.lent) == (8, 0)
    app.shell.auto_io, app.shell.hold_go_on = True, False
    app.check()
    assert app.process.resident <= 8


def test_what_cannot_go_stays_and_can_be_read_and_goes_when_there_is_a_slot():
    app = App(slots=4)
    app.limit(memory_max=8)
    assert app.process.resident == 16
    app.check()
    with pytest.raises(OutOfMemory, match="its memory_max is 8"):
        app.shell.put(app.process_id, app.region, 30, DATA)
    app.shell.do(events.Discard(app.process_id, app.region, 0, 15, 1))
    app.shell.tick()
    assert app.process.resident <= 8
    app.shell.put(app.process_id, app.region, 30, DATA)
    assert app.process.lent == 0


def test_a_higher_memory_max_serves_the_faults_that_wait_for_it():
    app = App(slots=0)
    app.limit(memory_max=20)
    with pytest.raises(OutOfMemory):
        app.shell.put(app.process_id, app.region, 20, DATA)
    app.limit(memory_max=21)
    app.shell.put(app.process_id, app.region, 20, DATA)
    app.limit()
    assert (app.process.memory_max, app.process.absent_max) == (NO_MAX, NO_MAX)
    app.shell.put(app.process_id, app.region, 21, DATA)


def test_a_swap_max_counts_what_the_process_has_there_and_may_not_be_less():
    app = App(auto_io=False)
    app.shell.evict(app.process_id, app.region, 0, 6)
    app.shell.complete_io()
    app.shell.complete_io()
    with pytest.raises(InvalidArgument, match=r"^swap_max of 5 pages; allowed are 6 and more, because app has so many"):
        app.limit(memory_max=30, swap_max=5, memory_min=3)
    assert (app.process.memory_max, app.process.swap_max, app.process.memory_min) == (NO_MAX, NO_MAX, 0)
    app.limit(memory_max=30, swap_max=6)
    assert (app.process.stored, app.process.absent_max, app.shell.core.state.budgets.full) == (6, 29, 1)
    while app.shell.pending:
        app.shell.complete_io()
    app.shell.auto_io = True
    app.check()
    assert app.process.stored == 6
    app.limit(memory_max=30)
    assert (app.process.stored, app.process.absent_max, app.shell.core.state.budgets.limited) == (6, 30, 0)


def test_a_guarantee_is_given_and_taken():
    app = App()
    app.limit(memory_min=30, weight=7)
    assert (app.process.memory_min, app.process.weight, app.shell.core.state.guarantees.kept) == (30, 7, 30)
    (told,) = [each for each in app.shell.notices if each.kind == "limits_set"]
    assert told.fields == {"memory_max": "none", "memory_min": "30", "memory_weight": "7", "swap_max": "none"}
    with pytest.raises(LimitExceeded, match="allowed is at most 31 pages"):
        app.limit(memory_min=32)
    app.limit()
    assert app.shell.core.state.guarantees.kept == 0


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"swap_max": 3}, "without memory_max"), ({"memory_max": 0}, "memory_max of 0"), ({"weight": 0}, "weight of 0")],
)
def test_invalid_limits_change_nothing(limits, said):
    app = App()
    with pytest.raises(InvalidArgument, match=said):
        app.limit(**limits)
    assert app.process.memory_max == NO_MAX
    with pytest.raises(NotFound):
        app.shell.do(events.SetLimits(99, None, None, 0, 100))


def test_pages_above_a_lower_budget_of_deny_lose_that_right_in_parts(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 4)
    app = App()
    app.shell.hint(app.process_id, app.region, "EVICTION=DENY")
    assert app.process.unevictable == 20
    app.shell.hold_go_on = True
    app.limit(deny_budget=3)
    assert 3 < app.process.unevictable < 20
    assert app.shell.core.life.kept_room(app.process) < 0
    while app.shell.asked:
        app.shell.do_work()
    assert (app.process.unevictable, app.shell.core.life.kept_room(app.process)) == (3, 0)
    assert app.process.counters.deny_over_budget == 17
    told = [each for each in app.shell.notices if each.kind == "deny_over_budget"][-1]
    assert "of 3 it may keep" in told.message
    app.shell.hold_go_on = False
    app.limit(memory_max=8, deny_budget=3)
    assert app.process.resident == 8
    app.check()
    app.limit(memory_max=8, deny_budget=5)
    app.shell.hint(app.process_id, app.region, "EVICTION=DENY")
    assert app.process.unevictable == 5


def test_a_budget_of_deny_below_what_is_pinned_is_refused_because_only_the_process_unpins():
    app = App()
    app.shell.hint(app.process_id, app.region, "EVICTION=DENY", 4, 4)
    app.shell.do(events.Pin(app.process_id, app.region, 0, 3))
    with pytest.raises(InvalidArgument, match=r"^deny_budget of 2 pages; allowed are 3 and more, because app has pin"):
        app.limit(memory_min=5, deny_budget=2)
    assert (app.process.memory_min, app.process.deny_budget) == (0, NO_MAX)
    app.limit(deny_budget=3)
    assert (app.process.unevictable, app.process.pinned) == (0, 3)
    with pytest.raises(LimitExceeded, match=r"and 0 may be: its deny_budget is 3 pages .* and pins 3"):
        app.shell.do(events.Pin(app.process_id, app.region, 5, 1))


def test_a_higher_limit_of_faults_says_that_they_fit():
    app = App()
    app.limit(max_faults=2)
    for limits, told in (({"max_faults": 1}, 0), ({"max_faults": 5}, 1), ({}, 1)):
        event = events.SetLimits(app.process_id, None, None, 0, 100, Quotas(**limits))
        happened = app.shell.core.handle(event, 1.0)
        assert happened.count(commands.FaultsFit(app.process_id)) == told
    (*_, last) = [each for each in app.shell.notices if each.kind == "limits_set"]
    assert last.fields["max_faults"] == "2"
