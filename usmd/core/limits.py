"""Replaces the limits of a live process, its guarantee and its weight; and the limits of a user.

A lower `memory_max` holds for new pages at once. The pages above it are evicted in parts, as far as they can go. What a
process has in swap cannot go anywhere, so a `swap_max` below it is refused. Pages that EVICTION=DENY keeps above a
lower budget become evictable in parts. Pins end only as their process says, so a budget below them is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core import quotas
from usmd.core.frames import UNEVICTABLE
from usmd.core.region import NO_MAX
from usmd.core.work import Kind, Work
from usmd.errors import InvalidArgument

if TYPE_CHECKING:
    from usmd.core.budget_queue import BudgetQueue
    from usmd.core.events import SetLimits, SetUserLimits
    from usmd.core.page_life import PageLife
    from usmd.core.pages_left import Steps
    from usmd.core.region import Process
    from usmd.core.state import State


PAGES_A_STEP: Final = 16
"""Entries of a page table that are looked at at a time for pages that EVICTION=DENY keeps."""


def _granted(own: int, of_user: int, now: int) -> int:
    """What of its own limit a process has: all, or at most what its user grants it `now`."""
    return own if of_user == NO_MAX else min(own, now)


class Limits:
    """Handles SetLimits and SetUserLimits. A request that raises has changed nothing."""

    def __init__(self, state: State, life: PageLife, budget_queue: BudgetQueue) -> None:
        self._state = state
        self._life = life
        self._budget_queue = budget_queue

    def set(self, event: SetLimits) -> None:
        """Replace the limits of a process; raises NotFound, InvalidArgument or LimitExceeded."""
        state = self._state
        process = state.process(event.process_id)
        state.budgets.check(event.memory_max, event.swap_max)
        state.guarantees.check(event.memory_min, event.memory_weight, event.memory_max, process.own_memory_min)
        quotas.check(event.quotas, state.settings, quotas.quotas_of(process, state.settings))
        self._check_pins(process, event.quotas.deny_budget)
        swap_max = NO_MAX if event.swap_max is None else event.swap_max
        if swap_max != process.own_swap_max:
            if process.stored > swap_max:
                raise InvalidArgument(
                    f"swap_max of {swap_max} pages; allowed are {process.stored} and more, because {process.name} has "
                    "so many pages in swap, or in memory with a slot, and they have nowhere to go"
                )
            process.own_swap_max = swap_max
            of_user = NO_MAX if process.user is None else process.user.swap_max
            state.budgets.change_swap_max(process, _granted(swap_max, of_user, process.swap_max))
        state.guarantees.set(process, event.memory_min, event.memory_weight)
        memory_max = NO_MAX if event.memory_max is None else event.memory_max
        if memory_max != process.own_memory_max:
            process.own_memory_max = memory_max
            of_user = NO_MAX if process.user is None else process.user.memory_max
            state.budgets.change_memory_max(process, _granted(memory_max, of_user, process.memory_max))
            if process.lent:
                state.work.add(Work(Kind.SHRINK, process, steps=self._shrink(process)))
        most_faults = process.max_faults
        quotas.give(process, event.quotas, state.settings)
        if process.max_faults > most_faults:
            state.faults_fit(process)
        if self._above_budget(process):
            state.work.add(Work(Kind.LET_GO, process, steps=self._let_go(process)))
        own = event.quotas
        state.notice(
            "limits_set",
            process.process_id,
            f"{process.name} (process {process.process_id}) has other limits",
            {
                "memory_max": "none" if event.memory_max is None else str(event.memory_max),
                "memory_min": str(event.memory_min),
                "memory_weight": str(event.memory_weight),
                "swap_max": "none" if event.swap_max is None else str(event.swap_max),
                **{name: str(value) for name in own.__struct_fields__ if (value := getattr(own, name)) is not None},
            },
        )

    def set_user(self, event: SetUserLimits) -> None:
        """Replace the limits of a user; raises InvalidArgument or LimitExceeded."""
        state = self._state
        state.users.check(event, state.processes.values())
        user = state.users.of.get(event.uid)
        most_faults = NO_MAX if user is None else user.max_faults
        for process in state.users.set(event, state.processes.values()):
            state.work.add(Work(Kind.SHRINK, process, steps=self._shrink(process)))
        if user is not None and user.max_faults > most_faults:
            state.fault_room.fits(user)
        texts = {
            name: "none" if (value := getattr(event, name)) is None else str(value)
            for name in ("max_sessions", "memory_max", "memory_min", "swap_max")
        }
        for name in ("memory_weight", "max_regions", "max_hint_ranges", "max_faults"):
            if (value := getattr(event, name)) is not None:
                texts[name] = str(value)
        state.notice("user_limits_set", 0, f"user {event.uid} has other limits", {"uid": str(event.uid), **texts})

    def _check_pins(self, process: Process, budget: int | None) -> None:
        if budget is not None and budget < process.pinned:
            raise InvalidArgument(
                f"deny_budget of {budget} pages; allowed are {process.pinned} and more, because {process.name} has "
                "pinned so many, and pins end as their process says"
            )

    def _above_budget(self, process: Process) -> bool:
        return process.ended is None and process.unevictable + process.pinned > self._life.budget(process)

    def _let_go(self, process: Process) -> Steps:
        """Make pages that EVICTION=DENY keeps evictable until a process is within its budget."""
        flags, life = self._state.frames.flags, self._life
        for region in list(process.regions.values()):
            page = 0
            while page < region.page_count and region.gone is None and region.unevictable:
                if not self._above_budget(process):
                    return
                entries, page = region.table.part(page, region.page_count, PAGES_A_STEP)
                for each, entry in entries:
                    if entry > 0 and flags[entry - 1] & UNEVICTABLE:
                        life.apply_hint(region, each, entry - 1)
                for _ in range(max(len(entries), 1)):
                    yield True

    def _shrink(self, process: Process) -> Steps:
        """Evict pages of a process until it is within its `memory_max`, or can give none now.

        What remains goes when it can, as a frame does that was lent, see `BudgetQueue.take_back`.
        """
        while process.lent and process.ended is None:
            before = process.resident - process.leaving
            self._budget_queue.take_back()
            for _ in range(before - process.resident + process.leaving):
                yield True
            if process.resident - process.leaving == before:
                return
