"""Pins: a process keeps pages in memory until it unpins them, within the budget that EVICTION=DENY shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core import commands, events
from usmd.core.frames import EVICTING, PRESENT
from usmd.errors import InvalidArgument, LimitExceeded, OutOfRange
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Region
    from usmd.core.sampler import Sampler
    from usmd.core.state import State


class Pins:
    """Handles Pin and Unpin. A request that raises has changed nothing."""

    def __init__(self, state: State, life: PageLife, sampler: Sampler) -> None:
        self._state = state
        self._life = life
        self._sampler = sampler

    def pin(self, event: events.Pin) -> None:
        """Pin a range if all of it is in memory; else answer which pages are absent.

        Raises NotFound, InvalidArgument, OutOfRange, or LimitExceeded beyond the budget, also if pages are absent: a
        refused pin brings nothing in.
        """
        region, pages = self._range(event)
        self._check(region, event.first_page, max(event.planned, event.page_count))
        frames = self._state.frames
        found = [region.table[page] - 1 for page in pages]
        absent = [
            page
            for page, pfn in zip(pages, found, strict=True)
            if pfn < 0 or frames.state[pfn] not in (PRESENT, EVICTING)
        ]
        if not absent:
            for pfn in found:
                if frames.state[pfn] == EVICTING:
                    self._life.retake(pfn)
                self._life.pin(pfn)
                sampling = region.process.sampling
                if sampling is not None and sampling.heard(pfn):
                    self._sampler.put_back(pfn)  # a touch of a pinned page does not fault
        self._state.first.append(commands.Pinned(absent))

    def _check(self, region: Region, first: int, count: int) -> None:
        """Raise LimitExceeded if the budget has no room for a pin of `count` pages, resident or not."""
        process, settings = region.process, self._state.settings
        room = max(self._life.kept_room(process), 0)
        if count <= room or (more := count - region.pins.pages(first, first + count)) <= room:
            return
        budget, unevictable, pinned = self._life.budget(process), process.unevictable, process.pinned
        name = "its deny_budget" if budget < settings.deny_budget else "memory.deny_budget"
        if room < budget - unevictable - pinned:
            name, budget = "memory.deny_budget_total", settings.deny_budget_total
            unevictable, pinned = self._state.unevictable, self._state.pinned
        size = settings.page_size
        raise LimitExceeded(
            f"a pin of {count} pages ({format_size(count * size)}) from page {first} of region {region.region_id} "
            f"would keep {more} more frames in memory, and {room} may be: {name} is {budget} pages "
            f"({format_size(budget * size)}), of which EVICTION=DENY keeps {unevictable} and pins {pinned}; "
            "pin less at a time"
        )

    def unpin(self, event: events.Unpin) -> None:
        """End a pin of the range; raises NotFound, OutOfRange, or InvalidArgument if it is not pinned."""
        region, pages = self._range(event)
        loose = next((page for page in pages if page not in region.pins), None)
        if loose is not None:
            raise InvalidArgument(f"page {loose} of region {region.region_id} is not pinned; unpin what was pinned")
        for page in pages:
            self._life.unpin(region, page)

    def _range(self, event: events.Pin | events.Unpin) -> tuple[Region, range]:
        """The region and the pages that an event names; raises NotFound, InvalidArgument or OutOfRange."""
        region = self._state.region(event.process_id, event.region_id)
        limit = min(self._state.settings.max_fault_pages, self._state.settings.frames)
        if not 1 <= event.page_count <= limit:
            raise InvalidArgument(f"a pin of {event.page_count} pages; allowed are 1 to {limit} in one call")
        end = event.first_page + max(event.page_count, getattr(event, "planned", 0))
        if event.first_page < 0 or end > region.page_count:
            raise OutOfRange(
                f"a pin of pages {event.first_page} to {end - 1} of region {region.region_id}, which has pages 0 to "
                f"{region.page_count - 1}"
            )
        return region, range(event.first_page, event.first_page + event.page_count)
