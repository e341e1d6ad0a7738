"""Evicts the pages of a range that its application does not need (the hint DONTNEED), as deferred work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.frames import DIRTY, KEPT, PRESENT
from usmd.core.victims import DONTNEED, HINT
from usmd.core.work import Progress, Work

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.slot_room import SlotRoom
    from usmd.core.state import State

MAX_EVICTING_FOR_HINTS: Final = 1024
"""DONTNEED waits while this many pages are on their way out."""


class DontNeed:
    """Does the evictions of DONTNEED."""

    def __init__(self, state: State, life: PageLife, slots: SlotRoom) -> None:
        self._state = state
        self._life = life
        self._slots = slots

    def part(self, task: Work, most: int) -> tuple[int, Progress]:
        """Evict some evictable pages of a range, for DONTNEED; waits while MAX_EVICTING_FOR_HINTS are under way.

        Evicts held pages, too: the application says that it will not touch them.
        """
        region, frames, slots = task.region, self._state.frames, self._slots
        if region is None:
            raise TypeError(f"{task.kind} has no region")
        if region.gone is not None:
            return 0, Progress.ENDED
        slots.use(None)
        room = MAX_EVICTING_FOR_HINTS - len(self._life.evicting)
        if room <= 0:
            return 0, Progress.WAITS
        entries, task.next_page = region.table.part(task.next_page, task.end, min(most, room))
        begun = 0
        for _, entry in entries:
            pfn = entry - 1
            if pfn < 0 or frames.state[pfn] != PRESENT:
                continue
            if region.unsettled:
                self._life.settle(pfn)
            if not frames.flags[pfn] & KEPT and (not frames.flags[pfn] & DIRTY or slots.of(region.process) > 0):
                self._life.evict(pfn, HINT, "DONTNEED")
                begun += 1
        self._state.victims.add(HINT, DONTNEED, begun)
        return max(len(entries), 1), Progress.ENDED if task.next_page >= task.end else Progress.GOES_ON
