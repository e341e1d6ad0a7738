"""One ladder for a fault: explicit, real and replayed, the same accesses count the same, and policies hear the same.

What the three count on their own, and why, says OWN. Foresight of writes in order is real memory's alone, and is off.
"""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.made_policies import make_over
from tests.support.real_shell import DONE, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.instant import InstantCore
from usmd.core.region import PAGE_MASK
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.core.write_order import WriteOrder
from usmd.policies import registry

PAGES = 12
SLOTS = 2 * PAGES
DATA = b"x" * PAGE
OWN = {
    "accesses",  # real memory shows none, and a call's access after its fault is one as well
    "protect_faults",  # real memory's
    "yields",  # an answer, which only a call's fault has
    "refused_victims",  # pages are held between a fault and its access, which a replay does at once
}
HOOKS = ("page_filled", "page_accessed", "page_missed", "page_evicted", "page_left")


class Unforeseen(WriteOrder):
    """An order of writes in which no write is ever foreseen."""

    def written(self, page):
        return False

    def foresees(self, page, *, alone):
        return False


class Heard:
    """Makes policies that note what they are told and asked, by page."""

    def __init__(self):
        self.told = []
        self.asked = []
        self._within = 0
        """How many policies are being made that build on the next one."""

    def make(self, kind, specification, view):
        if self._within:
            return registry.make(kind, specification, view)
        found, _ = registry.find(kind, specification)
        members = {}
        if kind == "evict":
            members = {hook: self._listening(getattr(found, hook), hook) for hook in HOOKS}
            members |= {"hears_accesses": True, "hears_misses": True}
        elif kind == "alloc":
            members = {"allocate": self._asking(found.allocate)}
        self._within += 1
        try:
            return make_over(kind, specification, view, **members)
        finally:
            self._within -= 1

    def _listening(self, heard, hook):
        def noted(policy, number, *rest):
            page = number if hook == "page_missed" else policy.memory.page(number)
            self.told.append((hook, page & PAGE_MASK, *map(bool, rest)))
            heard(policy, number, *rest)

        return noted

    def _asking(self, allocate):
        def asked(policy, fault, async_rq):
            self.asked.append((fault.page, fault.write, fault.swap))
            return allocate(policy, fault, async_rq)

        return asked


class Way:
    """One way to touch the pages of a region."""

    def __init__(self, core, heard, region):
        self.core = core
        self.heard = heard
        self.region = core.state.regions[region]
        self.process = self.region.process
        self.process.touches = array("q")
        self.region.write_order = Unforeseen()

    def counted(self):
        """Each counter that all ways share; a fault for a protected page is real memory's own."""
        counters = self.process.counters.as_dict()
        for name in ("faults", "minor_faults"):
            counters[name] -= counters["protect_faults"]
        counters["faults of the region"] = self.region.faults - counters["protect_faults"]
        counters["major faults of the region"] = self.region.major_faults
        counters["evictions of the region"] = self.region.evictions
        return {name: count for name, count in counters.items() if name not in OWN}

    def effects(self):
        """What happened under each hint."""
        return [(r.first, r.end, r.effects.faults, r.effects.evictions) for r in self.region.hints.ranges]

    def touches(self, least=0):
        """What was recorded, as (page, kind), of `least` kind."""
        recorded = zip(self.process.touches[::2], self.process.touches[1::2], strict=True)
        return [(key & PAGE_MASK, kind) for key, kind in recorded if kind >= least]

    def written(self):
        """What was recorded, as (page, whether it is a write), whether it was a fault or not."""
        return [(page, kind % 2) for page, kind in self.touches()]


class WithShell(Way):
    """A way that a shell performs."""

    def __init__(self, make_shell, *, frames=6, alloc="first_fit", evict="fifo", hold_budget=1, auto_io=True):
        heard = Heard()
        core = make_core(
            frames=frames,
            devices=(("swap0", SLOTS),),
            make_policy=heard.make,
            hold_budget=hold_budget,
            hold_seconds=1e9,
            deny_budget=2,
        )
        self.shell = make_shell(core, auto_io=auto_io)
        self.number = self.shell.attach(alloc=alloc, evict=evict)
        super().__init__(core, heard, self.shell.map(self.number, PAGES))
        self.at = self.number, self.region.region_id

    def hint(self, text, first, count):
        self.shell.hint(*self.at, text, first, count)

    def evict(self, page):
        self.hint("DONTNEED", page, 1)

    def finish_io(self):
        while self.shell.pending:
            self.shell.complete_io()


class Explicit(WithShell):
    """A call finds a page absent, files a fault, and calls again."""

    def __init__(self, **more):
        super().__init__(Shell, **more)

    def access(self, page, write):
        if write:
            return self.shell.store(*self.at, page, DATA)
        return self.shell.load(*self.at, page) is not None

    def touch(self, page, write):
        if not self.access(page, write):
            came = self.shell.fault(*self.at, page, write=write)[-1]
            assert isinstance(came, commands.Allocated)
            assert self.access(page, write)

    def begin(self, page, write):
        """A fault alone, which may have to wait."""
        self.shell.fault(*self.at, page, write=write)

    begin_late = begin

    def end(self, page, write):
        """The access that a fault was for."""
        assert self.access(page, write)


class Real(WithShell):
    """A thread touches a page, and waits in the kernel if it must."""

    def __init__(self, **more):
        super().__init__(RealShell, **more)

    def touch(self, page, write):
        self.begin(page, write)
        self.end(page, write)

    def begin(self, page, write):
        self.thread = self.shell.touch(*self.at, page, DATA if write else None)

    def begin_late(self, page, write):
        """The thread faulted before the page came, and its message is read only now."""
        self.shell.do(events.PageFaults(self.number, [events.PageFault(self.region.region_id, page, write)]))

    def end(self, page, write):
        assert self.thread.state == DONE
        self.core.state.recent.clear()  # the instruction has ended


class Replayed(Way):
    """The core without bytes hears of touches in runs."""

    def __init__(self, *, frames=6, alloc="first_fit", evict="fifo"):
        heard = Heard()
        settings = CoreSettings(
            frames=frames, page_size=PAGE, deny_budget=2, deny_budget_total=frames, eviction_records=0
        )
        core = InstantCore(settings, [DeviceInfo("swap0", SLOTS)], heard.make)
        core.handle(events.Attach("app", alloc, evict, "refuse"), 0.0)
        core.handle(events.Map(1, PAGES * PAGE, ""), 0.0)
        super().__init__(core, heard, 1)

    def touch(self, page, write):
        self.core.handle(Touches(1, 1, [page], bytes([write])), 0.0)
        assert violations(self.core) == []

    begin = touch

    def end(self, page, write):
        """It was all done at once."""

    def finish_io(self):
        """There is none."""

    def hint(self, text, first, count):
        self.core.handle(events.SetHint(1, 1, first * PAGE, count * PAGE, parse_hint(text)), 0.0)

    def evict(self, page):
        self.hint("DONTNEED", page, 1)


def agree(explicit, real, replayed):
    """All three have counted the same, and said the same of each page."""
    assert explicit.counted() == real.counted() == replayed.counted()
    assert explicit.effects() == real.effects() == replayed.effects()
    assert explicit.touches() == replayed.touches()
    assert explicit.touches(least=2) == real.touches(least=2) == replayed.touches(least=2)
    assert explicit.heard.asked == real.heard.asked == replayed.heard.asked
    assert explicit.heard.told == replayed.heard.told
    unseen = [each for each in explicit.heard.told if each[0] != "page_accessed"]
    assert unseen == [each for each in real.heard.told if each[0] != "page_accessed"]


TOUCH = st.tuples(st.just("touch"), st.integers(0, PAGES - 1), st.booleans())
HINT = st.tuples(
    st.just("hint"),
    st.sampled_from(["PRIORITY=LOW", "PRIORITY=HIGH", "EVICTION=DENY", "DONTNEED", ""]),
    st.integers(0, PAGES - 1),
    st.integers(1, PAGES),
)


@pytest.mark.parametrize("evict", ["fifo", "hint_aware(fallback=fifo)"])
@pytest.mark.parametrize("alloc", ["first_fit", "async_aware"])
@examples(30)
@given(steps=st.lists(st.one_of(TOUCH, TOUCH, TOUCH, HINT), max_size=60))
def test_the_same_accesses_count_the_same_in_every_way(alloc, evict, steps):
    ways = Explicit(alloc=alloc, evict=evict), Real(alloc=alloc, evict=evict), Replayed(alloc=alloc, evict=evict)
    for kind, *rest in steps:
        for way in ways:
            if kind == "touch":
                way.touch(*rest)
            else:
                text, first, count = rest
                way.hint(text, first, min(count, PAGES - first))
    agree(*ways)


def in_state(way, state):
    """Bring page 0 into a state, under a hint that counts; what happened so far is forgotten."""
    way.hint("PRIORITY=HIGH", 0, PAGES)
    if state != "ABSENT":
        way.touch(0, True)
        way.finish_io()
    if state in ("SWAPPED", "EVICTING", "FILLING"):
        way.evict(0)
    if state in ("SWAPPED", "FILLING"):
        way.finish_io()
    if state == "FILLING":
        way.hint("WILLNEED", 0, 1)
    del way.process.touches[:]
    way.heard.told.clear()
    way.heard.asked.clear()
    assert way.shell.state_of(way.region.region_id, 0) == state


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("state", ["ABSENT", "SWAPPED", "FILLING"])
def test_faults_on_a_page_in_any_state_count_the_same_by_call_and_by_touch(state, write, times):
    explicit, real = Explicit(auto_io=False, alloc="async_aware"), Real(auto_io=False, alloc="async_aware")
    for way in (explicit, real):
        in_state(way, state)
        seen = 1 if state == "ABSENT" else times  # a thread that finds the page does not fault
        for _ in range(seen):
            way.begin(0, write)
        way.finish_io()
        for _ in range(seen):
            way.end(0, write)
    assert explicit.counted() == real.counted()
    assert explicit.effects() == real.effects()
    assert explicit.written() == real.written()
    assert explicit.heard.asked == real.heard.asked
    if (state, write) == ("FILLING", True):
        # What came in for nobody is protected, so that the first write to it is a fault of its own, and an access.
        explicit.heard.told.append(("page_accessed", 0, True))
    assert explicit.heard.told == real.heard.told


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("state", ["PRESENT", "EVICTING"])
def test_a_fault_on_a_page_that_is_there_by_now_counts_the_same_by_call_and_by_touch(state, write):
    explicit, real = Explicit(auto_io=False, alloc="async_aware"), Real(auto_io=False, alloc="async_aware")
    for way in (explicit, real):
        in_state(way, state)
        way.begin_late(0, write)
    explicit.end(0, write)
    assert explicit.counted() == real.counted()
    assert explicit.effects() == real.effects()
    assert explicit.touches() == real.touches() == [(0, 3 if write else 2)]
    assert explicit.heard.asked == real.heard.asked == []
    assert explicit.heard.told == real.heard.told


def test_two_faults_on_a_swapped_page_are_two_faults_under_its_hint_and_two_touches_in_every_way():
    ways = Explicit(auto_io=False), Real(auto_io=False), Replayed()
    for way in ways:
        way.touch(0, True)
        way.evict(0)
        way.finish_io()
        way.hint("PRIORITY=HIGH", 0, 1)
        del way.process.touches[:]
        way.begin(0, False)
        way.begin(0, False)
        way.finish_io()
        way.end(0, False)
        way.end(0, False)
    assert [way.written() for way in ways] == [[(0, 0), (0, 0)]] * 3
    assert [way.effects() for way in ways[:2]] == [[(0, 1, 2, 0)]] * 2
    assert [way.process.counters.parked_faults for way in ways] == [1, 1, 0]
    assert [way.effects() for way in ways[2:]] == [[(0, 1, 1, 0)]]  # the second finds it there
    assert [len(way.heard.asked) for way in ways] == [2, 2, 2]  # when it was first touched, and once for its fill


def test_a_page_that_nobody_faulted_on_asks_the_policy_once_however_many_faults_park_on_it():
    for way in (Explicit(auto_io=False, alloc="async_aware"), Real(auto_io=False, alloc="async_aware")):
        in_state(way, "FILLING")
        for _ in range(3):
            way.begin(0, False)
        assert way.heard.asked == [(0, False, True)]
        way.finish_io()
        assert way.process.counters.parked_faults == 3


@pytest.mark.parametrize("alloc", ["first_fit", "async_aware"])
def test_a_fault_that_parks_yields_as_the_one_that_it_parks_on(alloc):
    explicit = Explicit(auto_io=False, alloc=alloc)
    explicit.touch(0, True)
    explicit.evict(0)
    explicit.finish_io()
    for _ in range(3):
        explicit.begin(0, False)
    assert explicit.process.counters.yields == (3 if alloc == "async_aware" else 0)
    assert len(explicit.heard.asked) == 2
