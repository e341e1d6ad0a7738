"""Windows larger than one event may bring in: the part with the faulting page comes first, the rest in later events.

What a fault waits for is its own page. The rest is a guess: it takes frames above the high watermark alone, so nothing
is evicted for it, and ends when there is none. It yields to other deferred work after each part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core import commands
from usmd.core.page_table import CHUNK
from usmd.core.work import Kind, Progress, Work

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.region import Region
    from usmd.core.state import State

MAX_WINDOWS: Final = 16
"""Most rests of windows under way for one process; a window beyond that is the part with the faulting page alone."""
SKIPPED: Final = 16
"""Pages there that count as one that comes in."""
MAX_FILLING = 1024
"""Pages on their way in from swap, of all processes, while no rest of a window brings in more of them."""


class Windows:
    """Brings in the rests of windows, as deferred work."""

    def __init__(self, state: State, life: PageLife, placement: Placement) -> None:
        self._state = state
        self._life = life
        self._placement = placement
        self.under_way: dict[int, list[Work]] = {}
        """Process number → rests of its windows; no entry if there are none."""

    def begin(self, region: Region, first: int, end: int, part_first: int, part_end: int) -> None:
        """Bring in pages `first` to `end` - 1 but those of the part, from the next event on: what is above it first."""
        for start, stop in ((part_end, end), (first, part_first)):
            if start < stop:
                self._begin(region, start, stop)

    def _begin(self, region: Region, first: int, end: int) -> None:
        windows = self.under_way.get(region.process.process_id, [])
        under_way = any(each.region is region and each.next_page < end and first < each.end for each in windows)
        if (
            under_way
            or len(windows) >= MAX_WINDOWS
            or self._placement.spare(self._state.settings.high, region.process) <= 0
        ):
            return
        task = Work(Kind.WINDOW, region.process, region, first, end)
        self.under_way[region.process.process_id] = [*windows, task]
        queue = self._state.work
        queue.add(task)
        if not queue.asked:
            queue.asked = True
            self._state.first.append(commands.GoOn())

    def part(self, task: Work, most: int) -> tuple[int, Progress]:
        """Bring in some pages of the rest of a window: those that are missing, while frames are to spare."""
        region = task.region
        if region is None:
            raise TypeError(f"{task.kind} has no region")
        done = 0
        while done < most:
            if task.next_page >= task.end or region.gone is not None or self._room(region) <= 0:
                self._end(task, region.process.process_id)
                return done, Progress.ENDED
            if len(self._life.filling) >= MAX_FILLING:
                return done, Progress.WAITS
            done += self._step(region, task)
        return done, Progress.GOES_ON

    def _end(self, task: Work, process_id: int) -> None:
        windows = self.under_way[process_id]
        windows.remove(task)
        if not windows:
            del self.under_way[process_id]

    def _room(self, region: Region) -> int:
        """Pages that may come in now."""
        state = self._state
        process = region.process
        return min(self._placement.spare(state.settings.high, process), state.budgets.room(process, swap=False))

    def _step(self, region: Region, task: Work) -> int:
        """Bring in the pages up to the next multiple of CHUNK if all are ABSENT, else one; returns how many it did.

        Pages there up to that multiple are skipped as one of SKIPPED each, because a look takes that much less.
        """
        page = task.next_page
        count = min(CHUNK - page % CHUNK, task.end - page, self._room(region))
        if count > 1 and self._placement.zero_run(region, page, count):
            self._life.run_came_along(region, page, count, -1)
            task.next_page += count
        else:
            entry = region.table[page]
            if entry > 0:
                task.next_page = region.table.framed(page, task.end)
                return -(-(task.next_page - page) // SKIPPED)
            task.next_page += 1
            count = 1
            if entry == 0:
                self._life.zero_fill(region, page, None)
            else:
                self._life.swap_in(region, page, None)
            self._life.came_along(region, page)
        region.process.counters.read_ahead += count
        return count
