"""Ends regions: they are gone at once, and their frames and slots become free in parts.

A region that is gone stays in `State.dying` until its last frame and slot are free. Its pages before the next part are
ABSENT; the others are unchanged, and I/O in flight for one of them ends with the release of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
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
"""The end of a region counts as this many pages of work."""


class Release:
    """Ends regions."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life

    def begin(self, regions: Sequence[Region], reason: UsmdError) -> None:
        """End one region, or all regions of a process that has ended, in the process's order.

        Faults that wait for their pages fail with `reason`. Their pages do not count for the process any more, from now
        on.
        """
        state = self._state
        if not regions:
            return
        process = regions[0].process
        ended = process.process_id not in state.processes
        # The process has the sums over all its regions, of which there may be very many.
        kept: Process | Region = process if ended else regions[0]
        resident, stored, unevictable, pinned = kept.resident, kept.stored, kept.unevictable, kept.pinned
        dying: dict[int, Region] = {}
        for region in regions:
            region.gone = reason
            if region.resident or region.swapped:
                dying[region.region_id] = region
        if ended:
            ids = list(process.regions)
            process.regions.clear()
            process.mapped = process.hint_ranges = 0
        else:
            ids = [regions[0].region_id]
            del process.regions[ids[0]]
            process.mapped -= regions[0].page_count * state.settings.page_size
            process.hint_ranges -= len(regions[0].hints)
        for region_id in ids:
            del state.regions[region_id]
        process.resident -= resident
        state.budgets.gone(process, stored)
        process.unevictable -= unevictable
        process.pinned -= pinned
        state.unevictable -= unevictable
        state.pinned -= pinned
        if dying and not state.dying:
            state.work.add_first(Work(Kind.RELEASE))
        state.dying.update(dying)
        state.dying_frames += resident
        state.first.append(commands.RegionsGone(ids, ended))
        # Threads that this event's earlier steps would have resumed get an error, because their page is gone.
        served = [*state.zero_pages, *state.restores, *state.wakes]
        if served:
            gone = set(ids)
            state.poisons.update((key, "") for key in served if key >> PAGE_BITS in gone)

    def part(self, work: Work, most: int) -> tuple[int, Progress]:
        """Free frames and slots of some pages of the oldest region that is gone."""
        dying = self._state.dying
        region = next(iter(dying.values()))
        entries, work.next_page = region.table.part(work.next_page, region.page_count, most)
        for page, entry in entries:
            self._life.discard(region, page, entry)
        if work.next_page < region.page_count:
            return max(len(entries), 1), Progress.GOES_ON
        del dying[region.region_id]
        work.next_page = 0
        return len(entries) + REGION_COSTS, Progress.GOES_ON if dying else Progress.ENDED
