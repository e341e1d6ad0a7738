"""Rights of pages in memory: EVICTION=DENY and pins within their budgets, priorities, and the end of a hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from usmd.core.frames import HELD, KEPT, PINNED, PRESENT, PRIORITY_MASK, PRIORITY_SHIFT, UNEVICTABLE
from usmd.core.hints import Priority
from usmd.core.region import PAGE_BITS, PAGE_MASK

if TYPE_CHECKING:
    from usmd.core.region import Process, Region
    from usmd.core.state import State

NORMAL: Final = Priority.NORMAL << PRIORITY_SHIFT
"""Flags of a page without a hint."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Rights:
    """Which pages may go; sets and clears the flags that keep a page in memory. A base of `PageLife`."""

    def __init__(self, state: State) -> None:
        self._state = state

    def objection(self, process: Process, pfn: int) -> str | None:
        """Why a policy of the process must not name the frame, or None; a held frame may be named."""
        frames = self._state.frames
        if not 0 <= pfn < frames.count:
            return f"not a frame (there are 0 to {frames.count - 1})"
        if frames.state[pfn] != PRESENT:
            return "not present"
        if self._state.regions[frames.page[pfn] >> PAGE_BITS].process is not process:
            return "not the process's"
        return "unevictable or pinned by its process" if frames.flags[pfn] & KEPT else None

    def end_hold(self, pfn: int) -> None:
        """End the hold of a frame."""
        self._state.frames.flags[pfn] &= ~HELD
        del self._state.holds[pfn]

    def pin(self, pfn: int) -> None:
        """Pin a PRESENT page once more. The caller checks the budget."""
        state = self._state
        key = state.frames.page[pfn]
        region, page = state.regions[key >> PAGE_BITS], key & PAGE_MASK
        if region.pins.add(page) == 1:
            if not state.frames.flags[pfn] & KEPT:
                region.process.policies.page_left(pfn)
            state.frames.flags[pfn] |= PINNED
            self._count_locked(region, 1)

    def unpin(self, region: Region, page: int) -> None:
        """End one pin of a page. After the last one the page may be evicted again."""
        if region.pins.remove(page):
            return
        pfn = region.table[page] - 1
        frames = self._state.frames
        frames.flags[pfn] &= ~PINNED
        self._count_locked(region, -1)
        if not frames.flags[pfn] & KEPT:
            region.process.policies.page_filled(pfn)

    def budget(self, process: Process) -> int:
        """Pages that a process may keep, by EVICTION=DENY or by pins."""
        return min(self._state.settings.deny_budget, process.deny_budget)

    def kept_room(self, process: Process) -> int:
        """How many more pages a process may keep."""
        state = self._state
        return min(
            self.budget(process) - process.unevictable - process.pinned,
            state.settings.deny_budget_total - state.unevictable - state.pinned,
        )

    def _end_rights(self, region: Region, pfn: int) -> None:
        """A page leaves its frame: end its hold, its pins and its DENY."""
        frames = self._state.frames
        flags = frames.flags[pfn]
        self._end_unevictable(region, flags)
        if flags & HELD:
            self.end_hold(pfn)
        if flags & PINNED:
            region.pins.forget(frames.page[pfn] & PAGE_MASK)
            self._count_locked(region, -1)

    def _rights(self, region: Region, page: int) -> int:
        """Flags for the hint in force on a page; counts a DENY within the budget."""
        found = region.hints.find(page)
        if found is None:
            return NORMAL
        rights = found.hint.priority << PRIORITY_SHIFT & PRIORITY_MASK
        if found.hint.deny:
            process = region.process
            if self.kept_room(process) > 0:
                self._count_unevictable(region, 1)
                return rights | UNEVICTABLE
            self._over_budget(process)
        return rights

    def _over_budget(self, process: Process) -> None:
        """Count a page that stays evictable in spite of EVICTION=DENY, and report the 1st, 2nd, 4th, 8th … one."""
        process.counters.deny_over_budget += 1
        count = process.counters.deny_over_budget
        if count & (count - 1) == 0:
            self._state.notice(
                "deny_over_budget",
                process.process_id,
                f"{process.name} asked for EVICTION=DENY beyond its budget: pages stay evictable ({count} so far); it "
                f"keeps {process.unevictable + process.pinned} pages of {self.budget(process)} it may keep",
                {"refused": str(count), "kept": str(process.unevictable + process.pinned)},
            )

    def _end_unevictable(self, region: Region, flags: int) -> None:
        if flags & UNEVICTABLE:
            self._count_unevictable(region, -1)

    def _count_unevictable(self, region: Region, change: int) -> None:
        region.unevictable += change
        if region.gone is None:  # else `Release.begin` has counted it off
            region.process.unevictable += change
            self._state.unevictable += change

    def _count_locked(self, region: Region, change: int) -> None:
        region.pinned += change
        if region.gone is None:
            region.process.pinned += change
            self._state.pinned += change
