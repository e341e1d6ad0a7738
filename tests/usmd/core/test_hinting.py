"""A hint is in force when it is set; pages that are there follow in parts, or when they are looked at."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, work
from usmd.core.frames import PRIORITY_OF, UNEVICTABLE
from usmd.core.hints import Priority, parse_hint
from usmd.core.validate import violations
from usmd.core.work import MAX_WORK
from usmd.errors import LimitExceeded

DATA = b"x" * PAGE
PAGES = 8


class App:
    """A process with 8 pages in memory, of which two an event come in line with a hint."""

    def __init__(self, evict="hint_aware", **settings):
        self.shell = Shell(make_core(frames=12, **settings))
        self.shell.hold_go_on = True
        self.process = self.shell.attach(evict=evict)
        self.region = self.shell.map(self.process, PAGES)
        for page in range(PAGES):
            self.shell.put(self.process, self.region, page, DATA)

    @property
    def state(self):
        return self.shell.core.state

    def hint(self, text, reply_to=0):
        return self.shell.do(events.SetHint(self.process, self.region, 0, None, parse_hint(text), reply_to))

    def flags(self):
        table = self.state.regions[self.region].table
        return [self.state.frames.flags[table[page] - 1] for page in range(PAGES)]

    def priorities(self):
        return [PRIORITY_OF[flags] for flags in self.flags()]

    def finish(self):
        """Do all that is left, and return how many parts that took."""
        parts = 0
        while self.shell.asked:
            self.shell.do_work()
            parts += 1
        return parts


@pytest.fixture(autouse=True)
def two_pages_an_event(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 2)


def test_pages_come_in_line_in_parts_and_the_caller_is_told_at_the_end():
    app = App(deny_budget=6)
    answer = app.hint("EVICTION=DENY", reply_to=77)
    assert answer.over_budget is None
    told = []
    app.shell._perform = lambda command, perform=app.shell._perform: (
        told.append(command) if isinstance(command, commands.HintApplied) else None,
        perform(command),
    )[1]
    assert app.state.unevictable == 4
    assert app.finish() == 2
    assert [(each.reply_to, each.over_budget) for each in told] == [(77, 2)]
    assert (app.state.unevictable, app.state.refreshing) == (6, 0)


def test_a_hint_on_few_pages_is_answered_at_once():
    app = App()
    assert app.shell.hint(app.process, app.region, "EVICTION=DENY", 0, 1).over_budget == 0
    assert app.state.unevictable == 1


def test_a_page_that_reclaim_looks_at_before_its_turn_has_the_new_right():
    app = App()
    app.hint("EVICTION=DENY")
    assert app.shell.core.reclaim.evict(8) == 0
    assert [bool(flags & UNEVICTABLE) for flags in app.flags()] == [True] * PAGES
    assert app.shell.counters()["policy_errors"] == 0
    app.finish()
    assert (app.state.unevictable, app.shell.counters()["evictions"]) == (PAGES, 0)


def test_of_pages_that_get_different_priorities_the_lower_go_before_their_turn():
    app = App()
    app.shell.hint(app.process, app.region, "PRIORITY=HIGH", 0, 6)
    assert app.priorities() != [Priority.HIGH] * 6 + [Priority.NORMAL] * 2
    assert app.shell.core.reclaim.evict(2) == 2
    gone = [page for page in range(PAGES) if app.shell.state_of(app.region, page) != "PRESENT"]
    assert gone == [6, 7]


def test_pages_whose_deny_was_cleared_can_go_before_anything_is_refused():
    app = App(evict="fifo")
    app.hint("EVICTION=DENY")
    app.finish()
    app.hint("")
    more = app.shell.map(app.process, 8)
    app.shell.do(events.Faults(app.process, [events.FaultRequest(n, more, n, 1, True) for n in range(8)]))
    app.finish()
    assert app.shell.counters()["oom_refusals"] == 0
    assert [type(each).__name__ for each in app.shell.outcomes[app.process][-8:]] == ["Allocated"] * 8


def test_a_page_that_comes_in_before_the_work_is_done_has_the_new_right():
    app = App()
    region = app.state.regions[app.region]
    app.shell.hint(app.process, app.region, "DONTNEED", 7, 1)
    app.finish()
    app.hint("PRIORITY=LOW")
    app.shell.fault(app.process, app.region, 7)
    assert PRIORITY_OF[app.state.frames.flags[region.table[7] - 1]] == Priority.LOW
    assert violations(app.shell.core) == []


def test_the_end_of_a_ttl_comes_to_pages_in_parts_too():
    app = App()
    app.hint("PRIORITY=HIGH; TTL=1")
    app.finish()
    assert app.priorities() == [Priority.HIGH] * PAGES
    app.shell.tick(2)
    assert app.priorities().count(Priority.NORMAL) < PAGES
    assert app.state.regions[app.region].hints.find(7) is None
    app.finish()
    assert app.priorities() == [Priority.NORMAL] * PAGES


def test_the_ends_of_very_many_hints_are_one_piece_of_work(monkeypatch):
    app = App()
    wide = app.shell.map(app.process, 400)
    for page in range(0, 400, 2):
        app.shell.hint(app.process, wide, "PRIORITY=LOW; TTL=1", page, 1)
    app.finish()
    app.shell.tick(2)
    assert len(app.state.regions[wide].unsettled) <= 1
    app.finish()
    assert app.state.refreshing == 0


class WatchedRegions(dict):
    """The regions of a core, and which of them it looked at."""

    def __init__(self, regions):
        super().__init__(regions)
        self.looked_at = []

    def __getitem__(self, region_id):
        self.looked_at.append(region_id)
        return super().__getitem__(region_id)

    def values(self):
        self.looked_at.extend(self)
        return super().values()


def test_the_end_of_a_hint_costs_nothing_for_other_regions():
    app = App()
    for number in range(50):
        other = app.shell.map(app.process, 1)
        if number % 2:
            app.shell.hint(app.process, other, "PRIORITY=LOW; TTL=100")
    app.hint("PRIORITY=LOW; TTL=1")
    app.finish()
    app.shell.check = False  # it looks at all regions
    app.state.regions = watched = WatchedRegions(app.state.regions)
    for _ in range(4):
        app.shell.tick(1)
    assert watched.looked_at == [app.region]
    assert len(app.state.regions[app.region].hints) == 0


def test_hints_expire_in_turn_whatever_order_they_were_set_in_and_whichever_regions_end():
    app = App()
    regions = [app.shell.map(app.process, 2) for _ in range(4)]
    for region, seconds in zip(regions, (4, 1, 3, 2), strict=True):
        app.shell.hint(app.process, region, f"PRIORITY=LOW; TTL={seconds}", 0, 1)
        app.shell.hint(app.process, region, f"PRIORITY=LOW; TTL={seconds + 4}", 1, 1)
    app.shell.do(events.Unmap(app.process, regions[3]))
    left = []
    for _ in range(8):
        app.shell.tick(1)
        left.append([len(app.state.regions[region].hints) for region in regions[:3]])
    assert left == [[2, 1, 2], [2, 1, 2], [2, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0]]
    app.shell.hint(app.process, regions[0], "PRIORITY=LOW; TTL=1")
    app.shell.do(events.Detach(app.process, "done"))
    app.shell.tick(2)
    app.finish()
    assert violations(app.shell.core) == []


def test_hints_on_a_region_may_not_pile_up():
    app = App()
    for _ in range(MAX_WORK):
        app.hint("PRIORITY=LOW")
    with pytest.raises(LimitExceeded, match=f"{MAX_WORK} hints on region {app.region} are still being brought"):
        app.hint("PRIORITY=HIGH")
    assert app.state.regions[app.region].hints.find(0).hint.priority == Priority.LOW
    app.finish()
    app.hint("PRIORITY=HIGH")


def test_a_hint_on_a_region_that_goes_ends_with_it():
    app = App()
    app.hint("EVICTION=DENY")
    app.shell.do(events.Unmap(app.process, app.region))
    app.finish()
    assert (app.state.refreshing, app.state.unevictable, app.state.frames.free) == (0, 0, 12)


def test_a_process_counts_the_ranges_with_a_hint_so_that_a_hint_looks_at_no_other_region():
    app = App()
    owner = app.state.processes[app.process]
    second = app.shell.map(app.process, PAGES)
    counts = []
    for region, text, first, pages in (
        (app.region, "PRIORITY=LOW", 0, 8),
        (app.region, "PRIORITY=HIGH; TTL=1", 2, 2),
        (second, "PRIORITY=LOW", 0, 1),
        (app.region, "", 6, 1),
    ):
        app.shell.hint(app.process, region, text, first, pages)
        counts.append(owner.hint_ranges)
        assert violations(app.shell.core) == []
    assert counts == [1, 3, 4, 5]
    app.shell.tick(2)
    assert owner.hint_ranges == 4
    app.shell.do(events.Unmap(app.process, app.region))
    assert owner.hint_ranges == 1
    assert violations(app.shell.core) == []
