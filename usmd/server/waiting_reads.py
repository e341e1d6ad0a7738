"""Reads that no job has begun, divided among jobs so that processes take turns and neighbouring slots stay together.

Each turn of a process is worth QUANTUM reads. What one job takes above that, because slots are neighbours, its process
is short of in its next turns. So a process with many reads delays those of another by a turn, and not by all it has.
Pages that only move to another device have turns of their own, so that they delay those that are waited for as little.
(Shreedhar and Varghese, "Efficient fair queueing using deficit round robin", 1995; with a surplus in place of a
deficit, because a run of neighbours is not divided.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from usmd.core.commands import SlotPage
from usmd.core.region import PAGE_BITS

QUANTUM: Final = 16
"""Reads in one turn of a process: a quarter of a job."""


def _party(page: SlotPage) -> int:
    """Who takes turns: a process, and apart from it those of its pages that only move to another device."""
    return ~page.process_id if page.moves else page.process_id


class _Turns:
    """The reads of one process that wait, oldest first, and how many it may still take in its turn."""

    __slots__ = ("left", "slots")

    def __init__(self) -> None:
        self.slots: dict[int, None] = {}
        self.left = 0


class WaitingReads:
    """Reads of one device, of each process oldest first. A slot is read into one frame at a time, so it waits once."""

    def __init__(self) -> None:
        self._pages: dict[int, SlotPage] = {}
        """By slot reference."""
        self._turns: OrderedDict[int, _Turns] = OrderedDict()
        """By `_party`, if any of its reads waits; the one whose turn it is comes first."""
        self._regions: dict[int, set[int]] = {}
        """Slot references of each region that has a page here."""

    def __len__(self) -> int:
        return len(self._pages)

    def add(self, pages: Sequence[SlotPage]) -> None:
        """Add reads."""
        for page in pages:
            self._pages[page.slot] = page
            party = _party(page)
            turns = self._turns.get(party)
            if turns is None:
                turns = self._turns[party] = _Turns()
            turns.slots[page.slot] = None
            self._regions.setdefault(page.page >> PAGE_BITS, set()).add(page.slot)

    def take(self, share: int, most: int) -> list[SlotPage]:
        """About `share` reads for one job, at most `most`: the next in turn, each with all reads of neighbouring slots.

        Neighbours are read by one call, so a run of them is divided only if it is longer than `most`.
        """
        taken: list[SlotPage] = []
        while self._pages:
            turns = self._next()
            run = self._run(next(iter(turns.slots)), most)
            # A run is left to the next job if it would exceed the share by more than is missing without it.
            if taken and (len(taken) + len(run) > most or 2 * len(taken) + len(run) > 2 * share):
                break
            turns.left -= len(run)
            taken.extend(self._remove(slot) for slot in run)
        return taken

    def take_all(self) -> list[SlotPage]:
        """Take out all reads, oldest first, and return them."""
        pages = list(self._pages.values())
        self._pages.clear()
        self._turns.clear()
        self._regions.clear()
        return pages

    def forget(self, region_ids: Iterable[int], most: int) -> list[SlotPage]:
        """Take out at most `most` reads of pages of some regions, and return them."""
        found: list[SlotPage] = []
        for region_id in region_ids:
            slots = sorted(islice(self._regions.get(region_id, ()), most - len(found)))
            found += [self._remove(slot) for slot in slots]
        return found

    def _next(self) -> _Turns:
        """The reads of the process whose turn it is."""
        while True:
            party, turns = next(iter(self._turns.items()))
            if turns.left > 0:
                return turns
            turns.left += QUANTUM
            self._turns.move_to_end(party)

    def _run(self, slot: int, most: int) -> range:
        """The slots that wait beside one, itself included."""
        pages = self._pages
        first = last = slot
        while first - 1 in pages and last - first + 1 < most:
            first -= 1
        while last + 1 in pages and last - first + 1 < most:
            last += 1
        return range(first, last + 1)

    def _remove(self, slot: int) -> SlotPage:
        page = self._pages.pop(slot)
        party = _party(page)
        turns = self._turns[party]
        del turns.slots[slot]
        if not turns.slots:
            del self._turns[party]
        region_id = page.page >> PAGE_BITS
        slots = self._regions[region_id]
        slots.remove(slot)
        if not slots:
            del self._regions[region_id]
        return page
