"""What the owners of pages believe, and what must be true of a core after every step and at the end."""

from typing import ClassVar

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, release, work
from usmd.core.faults import StreamWaiter
from usmd.core.frames import FREE
from usmd.core.region import PAGE_BITS, PAGE_MASK

PATIENCE = 2.0
"""Seconds of every `freeze`."""


class OneOf:
    """What a page may hold."""

    def __init__(self, *values):
        self.values = values

    def __eq__(self, other):
        return other in self.values

    __hash__ = None


class CoreModel(RuleBasedStateMachine):
    """What the owners of pages believe, of a shell whose core a subclass drives by its rules."""

    sampling = 0.0
    """Pages taken out of page tables for each that comes in."""
    more_settings: ClassVar = {}
    """Of the core."""

    def begin(self, frames, marks, hold_budget, deny, slots, max_fault_pages, pages_an_event=None):
        """Make the shell, with nobody in it."""
        self.patched = pytest.MonkeyPatch()
        if pages_an_event is not None:
            self.patched.setattr(work, "PAGES_AN_EVENT", pages_an_event)
            self.patched.setattr(work, "END_COSTS", 1)
            self.patched.setattr(release, "REGION_COSTS", 1)
        self.shell = self.make_shell(
            make_core(
                frames=frames,
                devices=(("fast", slots[0]), ("slow", slots[1])),
                low=marks[0],
                high=marks[1],
                hold_budget=hold_budget,
                deny_budget=deny[0],
                deny_budget_total=deny[1],
                max_fault_pages=max_fault_pages,
                reclaim_batch=3,
                scan_limit=6,
                sampling=self.sampling,
                **self.more_settings,
            )
        )
        self.shell.every_event = 200
        self.shell.hold_go_on = pages_an_event is not None
        self.shell.on_store = self.stored
        self.model: dict[tuple[int, int], list[bytes]] = {}
        """(process, region) → pages."""
        self.open_faults: dict[tuple[int, int], int] = {}
        """(process, fault) → yield token, 0: none."""
        self.tokens: set[tuple[int, int]] = set()
        """(process, yield token): each process counts its own."""
        self.heard: dict[int, int] = {}
        self.next_fault = 1
        self.discards: dict[int, tuple[tuple[int, int], range, set[int]]] = {}
        """By its `reply_to`, a discard that is not done: (process, region), pages, and those that nothing touched."""
        self.pins: list[tuple[int, int, int, int]] = []
        """Process, region, first page, pages."""

    def make_shell(self, core):
        return Shell(core, auto_io=False)

    def stored(self, key, data):
        """A store has happened."""
        page = key & PAGE_MASK
        owner = next(each for each in self.model if each[1] == key >> PAGE_BITS)
        self.now_has(owner, page, data)

    def now_has(self, owner, page, data):
        """A page has these bytes, or a discard under way makes them zeros."""
        self.model[owner][page] = data
        for its_owner, pages, untouched in self.discards.values():
            if its_owner == owner and page in pages:
                self.model[owner][page] = OneOf(bytes(PAGE), data)
                untouched.discard(page)

    def some_region(self, pick):
        keys = sorted(self.model)
        return keys[pick % len(keys)]

    def some_pages(self, region, first, count):
        pages = len(self.model[region])
        first %= pages
        return first, 1 + count % min(pages - first, self.shell.core.state.settings.max_fault_pages)

    def live(self):
        return [process for process in sorted(self.heard) if process not in self.shell.ended]

    def in_flight(self, *flights):
        """Keys of the pages of living regions that come in or go."""
        keys = [self.shell.core.state.frames.page[pfn] for flight in flights for pfn in sorted(flight)]
        regions = self.shell.core.state.regions
        return [key for key in keys if (region := regions.get(key >> PAGE_BITS)) is not None and region.gone is None]

    def hear(self):
        """Take note of outcomes and ended sessions; each fault yields at most once and ends exactly once."""
        for process in list(self.heard):
            outcomes = self.shell.outcomes.get(process, [])
            for outcome in outcomes[self.heard[process] :]:
                if isinstance(outcome, commands.PagesAllocated):
                    for index in range(len(outcome.frames)):
                        assert self.open_faults.pop((process, outcome.first_id + index)) == 0
                    continue
                token = self.open_faults[process, outcome.fault_id]
                if isinstance(outcome, commands.Yielded):
                    assert token == 0
                    assert outcome.yield_token != 0
                    assert (process, outcome.yield_token) not in self.tokens
                    self.tokens.add((process, outcome.yield_token))
                    self.open_faults[process, outcome.fault_id] = outcome.yield_token
                else:
                    assert outcome.yield_token == token
                    del self.open_faults[process, outcome.fault_id]
            self.heard[process] = len(outcomes)
            if process in self.shell.ended:
                del self.heard[process]
                self.model = {key: pages for key, pages in self.model.items() if key[0] != process}
                self.open_faults = {key: token for key, token in self.open_faults.items() if key[0] != process}
        self.pins = [pin for pin in self.pins if pin[:2] in self.model]
        for reply_to in self.shell.discarded:
            owner, _, untouched = self.discards.pop(reply_to)
            for page in untouched if owner in self.model else ():
                self.model[owner][page] = bytes(PAGE)
        self.shell.discarded.clear()

    @invariant()
    def all_is_well(self):
        """Nothing waits for nothing, every byte is somewhere, and the built-in policies make no mistake."""
        self.hear()
        if not self.under_way() and not self.recovering():
            assert self.open_faults.keys() == self.frozen_faults()
            assert self.discards == {}
            assert not self.shell.core.waiting
            assert not self.shell.core.over_budget
        for process in self.shell.core.state.processes.values():
            assert process.resident <= process.memory_max + process.lent
            assert process.stored <= process.swap_max
        for _, region, first, count in self.pins:
            assert {self.shell.state_of(region, page) for page in range(first, first + count)} == {"PRESENT"}
        for (_, region), pages in self.model.items():
            assert [self.shell.bytes_of(region, page) for page in range(len(pages))] == pages
        assert self.mistakes() == 0

    def frozen_faults(self):
        """(process, fault) of those that wait for memory, which no one does for longer than its time."""
        pages = [(process, page) for process, each in self.shell.core.frozen.items() for page in each.pages]
        assert all(self.shell.now < page.until <= self.shell.now + PATIENCE for _, page in pages)
        streams = [(process, page.waiter) for process, page in pages if isinstance(page.waiter, StreamWaiter)]
        return {(process, waiter.fault.fault_id) for process, waiter in streams if not waiter.failed}

    def mistakes(self):
        """Answers of built-in policies that were not used."""
        return self.shell.counters()["policy_errors"]

    def teardown(self):
        if hasattr(self, "shell"):
            try:
                self.end()
            finally:
                self.patched.undo()

    def end(self):
        """All that is under way ends, every byte is read back, and nothing is left of anything."""
        shell = self.shell
        while self.under_way() or self.recovering() or shell.core.frozen:
            if not self.go_on():
                shell.tick(1.0)
        self.all_is_well()
        shell.auto_io, shell.hold_go_on = True, False
        shell.tick(10)
        for process, region in self.model:
            if (
                process not in shell.ended
            ):  # a page of PRIORITY=LOW may lose each race where one frame is above the marks
                shell.hint(process, region, "")
        for (process, region), pages in list(self.model.items()):
            for page, expected in enumerate(pages):
                if process not in shell.ended:
                    self.read_back(process, region, page, expected)
        for process in list(shell.core.state.processes):
            shell.do(events.Detach(process, "the end"))
        state = shell.core.state
        assert state.frames.count_state(FREE) == state.frames.count == state.frames.free
        assert state.swap.free == state.swap.slots
        assert shell.slots == {}

    def under_way(self):
        """Whether anything goes on by itself."""
        return bool(self.shell.pending or self.shell.asked)

    def go_on(self):
        """Have something that is under way end; whether there was something."""
        if self.shell.pending:
            self.shell.complete_io()
            return True
        if self.shell.asked:
            self.shell.do_work()
            return True
        return False

    def recovering(self):
        """A device that failed to write rests, or pages that could not be protected do, and faults wait for that."""
        return self.shell.core.state.swap.recovering(self.shell.now) or self.shell.core.reclaim.passed_over.stuck

    def read_back(self, process, region, page, expected):
        """The page can be read, or its owner is told why not; without pins a reader may lose the race for ever."""
        for _ in range(4):
            data = self.shell.load(process, region, page)
            if data is not None:
                assert data == expected
                return
            outcomes = self.shell.fault(process, region, page, fault_id=self.next_fault)
            while not outcomes:
                self.shell.tick(PATIENCE)
                outcomes = self.shell.outcomes[process][-1:]
            if process in self.shell.ended or isinstance(outcomes[-1], commands.Failed):
                return
            assert isinstance(outcomes[-1], commands.Allocated)
        assert self.shell.core.state.settings.hold_budget == 0
