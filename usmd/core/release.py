"""Ends regions: they are gone at once, and their frames and slots become free in parts.

A region that is gone stays in `State.dying` until its last frame and slot are free. Its pages before the next part are
ABSENT; the others are unchanged, and I/O in flight for one of them ends with the release of the page. A session may
have very many regions: at its end all are gone, and they are taken out of the tables in parts (`State.ending`).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

from usmd.core import commands
from usmd.core.region import PAGE_BITS
from usmd.core.work import Kind, Progress, Work

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process, Region
    from usmd.core.state import State
    from usmd.errors import UsmdError

REGION_COSTS: Final = 8
"""The end of a region counts as this many pages of work, and so does taking it out of the tables."""


class Release:
    """Ends regions."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life

    def unmap(self, region: Region, reason: UsmdError) -> None:
        """End one region of a process that lives on.

        Faults that wait for its pages fail with `reason`. Its pages do not count for the process any more, from now on.
        """
        state, process = self._state, region.process
        region.unmapped = reason
        self._count_off(process, region)
        process.mapped -= region.page_count * state.settings.page_size
        process.hint_ranges -= len(region.hints)
        del process.regions[region.region_id], state.regions[region.region_id]
        state.hint_ends.drop(region.region_id)
        if region.resident or region.swapped:
            self._begin()
            state.dying[region.region_id] = region
        state.first.append(commands.RegionsGone([region.region_id], ended=False))
        self._poison(lambda number: number == region.region_id)

    def end(self, process: Process, reason: UsmdError) -> None:
        """End all regions of a process that has ended, as `unmap` does; the process has the sums over them."""
        state = self._state
        process.ended = reason
        self._count_off(process, process)
        process.mapped = process.hint_ranges = 0
        owned = process.regions
        if owned:
            self._begin()
            state.ending.append(owned)
            process.regions = {}
        self._poison(lambda number: number in owned)

    def _begin(self) -> None:
        if not self._state.releasing:
            self._state.work.add_first(Work(Kind.RELEASE))

    def _count_off(self, process: Process, counts: Process | Region) -> None:
        """Count off the pages of a region of a process, or all of its pages."""
        state = self._state
        resident, stored, unevictable, pinned = counts.resident, counts.stored, counts.unevictable, counts.pinned
        process.resident -= resident
        state.budgets.gone(process, stored)
        process.unevictable -= unevictable
        process.pinned -= pinned
        state.unevictable -= unevictable
        state.pinned -= pinned
        state.dying_frames += resident

    def _poison(self, is_gone: Callable[[int], bool]) -> None:
        """Threads that this event's earlier steps would have resumed get an error, because their page is gone."""
        state = self._state
        for key in (*state.zero_pages, *state.restores, *state.wakes):
            if is_gone(key >> PAGE_BITS):
                state.poisons[key] = ""

    def part(self, work: Work, most: int) -> tuple[int, Progress]:
        """Free frames and slots of some pages of the oldest region that is gone."""
        state, dying = self._state, self._state.dying
        if not dying:
            return self._take_out(most)
        region = next(iter(dying.values()))
        entries, work.next_page = region.table.part(work.next_page, region.page_count, most)
        for page, entry in entries:
            self._life.discard(region, page, entry)
        if work.next_page < region.page_count:
            return max(len(entries), 1), Progress.GOES_ON
        del dying[region.region_id]
        work.next_page = 0
        return len(entries) + REGION_COSTS, Progress.GOES_ON if state.releasing else Progress.ENDED

    def _take_out(self, most: int) -> tuple[int, Progress]:
        """Take some regions of the session that ended first out of the tables, and have the shell drop their memory."""
        state, regions = self._state, self._state.ending[0]
        ids = list(islice(regions, max(most // REGION_COSTS, 1)))
        for region_id in ids:
            del state.regions[region_id]
            state.hint_ends.drop(region_id)
            region = regions.pop(region_id)
            if region.resident or region.swapped:
                state.dying[region_id] = region
        if not regions:
            state.ending.popleft()
        state.first.append(commands.RegionsGone(ids, ended=True))
        return len(ids) * REGION_COSTS, Progress.GOES_ON if state.releasing else Progress.ENDED
