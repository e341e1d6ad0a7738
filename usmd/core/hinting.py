"""Sets hints on ranges of pages, and ends them when they expire.

A hint is in force from the moment it is set until it expires, or a later one replaces it (`HintRanges.set`): each page
that comes in gets its rights. Deferred work brings the pages already in memory in line with it, and reclaim does so
earlier for a page that it looks at (`PageLife.settle`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from usmd.core import commands, events, work
from usmd.core.quotas import hints_words
from usmd.core.work import MAX_WORK, Kind, Progress, Work
from usmd.errors import LimitExceeded, OutOfRange

if TYPE_CHECKING:
    from usmd.core.hints import Hint, HintRange
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.region import Region
    from usmd.core.state import State


class Hinting:
    """Handles SetHint, and ends expired hints. A request that raises has changed nothing."""

    def __init__(self, state: State, life: PageLife, placement: Placement, at_once: int | None = None) -> None:
        """`at_once`: pages that one event brings in line with a hint; None: `work.PAGES_AN_EVENT`."""
        self._state = state
        self._life = life
        self._placement = placement
        self._at_once = at_once

    def set(self, event: events.SetHint) -> None:
        """Put a hint on a range; raises NotFound, OutOfRange, InvalidHint or LimitExceeded."""
        state = self._state
        region = state.region(event.process_id, event.region_id)
        length = region.length - event.offset if event.length is None else event.length
        if event.offset < 0 or length < 1 or event.offset + length > region.length:
            raise OutOfRange(
                f"hint on offset {event.offset}, length {event.length}; region {region.region_id} has {region.length}"
                " bytes"
            )
        hint, process = event.hint, region.process
        if hint is not None and hint.swap_device is not None:
            state.swap.named(hint.swap_device)
        page_size = state.settings.page_size
        first, end = event.offset // page_size, -(-(event.offset + length) // page_size)
        stays = hint is None or hint.lasting
        if stays:
            self._check_ranges(region, first, end, hint)
        if hint is not None and (hint.will_need or hint.dont_need) and process.work >= MAX_WORK:
            raise LimitExceeded(f"{process.work} hints with WILLNEED or DONTNEED are still being done; try again later")
        number = 0
        over_budget: int | None = 0
        if hint is not None and hint.lasting:
            process.hints_set += 1
            number = process.hints_set
            process.lowest_priority = min(process.lowest_priority, hint.priority.value)
        if stays:
            expires = None if hint is None or hint.ttl_seconds is None else state.now + hint.ttl_seconds
            before = len(region.hints)
            region.hints.set(first, end, number, hint, expires)
            process.hint_ranges += len(region.hints) - before
            if expires is not None:
                state.hint_ends.put(region.region_id, expires)
            task = Work(Kind.REFRESH, process, region, first, end, reply_to=event.reply_to)
            self._begin(task, self._most())
            over_budget = None if task in region.unsettled else task.over_budget
        unheeded = () if hint is None else process.policies.unheeded(hint)
        state.first.append(commands.HintSet(number, first, end - first, over_budget, unheeded))
        if hint is not None and hint.dont_need:
            state.work.add(Work(Kind.EVICT, process, region, first, end, counted=True))
        if hint is not None and hint.will_need:
            state.work.add(Work(Kind.FETCH, process, region, first, end, counted=True))

    def _check_ranges(self, region: Region, first: int, end: int, hint: Hint | None) -> None:
        """Raise LimitExceeded if the process would have too many ranges, or the region has too many hints under way."""
        growth = region.hints.growth(first, end, clear=hint is None)
        if growth > 0 and (full := hints_words(region.process, growth, self._state.settings)) is not None:
            raise LimitExceeded(full)
        if len(region.unsettled) >= MAX_WORK and min(region.resident, end - first) > self._most():
            raise LimitExceeded(
                f"{len(region.unsettled)} hints on region {region.region_id} are still being brought to its pages; try "
                "again later"
            )

    # Pages in memory

    def _most(self) -> int:
        return work.PAGES_AN_EVENT if self._at_once is None else self._at_once

    def _begin(self, task: Work, most: int) -> int:
        """Bring up to `most` pages in line at once, and leave the rest to deferred work; returns how many pages."""
        done, progress = self.refresh_part(task, most) if most > 0 else (0, Progress.GOES_ON)
        if progress is not Progress.ENDED and task.region is not None:
            task.region.unsettled.append(task)
            self._state.refreshing += 1
            self._state.work.add(task)
        return done

    def refresh_part(self, task: Work, most: int) -> tuple[int, Progress]:
        """Bring some resident pages of a range in line with the hints in force."""
        region = task.region
        if region is None:
            raise TypeError(f"{task.kind} has no region")
        done = 0
        if region.gone is None:
            entries, task.next_page = region.table.part(task.next_page, task.end, most)
            for page, entry in entries:
                if entry > 0 and page not in task.settled and not self._life.apply_hint(region, page, entry - 1):
                    task.over_budget += 1
            done = max(len(entries), 1)
            if task.next_page < task.end:
                return done, Progress.GOES_ON
        if task in region.unsettled:
            region.unsettled.remove(task)
            self._state.refreshing -= 1
            if task.reply_to:
                self._state.first.append(commands.HintApplied(task.reply_to, task.over_budget))
        return done, Progress.ENDED

    def fetch_part(self, task: Work, most: int) -> tuple[int, Progress]:
        """Bring in pages for WILLNEED while frames are to spare; evicts nothing."""
        region = task.region
        if region is None:
            raise TypeError(f"{task.kind} has no region")
        first = task.next_page
        task.next_page = min(first + most, task.end)
        for page in range(first, task.next_page):
            if (
                region.gone is not None
                or self._placement.spare(self._state.settings.low, region.process) <= 0
                or not self._placement.may_have(region, page)
            ):
                return page - first, Progress.ENDED
            entry = region.table[page]
            if entry <= 0:
                if entry == 0:
                    self._life.zero_fill(region, page, None)
                else:
                    self._life.swap_in(region, page, None)
                self._life.came_along(region, page)
                region.process.counters.read_ahead += 1
        return task.next_page - first, Progress.ENDED if task.next_page == task.end else Progress.GOES_ON

    def expire(self) -> None:
        """End the hints that have expired."""
        state = self._state
        if state.now < state.hint_ends.next:
            return
        most = self._most()
        for region_id in state.hint_ends.take(state.now):
            region = state.regions[region_id]
            if region.gone is not None:
                continue
            expired = region.hints.take_expired(state.now)
            region.process.hint_ranges -= len(expired)
            for first, end in _together(expired, MAX_WORK - len(region.unsettled)):
                most -= self._begin(Work(Kind.REFRESH, region.process, region, first, end), most)
            state.hint_ends.put(region_id, region.hints.next_expiry())


def _together(ranges: list[HintRange], most: int) -> Iterator[tuple[int, int]]:
    """(first page, end) of ranges, adjacent ones merged; if there are more than `most`, one that spans all."""
    if len(ranges) > most:
        yield ranges[0].first, ranges[-1].end
        return
    first = end = -1
    for each in ranges:
        if each.first != end:
            if end >= 0:
                yield first, end
            first = each.first
        end = each.end
    if end >= 0:
        yield first, end
