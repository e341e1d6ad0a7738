"""Reads that no job has begun, divided among jobs so that neighbouring slots are read together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice

from usmd.core.commands import SlotPage
from usmd.core.region import PAGE_BITS


class WaitingReads:
    """Reads of one device, oldest first. A slot is read into one frame at a time, so it waits once at most."""

    def __init__(self) -> None:
        self._pages: OrderedDict[int, SlotPage] = OrderedDict()
        """By slot reference."""
        self._regions: dict[int, set[int]] = {}
        """Slot references of each region that has a page here."""

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, pages: Sequence[SlotPage]) -> None:
        """Add reads."""
        for page in pages:
            self._pages[page.slot] = page
            self._regions.setdefault(page.page >> PAGE_BITS, set()).add(page.slot)

    def take(self, share: int, most: int) -> list[SlotPage]:
        """About `share` reads for one job, at most `most`: the oldest, each with all reads of neighbouring slots.

        Neighbours are read by one call, so a run of them is divided only if it is longer than `most`.
        """
        taken: list[SlotPage] = []
        while self._pages:
            run = self._run(most)
            # A run is left to the next job if it would exceed the share by more than is missing without it.
            if taken and (len(taken) + len(run) > most or 2 * len(taken) + len(run) > 2 * share):
                break
            taken.extend(self._remove(slot) for slot in run)
        return taken

    def take_all(self) -> list[SlotPage]:
        """Take out all reads, oldest first, and return them."""
        pages = list(self._pages.values())
        self._pages.clear()
        self._regions.clear()
        return pages

    def forget(self, region_ids: Iterable[int], most: int) -> list[SlotPage]:
        """Take out at most `most` reads of pages of some regions, and return them."""
        found: list[SlotPage] = []
        for region_id in region_ids:
            slots = sorted(islice(self._regions.get(region_id, ()), most - len(found)))
            found += [self._remove(slot) for slot in slots]
        return found

    def _run(self, most: int) -> range:
        """The slots that wait beside the oldest, itself included."""
        pages = self._pages
        first = last = next(iter(pages))
        while first - 1 in pages and last - first + 1 < most:
            first -= 1
        while last + 1 in pages and last - first + 1 < most:
            last += 1
        return range(first, last + 1)

    def _remove(self, slot: int) -> SlotPage:
        page = self._pages.pop(slot)
        region_id = page.page >> PAGE_BITS
        slots = self._regions[region_id]
        slots.remove(slot)
        if not slots:
            del self._regions[region_id]
        return page
