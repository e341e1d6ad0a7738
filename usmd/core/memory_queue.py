"""Serves the pages that wait for memory, in the order of their faults, so that none starves.

Victims are evicted for them. If nothing can be evicted, the oom policy decides.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from usmd.core.allocation import Fault
from usmd.core.freezing import Frozen
from usmd.errors import OutOfMemory

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process
    from usmd.core.state import State
    from usmd.core.waiters import WaitingPage


class MemoryQueue:
    """Serves `Placement.waiting`."""

    def __init__(self, state: State, life: PageLife, placement: Placement, reclaim: Reclaim) -> None:
        self._state = state
        self._life = life
        self._placement = placement
        self._reclaim = reclaim
        self._waiting = placement.waiting
        self.frozen = Frozen(state, placement)
        self.victim_of_oom: int | None = None
        """Process that the oom policy chose; `Core` ends its session and clears this."""

    def serve(self) -> None:
        """Give frames to the waiting pages, in order. Evicts for them, or asks the oom policy if it cannot."""
        state, life, waiting = self._state, self._life, self._waiting
        nothing_goes = False
        while waiting:
            first = self._next()
            waiter = first.waiter
            entry, free = waiter.region.table[waiter.page], state.frames.free
            if waiter.failed:
                self._placement.take(first)
                waiter.came(None)
            elif entry > 0:
                self._placement.take(first)
                self._placement.join(waiter, entry - 1)
            elif not self._placement.may_have(waiter.region, waiter.page):
                self._placement.take(first)
                self._placement.wait(first)
            elif self._placement.room(waiter.region.process, swap=entry < 0):
                self._placement.take(first)
                if not self._placement.serve(waiter, first.plan, yields=first.yields, writable=first.writable):
                    waiter.came(None)
            elif (leaving := len(life.evicting) + state.dying_frames) >= len(waiting):
                return
            elif not nothing_goes and self._evict_for(first, len(waiting) - leaving, swap=entry < 0):
                if state.frames.free == free:
                    return  # a later event serves the rest; else clean pages went at once
            elif self._something_comes():
                return  # a later event serves the rest
            else:
                nothing_goes = True  # a refusal frees nothing, so do not try again for the next page
                if not self._out_of_memory(first):
                    return

    def _next(self) -> WaitingPage:
        """The page to be served next: of a process below its guarantee, else the first one.

        Free frames that the first one must leave to others are for the first page that need not leave them.
        """
        waiting, of = self._waiting, self._placement.waiting_of
        for process in self._state.guarantees.first_in_turn():
            if own := of.get(process.process_id):
                return next(iter(own))
        first = next(iter(waiting))
        if self._state.frames.free > 1 and len(of) > 1 and not self._has_room(first):
            return next((each for own in of.values() for each in islice(own, 1) if self._has_room(each)), first)
        return first

    def _has_room(self, page: WaitingPage) -> bool:
        region = page.waiter.region
        swap = region.table[page.waiter.page] < 0
        return self._placement.may_have(region, page.waiter.page) and self._placement.room(region.process, swap=swap)

    def _evict_for(self, first: WaitingPage, wanted: int, *, swap: bool) -> int:
        process = first.waiter.region.process
        if not swap:
            wanted += max(self._placement.kept(process) - 1 - self._state.frames.free, 0)
        own = len(self._placement.waiting_of[process.process_id])
        return self._reclaim.for_faults(wanted, process, own, swap=swap)

    def _something_comes(self) -> bool:
        """Whether frames or slots may become free without a new eviction now."""
        life, state = self._life, self._state
        return bool(
            life.evicting
            or life.filling
            or life.writing
            or state.releasing
            or state.refreshing
            or state.swap.recovering(state.now)
            or self._reclaim.passed_over.stuck
        )

    def _out_of_memory(self, first: WaitingPage) -> bool:
        """Ask the oom policy; True: the fault waits or failed, serve the next page; False: a process must end first."""
        waiter = first.waiter
        region, page, state = waiter.region, waiter.page, self._state
        process = region.process
        hint = region.hints.find(page)
        fault = Fault(region.region_id, page, region.page_count, waiter.write, region.table[page] < 0, hint)
        victim = process.policies.out_of_memory(fault)
        if victim is not None:
            process.counters.oom_kills += 1
            self.victim_of_oom = victim
            return False
        self._placement.take(first)
        patience = process.policies.patience(fault)
        if patience and self.frozen.add(first, patience):
            return True
        self.frozen.refused(process)
        process.counters.oom_refusals += 1
        frames = state.frames
        refused = self._reclaim.passed_over.refused_pages
        unstored = f", {refused} refused by every swap device" if refused else ""
        others = state.guarantees.left_by(process) if state.guarantees.kept else 0
        whose = "pages from swap and for other processes" if frames.free > 1 else "pages from swap"
        kept = f", or kept for {whose} ({frames.free} free)," if frames.free else ""
        reserved = f", {others} pages of memory and swap kept for guarantees and newcomers" if others else ""
        used = state.budgets.swap_in_words(process, state.settings.page_size)
        waited = f"; it waited {patience:g} s for memory" if patience else ""
        over = f"; {process.name} keeps dirty pages because {used}: raise it in its rule" if used else ""
        waiter.came(
            OutOfMemory(
                f"no frame for page {page} of region {region.region_id}: all {frames.count} are in use{kept} and none "
                f"can be evicted ({state.unevictable} unevictable, {state.pinned} pinned, {len(state.holds)} held for "
                f"a moment, {state.swap.free} of {state.swap.slots} swap slots free{reserved}{unstored}){over}{waited}"
            ),
        )
        return True

    def unmapped(self, process: Process) -> None:
        """Fail the waiting pages of regions of a process that are gone."""
        self.frozen.unmapped(process)
        waiting, number = self._waiting, process.process_id
        own = self._placement.waiting_of.get(number)
        if own is None:
            return
        alive = process.ended is None
        gone = [each for each in own if each.waiter.region.unmapped is not None] if alive else list(own)
        for each in gone:  # `take`, in one go
            del waiting[each], own[each]
        if not own:
            del self._placement.waiting_of[number]
        self._state.waits.end([each.waiter for each in gone], None)
