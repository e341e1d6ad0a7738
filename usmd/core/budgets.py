"""The budget of memory that a process may have: at its end the process gives pages of its own, and nobody else does.

A fault for which its process has no room waits apart from those that wait for memory, so that it holds up none of them.
Pages of the process are evicted for it. When none can go and nothing is under way, the fault fails and names the
budget. What charges a process are the steps by which its pages get and lose their frames: `Process.resident`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

from usmd.errors import OutOfMemory, Unmapped
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process, Region
    from usmd.core.state import State
    from usmd.core.waiters import WaitingPage


class Budgets:
    """Serves the faults of processes that are at their `memory_max`: `Placement.over_budget`."""

    def __init__(self, state: State, life: PageLife, placement: Placement, reclaim: Reclaim) -> None:
        self._state = state
        self._life = life
        self._placement = placement
        self._reclaim = reclaim
        self._waiting = placement.over_budget

    def serve(self) -> None:
        """Let faults go on for which there is room by now, and have each process that is at its end make room."""
        for process_id in list(self._waiting):
            queue = self._waiting[process_id]
            while queue and self._serve_first(queue):
                pass
            if not queue:
                del self._waiting[process_id]

    def _serve_first(self, queue: deque[WaitingPage]) -> bool:
        """Whether the first page that waits does so no more."""
        first = queue[0]
        waiter = first.waiter
        region, process = waiter.region, waiter.region.process
        entry = region.table[waiter.page]
        if waiter.failed:
            queue.popleft()
            waiter.came(None)
        elif entry > 0:
            queue.popleft()
            self._placement.join(waiter, entry - 1)
        elif process.resident < process.memory_max:
            queue.popleft()
            if self._placement.waiting or not self._placement.room(swap=entry < 0):
                self._placement.waiting.append(first)
            elif not self._placement.serve(waiter, first.plan, yields=first.yields, writable=first.writable):
                waiter.came(None)
        elif self._makes_room(process, len(queue)):
            return False
        else:
            queue.popleft()
            process.counters.oom_refusals += 1
            waiter.came(self._error(region, waiter.page))
        return True

    def _makes_room(self, process: Process, wanted: int) -> bool:
        """Whether pages of a process are on their way out, or will be when what is under way has ended."""
        state, reclaim = self._state, self._reclaim
        wanted = min(wanted - process.leaving, state.settings.reclaim_batch)
        if wanted <= 0:
            return True
        if reclaim.from_process(process, wanted) or process.leaving:
            return True
        if any(filling.region is not None and filling.region.process is process for filling in state.filling.values()):
            return True
        if state.refreshing or reclaim.passed_over.stuck or state.swap.recovering(state.now):
            return True
        return reclaim.end_holds_of(process) and reclaim.from_process(process, wanted) > 0

    def _error(self, region: Region, page: int) -> OutOfMemory:
        process, size = region.process, self._state.settings.page_size
        return OutOfMemory(
            f"no frame for page {page} of region {region.region_id}: {process.name} has {process.resident} pages in "
            f"memory, its memory_max is {process.memory_max} ({format_size(process.memory_max * size)}), and none of "
            f"them can be evicted ({process.unevictable} unevictable, {process.pinned} pinned, "
            f"{self._state.swap.free} of {self._state.swap.slots} swap slots free)"
        )

    def unmapped(self, regions: Collection[Region]) -> None:
        """Regions of one process go: their pages that wait fail."""
        gone: list[WaitingPage] = []
        for region in regions if self._waiting else ():
            queue = self._waiting.get(region.process.process_id)
            if queue is not None:
                gone += [each for each in queue if each.waiter.region is region]
                kept = [each for each in queue if each.waiter.region is not region]
                queue.clear()
                queue.extend(kept)
                if not kept:
                    del self._waiting[region.process.process_id]
        for each in gone:
            each.waiter.came(Unmapped(f"region {each.waiter.region.region_id} was unmapped"))
