"""Guarantees, weights, limits that change, and a reserve for newcomers, under any sequence of events.

A process loses no page at or below its guarantee but for its own sake, and no fault within a guarantee fails while
another process could give a page.
"""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.support.core_machine import ALLOC, EVICT, INDEX, OOM, CoreMachine
from tests.support.examples import steps
from usmd.core import commands, events
from usmd.core.frames import DIRTY, HELD, KEPT, PRESENT
from usmd.core.region import PAGE_BITS
from usmd.errors import InvalidArgument, LimitExceeded, OutOfMemory

SHARES = st.sampled_from([(0, 100), (0, 100), (1, 100), (2, 50), (4, 100), (0, 300)])
"""memory_min and memory_weight."""
BUDGETS = st.sampled_from([(None, None), (None, None), (4, None), (2, 1), (3, 4), (9, 3)])
"""memory_max and swap_max."""


def stays(process):
    """Pages in memory that are not on their way out, nor in memory only to move."""
    return process.resident - process.leaving


class ShareMachine(CoreMachine):
    """Up to three processes, of which some have guarantees."""

    def make_shell(self, core):
        shell = super().make_shell(core)
        handle = shell._handle

        def watched(event):
            guaranteed = list(core.state.guarantees.processes)
            before = [(stays(each), each.memory_min) for each in guaranteed]
            own = [self.acts_for_itself(each, event) for each in guaranteed]
            answer = handle(event)
            for process, (had, least), acts in zip(guaranteed, before, own, strict=True):
                acts = acts or self.acts_for_itself(process, event)
                if not acts and process.memory_min == least:
                    assert stays(process) >= min(had, least), f"{event} took from {process.process_id}"
            return answer

        shell._handle = watched
        return shell

    def acts_for_itself(self, process, event):
        """Whether a process may lose pages for its own sake now: it faults, gives up, or shrinks."""
        core = self.shell.core if hasattr(self, "shell") else None
        return (
            core is None
            or process.ended is not None
            or getattr(event, "process_id", None) == process.process_id
            or any(piece.process is process for piece in core.state.work.queue)
            or bool(core.waiting_of.get(process.process_id))
            or process.process_id in core.over_budget
            or process.lent > 0
            or process.memory_min > process.memory_max
        )

    @precondition(lambda self: len(self.live()) < 3)
    @rule(alloc=ALLOC, evict=EVICT, oom=OOM, device=st.sampled_from([None, "0"]), budgets=BUDGETS, shares=SHARES)
    def attach(self, alloc, evict, oom, device, budgets=(None, None), shares=(2, 100)):
        most = self.shell.core.state.guarantees.most
        others = sum(each.memory_min for each in self.shell.core.state.guarantees.processes)
        try:
            process = self.shell.attach(
                "app", alloc, evict, oom, swap_device=device, memory_max=budgets[0], swap_max=budgets[1],
                memory_min=shares[0], memory_weight=shares[1],
            )  # fmt: skip
        except LimitExceeded:
            assert others + shares[0] > most
        except InvalidArgument:
            assert shares[0] > budgets[0]
        else:
            self.heard[process] = 0
            return
        if not self.live():
            self.heard[self.shell.attach("app", alloc, evict, oom)] = 0

    @precondition(lambda self: self.live())
    @rule(pick=INDEX, budgets=BUDGETS, shares=SHARES)
    def limit(self, pick, budgets, shares):
        process = self.live()[pick % len(self.live())]
        state = self.shell.core.state
        found = state.processes[process]
        before = found.memory_max, found.swap_max, found.memory_min, found.weight, found.stored
        try:
            self.shell.do(events.SetLimits(process, *budgets, *shares))
        except (InvalidArgument, LimitExceeded):
            assert before == (found.memory_max, found.swap_max, found.memory_min, found.weight, found.stored)

    def hear(self):
        """No fault within a guarantee fails while another process could give a page."""
        for process, at in list(self.heard.items()):
            for outcome in self.shell.outcomes.get(process, [])[at:]:
                if isinstance(outcome, commands.Failed) and isinstance(outcome.error, OutOfMemory):
                    self.check_failure(process)
        super().hear()

    def check_failure(self, number):
        state, core = self.shell.core.state, self.shell.core
        process = state.processes.get(number)
        if process is None or process.resident >= min(process.memory_min, process.memory_max):
            return
        spare = state.swap.writable(state.now) - core.life.unwritten - state.guarantees.left_by(process)
        for pfn, flags in enumerate(state.frames.flags):
            region = state.regions.get(state.frames.page[pfn] >> PAGE_BITS)
            if region is None or state.frames.state[pfn] != PRESENT or flags & (KEPT | HELD):
                continue
            owner = region.process
            dirty_may_go = spare > 0 and state.budgets.swap_room(owner) > 0
            if owner is process or pfn in core.reclaim.passed_over or (flags & DIRTY and not dirty_may_go):
                continue
            assert stays(owner) <= owner.memory_min, f"frame {pfn} of {owner.process_id} could go for {number}"

    @invariant()
    def all_is_well(self):
        state = self.shell.core.state
        guaranteed = [each for each in state.processes.values() if each.memory_min]
        assert {each.process_id for each in state.guarantees.processes} == {each.process_id for each in guaranteed}
        reserve = state.settings.reserve
        assert state.guarantees.kept == reserve + sum(each.memory_min for each in guaranteed)
        assert state.guarantees.kept - reserve <= state.guarantees.most
        super().all_is_well()


class ReserveMachine(ShareMachine):
    """As above, with a reserve for newcomers."""

    more_settings: ClassVar = {"reserve": 3}


for machine in (ShareMachine, ReserveMachine):
    machine.TestCase.settings = steps(15, 40)


class TestShares(ShareMachine.TestCase):
    """Run by pytest."""


class TestSharesWithAReserve(ReserveMachine.TestCase):
    """Run by pytest."""
