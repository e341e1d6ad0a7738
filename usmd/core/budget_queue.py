"""Serves the faults of processes at their `memory_max`, apart from the faults that wait for memory.

So they hold up no fault of another process. Pages of their own process are evicted for them. If none can be evicted and
nothing is under way, a page from swap comes in on a lent frame if its process lacks only a free slot; any other fault
fails and names the budgets that are used up.

If it is the user of a process that is at its `memory_max`, the process of the user furthest above its share gives the
pages. Of the faults that wait for one user, those of the process furthest below its share are served first, so that no
other process of the user takes what leaves for them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from usmd.core.frames import DIRTY, HELD, KEPT, PRESENT
from usmd.core.guarantees import MOST_GIVERS
from usmd.core.holds import end_those_of
from usmd.core.region import PAGE_BITS
from usmd.core.victims import MEMORY_MAX, SWEEP, USER_MAX
from usmd.core.work import Kind, Work
from usmd.errors import OutOfMemory
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.pages_left import Steps
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process, Region
    from usmd.core.state import State
    from usmd.core.waiters import WaitingPage

FRAMES_A_STEP = 16
"""Frames that a search looks at for what one page costs in other deferred work."""
_STAYS = KEPT | DIRTY | HELD
"""Flags of frames that a search passes over."""


class BudgetQueue:
    """Serves `Placement.over_budget`."""

    def __init__(self, state: State, life: PageLife, placement: Placement, reclaim: Reclaim) -> None:
        self._state = state
        self._life = life
        self._placement = placement
        self._reclaim = reclaim
        self._waiting = placement.over_budget
        self._users = state.users
        self._searches: dict[int, bool] = {}
        """By process: whether a search for a page that needs no slot is under way; False: it has found none."""

    def take_back(self) -> None:
        """Make each process with a lent frame evict a page for it, as soon as there is a slot for one.

        Called before anything that could take the slot for a page of another process.
        """
        budgets = self._state.budgets
        self._reclaim.slots.use(None, swap=True)  # what the lent frame holds came from swap
        for process in list(budgets.borrowers):
            if self._reclaim.lacks_slots(process):
                continue
            above = process.resident - process.leaving - process.memory_max
            if process.lent > 1:
                budgets.shrinks(process)
            if above > 0:
                self._reclaim.from_process(process, min(above, self._state.guarantees.batch), MEMORY_MAX)
            elif process.resident <= process.memory_max:
                budgets.take_back(process)

    def serve(self) -> None:
        """Serve the faults for which there is room now, and make each process without room evict pages."""
        turns = list(self._waiting)
        if self._users.of:
            turns.sort(key=self._standing)
        for process_id in turns:
            queue = self._waiting[process_id]
            while queue and self._serve_first(queue):
                pass
            if not queue:
                del self._waiting[process_id]

    def _standing(self, process_id: int) -> float:
        process = self._state.processes.get(process_id)
        return 0.0 if process is None else (process.resident - process.leaving) / process.weight

    def _serve_first(self, queue: deque[WaitingPage]) -> bool:
        """Whether to look at the first page in the queue again: this one has left it, or was lent a frame."""
        first = queue[0]
        waiter = first.waiter
        region, process = waiter.region, waiter.region.process
        entry, resident = region.table[waiter.page], process.resident
        if waiter.failed:
            queue.popleft()
            waiter.came(None)
        elif entry > 0:
            queue.popleft()
            self._placement.join(waiter, entry - 1)
        elif self._placement.may_have(region, waiter.page):
            queue.popleft()
            if self._placement.waiting or not self._placement.room(process, swap=entry < 0):
                self._placement.wait_for_memory(first)
            elif not self._placement.serve(waiter, first.plan, yields=first.yields, writable=first.writable):
                waiter.came(None)
        elif (again := self._from_user(process, len(queue), swap=entry < 0)) is not None:
            return again
        elif self._makes_room(process, len(queue), swap=entry < 0) or (entry < 0 and self._seeks_clean(process)):
            return process.resident < resident  # clean pages went at once
        elif entry < 0 and self._lacks_a_slot(process):
            self._state.budgets.lend(process)
        else:
            queue.popleft()
            waiter.came(self._refused(region, waiter.page, swap=entry < 0))
        return True

    def _from_user(self, process: Process, wanted: int, *, swap: bool) -> bool | None:
        """Have the user of a process grant it more; True: look again, False: pages are on their way out, None: cannot.

        `swap`: as for `SlotRoom.use`.
        """
        state, users, user = self._state, self._users, process.user
        if user is None or not users.limits_memory(process):
            return None
        if users.grow(process, wanted):
            return True
        wanted = leaving = 0
        for each in user.processes:
            wanted += len(self._waiting.get(each.process_id, ()))
            leaving += each.leaving
        wanted = min(wanted - leaving, state.guarantees.batch)
        if wanted <= 0:
            return False
        self._reclaim.slots.use(process, swap=swap)
        resident, begun = user.resident, 0
        givers = users.givers(process, wanted)[:MOST_GIVERS]
        for giver, gives in givers:
            begun += self._reclaim.from_process(giver, gives, USER_MAX)
        for giver, gives in [] if begun else givers:
            if end_those_of(giver, state, self._life):
                begun += self._reclaim.from_process(giver, gives, USER_MAX)
        if begun:
            return users.grow(process, wanted) or user.resident < resident
        coming = any(each.region is not None and each.region.process.user is user for each in state.filling.values())
        return False if coming else None

    def _makes_room(self, process: Process, wanted: int, *, swap: bool) -> bool:
        """Whether pages of a process are on their way out, or may go once work under way has ended.

        `swap`: as for `SlotRoom.use`.
        """
        state, reclaim = self._state, self._reclaim
        reclaim.slots.use(process, swap=swap)
        wanted = min(wanted - process.leaving, state.guarantees.batch)
        if wanted <= 0:
            return True
        if reclaim.from_process(process, wanted, MEMORY_MAX) or process.leaving:
            return True
        if any(filling.region is not None and filling.region.process is process for filling in state.filling.values()):
            return True
        if state.refreshing or reclaim.passed_over.stuck or state.swap.recovering(state.now):
            return True
        return end_those_of(process, state, self._life) and reclaim.from_process(process, wanted, MEMORY_MAX) > 0

    def _seeks_clean(self, process: Process) -> bool:
        """Whether a page of a process that needs no slot is looked for, to be evicted.

        Policies and the sweep look at `scan_limit` pages, which may all be dirty. This looks at all frames, in parts,
        so it is for pages from swap alone, if nothing else helps.
        """
        under_way = self._searches.get(process.process_id)
        if under_way is None and self._state.budgets.clean(process) > 0:
            under_way = self._searches[process.process_id] = True
            self._state.work.add(Work(Kind.SEARCH, process, steps=self._search(process)))
        elif under_way is False:
            del self._searches[process.process_id]
        return under_way or False

    def _search(self, process: Process) -> Steps:
        """Evict a page of a process that needs no slot, for the faults that wait; they are served after each part."""
        state, frames, number = self._state, self._state.frames, process.process_id
        none_found = False
        for looked, pfn in enumerate(frames.present_without(_STAYS), 1):
            if looked % FRAMES_A_STEP == 0:
                yield True
            if number not in self._waiting:
                break
            region = state.regions.get(frames.page[pfn] >> PAGE_BITS)
            own = region is not None and region.process is process
            goes = frames.state[pfn] == PRESENT and not frames.flags[pfn] & _STAYS
            if own and goes and pfn not in self._reclaim.passed_over and pfn not in state.recent:
                self._life.evict(pfn, SWEEP, "it needs no slot, and swap takes no dirty page")
                state.victims.add(SWEEP, MEMORY_MAX, 1)
                break
        else:
            none_found = number in self._waiting
        if none_found:
            self._searches[number] = False
        else:
            del self._searches[number]

    def _lacks_a_slot(self, process: Process) -> bool:
        """Whether pages of a process stay only because swap takes none, and no frame is lent to it yet."""
        kept = max(process.unevictable, process.pinned)
        return not process.lent and process.resident > kept and self._reclaim.lacks_slots(process)

    def _refused(self, region: Region, page: int, *, swap: bool) -> OutOfMemory:
        """The error of a fault that fails. Counts it, and reports the 1st, 2nd, 4th, 8th … one."""
        process, state = region.process, self._state
        size = state.settings.page_size
        used = state.budgets.swap_in_words(process, size)
        free = f"{state.swap.free} of {state.swap.slots} swap slots free"
        kept = ", of which one is for pages from swap" if used and process.absent_max < process.memory_max else ""
        whose = (
            f"{process.name} has {process.resident} pages in memory, its memory_max is {process.memory_max} "
            f"({format_size(process.memory_max * size)})"
        )
        rule = "its rule"
        if process.user is not None and (self._users.limits_memory(process) or "of user" in used):
            process.user.refusals += 1
            whose, rule = process.user.memory_words(size), f"user {process.user.uid}"
        error = OutOfMemory(
            f"no frame for page {page} of region {region.region_id}: {whose}"
            f"{'' if swap else kept}, and none of them can be evicted ({process.unevictable} unevictable, "
            f"{process.pinned} pinned, {used or free}); unmap regions, or raise {'swap_max' if used else 'memory_max'} "
            f"of {rule}"
        )
        process.counters.oom_refusals += 1
        process.counters.budget_refusals += 1
        count = process.counters.budget_refusals
        if count & (count - 1) == 0:
            fields = {"refused": str(count), "resident": str(process.resident), "memory_max": str(process.memory_max)}
            if used:
                fields |= {"stored": str(process.stored), "swap_max": str(process.swap_max)}
            state.notice("fault_over_budget", process.process_id, f"{error} ({count} so far)", fields)
        return error

    def unmapped(self, process: Process) -> None:
        """Fail the waiting pages of regions of a process that are gone."""
        queue = self._waiting.get(process.process_id)
        if queue is None:
            return
        kept = [each for each in queue if each.waiter.region.gone is None]
        self._state.waits.end([each.waiter for each in queue if each.waiter.region.gone is not None], None)
        queue.clear()
        queue.extend(kept)
        if not kept:
            del self._waiting[process.process_id]
            if not self._searches.get(process.process_id, True):
                del self._searches[process.process_id]
