"""Frees the frames and slots of pages whose bytes their process has given up, as by munmap of a part of a region.

Such a page is ABSENT from then on, and reads as zeros. The region, and the hints on it, stay. A page that cannot go yet
holds up those after it: one that is on its way in, and one that a thread waits for which this very event resumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core import commands, events, work
from usmd.core.frames import FILLING, NO_SLOT, PRESENT
from usmd.core.work import Kind, Progress, Work
from usmd.errors import InvalidArgument, OutOfRange

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Region
    from usmd.core.state import State


class Discarding:
    """Handles Discard. A request that raises has changed nothing."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life

    def begin(self, event: events.Discard) -> None:
        """Discard the first pages of a range, and leave the rest to deferred work.

        Raises NotFound, OutOfRange, or InvalidArgument if a page is pinned.
        """
        state = self._state
        region = state.region(event.process_id, event.region_id)
        first, end = event.first_page, event.first_page + event.page_count
        if event.page_count < 1 or first < 0 or end > region.page_count:
            raise OutOfRange(
                f"{event.page_count} pages to discard from page {first} on; region {region.region_id} has pages 0 to "
                f"{region.page_count - 1}"
            )
        pinned = region.pins.pages(first, end)
        if pinned:
            raise InvalidArgument(
                f"{pinned} of the pages {first} to {end - 1} of region {region.region_id} are pinned; unpin before "
                "they are discarded"
            )
        task = Work(Kind.DISCARD, region.process, region, first, end, reply_to=event.reply_to)
        if self.part(task, work.PAGES_AN_EVENT)[1] is not Progress.ENDED:
            state.work.add(task)

    def part(self, task: Work, most: int) -> tuple[int, Progress]:
        """Discard some pages of a range."""
        region = task.region
        if region is None:
            raise TypeError(f"{task.kind} has no region")
        done = 0
        if region.gone is None:
            entries, next_page = region.table.part(task.next_page, task.end, most)
            resumed = self._resumed() if entries else set()
            for page, entry in entries:
                if not self._discard(region, page, entry, resumed):
                    task.next_page = page
                    return done, Progress.WAITS
                done += 1
            task.next_page = next_page
            if next_page < task.end:
                return max(done, 1), Progress.GOES_ON
        self._state.first.append(commands.Discarded(task.reply_to))
        return done, Progress.ENDED

    def _resumed(self) -> set[int]:
        """Keys of pages whose threads this event resumes: their release would be performed before that."""
        state = self._state
        return {*state.zero_pages, *state.restores, *state.wakes, *state.maps_again}

    def _discard(self, region: Region, page: int, entry: int, resumed: set[int]) -> bool:
        """A page → ABSENT; False if it cannot go yet."""
        state, life = self._state, self._life
        stored = True
        if entry > 0:
            frames, pfn = state.frames, entry - 1
            if page in region.pins:
                return True  # it was pinned meanwhile, and stays
            now_is = frames.state[pfn]
            key = region.first_key + page
            if now_is == FILLING or key in resumed:
                return False
            if now_is == PRESENT:
                stored = frames.slot[pfn] != NO_SLOT
            elif life.evicting[pfn].ticket == state.next_ticket:
                return False  # its Protect is among the commands of this event
            state.releases.append(key)
        if stored:
            state.budgets.charge(region, -1)
        life.discard(region, page, entry)
        region.table.clear(page)
        return True
