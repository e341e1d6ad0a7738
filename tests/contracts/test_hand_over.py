"""One evict policy takes the place of another while the core goes on: the new one knows every page that the old one
did, in the order in which that one would have evicted them, and no byte is lost.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.support import core_machine
from tests.support.examples import steps
from tests.support.made_policies import make_over
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, work
from usmd.core.frames import KEPT, PRESENT
from usmd.core.region import PAGE_BITS
from usmd.core.validate import violations
from usmd.policies import registry

EVICT = sorted(registry.TABLES["evict"])
SPECIFICATIONS = [*EVICT, *(f"hint_aware(fallback={name})" for name in EVICT)]


class SlowShell(Shell):
    """Long work goes on when the test says so."""

    held = False

    def _perform(self, command):
        if isinstance(command, commands.GoOn):
            self.held = True
            return ()
        return super()._perform(command)


def evictable(core, process):
    """The frames that the policy of a process should know, those included that are still to be released."""
    frames, regions = core.state.frames, core.state.regions | core.state.dying
    return [
        pfn
        for pfn in range(frames.count)
        if frames.state[pfn] == PRESENT
        and not frames.flags[pfn] & KEPT
        and regions[frames.page[pfn] >> PAGE_BITS].process.process_id == process
    ]


def named_by(core, process):
    """All frames that the policy names when none of them can go."""
    return list(core.state.processes[process].policies.candidates(1000))


def shell_with_pages(evict, make_policy=registry.make, **more):
    """A process with 9 pages, 7 of which it may evict; which one was touched how often differs."""
    shell = Shell(make_core(frames=12, make_policy=make_policy, **more))
    shell.core.state.future = lambda page: page * 7919 % 97
    process = shell.attach(evict=evict)
    region = shell.map(process, 40)
    shell.hint(process, region, "PRIORITY=LOW", 2, 2)
    shell.hint(process, region, "PRIORITY=HIGH", 4, 2)
    shell.hint(process, region, "EVICTION=DENY", 6, 1)
    for page in range(9):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in (0, 3, 3, 5, 0, 1, 8):
        shell.get(process, region, page)
    shell.do(events.Pin(process, region, 7, 1))
    return shell, process, region


@pytest.mark.parametrize("after", EVICT)
@pytest.mark.parametrize("before", EVICT)
def test_every_policy_can_follow_every_other(before, after):
    found, _ = registry.find("evict", before)
    listens, told = [], []

    def telling(policy):
        for pfn in found.choose_victims(policy):
            if listens:
                told.append(pfn)
            yield pfn

    def make(kind, specification, view):
        if kind != "evict" or listens or within:
            return registry.make(kind, specification, view)
        within.append(True)
        return make_over(kind, specification, view, choose_victims=telling)

    within = []
    shell, process, region = shell_with_pages(before, make)
    policies = shell.core.state.processes[process].policies
    listens.append(True)
    shell.do(events.SetPolicy(process, "evict", after))
    assert sorted(told) == evictable(shell.core, process)
    assert len(told) == 7
    named = named_by(shell.core, process)
    assert sorted(named) == sorted(told)
    if after in ("fifo", "lru", "lfu", "clock"):  # those that keep to the order in which pages come
        assert named == told
    for page in range(9, 24):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert [shell.state_of(region, page) for page in (6, 7)] == ["PRESENT", "PRESENT"]
    shell.hint(process, region, "")
    shell.do(events.Unpin(process, region, 7, 1))
    for page in range(24):
        assert shell.get(process, region, page) == bytes([page + 1]) * PAGE
    assert sorted(named_by(shell.core, process)) == evictable(shell.core, process)
    assert (policies.blame.errors["evict"], shell.counters()["policy_errors"]) == (0, 0)
    assert policies.specifications["evict"] == after


def test_a_policy_that_does_not_exist_follows_none():
    shell, process, _ = shell_with_pages("lru")
    before = named_by(shell.core, process)
    for specification in ("mru", "clock(bits=9)", "lru(", "first_fit"):
        with pytest.raises(registry.UsmdError):
            shell.do(events.SetPolicy(process, "evict", specification))
    assert named_by(shell.core, process) == before
    assert shell.core.state.processes[process].policies.specifications["evict"] == "lru"


@pytest.mark.parametrize("evict", EVICT)
def test_a_policy_that_follows_itself_forgets_what_it_remembered_and_no_page(evict):
    shell, process, _ = shell_with_pages(evict)
    for _ in range(3):
        shell.do(events.SetPolicy(process, "evict", evict))
        assert sorted(named_by(shell.core, process)) == evictable(shell.core, process)


@pytest.mark.parametrize("before", EVICT)
def test_a_policy_that_is_asked_for_its_order_while_its_pages_go_makes_no_error(before, monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 2)
    shell = SlowShell(make_core(frames=300, devices=(("swap0", 400),)), check=False)
    shell.core.state.future = lambda page: page * 7919 % 97
    process = shell.attach(evict=before)
    gone, kept = shell.map(process, 297), shell.map(process, 4)
    for region, pages in ((gone, 297), (kept, 4)):
        for page in range(pages):
            shell.put(process, region, page, b"x" * PAGE)
    shell.do(events.SetPolicy(process, "evict", "lru"))
    assert shell.held
    shell.do(events.Unmap(process, gone))
    while shell.held:
        shell.held = False
        shell.do(events.GoOn())
    assert shell.counters()["policy_errors"] == 0
    assert sorted(named_by(shell.core, process)) == evictable(shell.core, process)
    assert shell.core.state.processes[process].policies._known is None


class HandOverMachine(core_machine.CoreMachine):
    """Any sequence of events in any order of I/O, with policies that take each other's place between any two."""

    @initialize(
        frames=st.sampled_from([3, 5, 8, 12]),
        marks=st.sampled_from([(0, 0), (1, 2)]),
        hold_budget=st.sampled_from([0, 1, 3]),
        deny=st.sampled_from([(12, 12), (2, 3)]),
        slots=st.sampled_from([(3, 2), (40, 40), (40, 40)]),
        max_fault_pages=st.just(6),
        policies=st.tuples(core_machine.ALLOC, st.sampled_from(SPECIFICATIONS), core_machine.OOM),
    )
    def start(self, **more):
        super().start(**more)

    def make_shell(self, core):
        core.state.future = lambda page: page * 7919 % 97
        return super().make_shell(core)

    @precondition(lambda self: self.live())
    @rule(pick=core_machine.INDEX, specification=st.sampled_from(SPECIFICATIONS))
    def set_policy(self, pick, specification):
        process = self.live()[pick % len(self.live())]
        core = self.shell.core
        self.shell.do(events.SetPolicy(process, "evict", specification))
        self.hear()
        if process in core.state.processes:
            assert sorted(named_by(core, process)) == evictable(core, process)

    @precondition(lambda self: self.model)
    @rule(pick=core_machine.INDEX, first=core_machine.INDEX, times=st.integers(1, 4))
    def load_again(self, pick, first, times):
        for _ in range(times):
            self.load(pick, first)

    @invariant()
    def every_evictable_page_is_known(self):
        """But for those that are still to be handed over."""
        core = self.shell.core
        for process in core.state.processes.values():
            named = sorted(process.policies._evict.choose_victims())
            known = process.policies._known
            evictables = evictable(core, process.process_id)
            assert named == [pfn for pfn in evictables if known is None or known[pfn]]
        assert violations(core) == []


class SlowHandOverMachine(HandOverMachine):
    """As above, with events between the parts of a hand-over, each of which is of one page or two."""

    def make_shell(self, core):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(work, "PAGES_AN_EVENT", 2)
        self.patch.setattr(work, "END_COSTS", 1)
        core.state.future = lambda page: page * 7919 % 97
        return SlowShell(core, auto_io=False)

    @precondition(lambda self: self.live())
    @rule(pick=core_machine.INDEX, specification=st.sampled_from(SPECIFICATIONS))
    def set_policy(self, pick, specification):
        process = self.live()[pick % len(self.live())]
        self.shell.do(events.SetPolicy(process, "evict", specification))
        self.hear()

    @precondition(lambda self: self.shell.held)
    @rule()
    def chores_go_on(self):
        self.shell.held = False
        self.shell.do(events.GoOn())

    def under_way(self):
        return self.shell.held or super().under_way()

    def go_on(self):
        if self.shell.held:
            self.chores_go_on()
            return True
        return super().go_on()

    def teardown(self):
        try:
            if hasattr(self, "shell"):
                while self.under_way():
                    self.go_on()
                assert all(each.policies._known is None for each in self.shell.core.state.processes.values())
                self.patch.undo()
                self.shell._perform = super(SlowShell, self.shell)._perform
            super().teardown()
        finally:
            if hasattr(self, "patch"):
                self.patch.undo()


for machine in (HandOverMachine, SlowHandOverMachine):
    machine.TestCase.settings = steps(8, 40)


class TestHandOver(HandOverMachine.TestCase):
    """Run by pytest."""


class TestSlowHandOver(SlowHandOverMachine.TestCase):
    """Run by pytest."""
