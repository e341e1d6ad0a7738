"""Gives back memory of regions: punches ranges of pages out of their memfds, in the background where that is safe.

A punch that a client could delay is done by another thread, see `off_loop`. To wait for it would cost two changes of
threads, which on a busy machine take longer than the punch. So the loop goes on, and waits when the next punch begins,
or before pages come in where the one under way has still to empty the memfd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from usmd.mechanism.off_loop import Held, Punching, Run, punch
from usmd.mechanism.real_region import RealRegion
from usmd.mechanism.uffd import HARDWARE_PAGE

SPLIT_PAGES: Final = 32
"""A folio that a punch splits may take the time of so many pages more; it took 0.25 ms."""


class Releasing:
    """Punches for `regions`, the ones that are not gone. One punch is under way at a time.

    `on_held` is called with a region and a reason when its client has delayed a job too long and must end.
    """

    __slots__ = ("_begun", "_on_held", "_punching", "_regions", "_unfreed")

    def __init__(self, regions: Mapping[int, RealRegion], on_held: Callable[[int, str], None]) -> None:
        self._regions = regions
        self._on_held = on_held
        self._punching = Punching()
        self._begun: tuple[RealRegion, list[Run]] | None = None
        """The punch that nobody has waited for yet."""
        self._unfreed: set[RealRegion] = set()
        """Regions with memory that could not be given back, see `RealRegion.unfreed`."""

    def punch(self, region: RealRegion, runs: list[Run]) -> None:
        """Give back the memory of ranges, and wait for it."""
        self.begin(region, runs)
        self.settle()

    def begin(self, region: RealRegion, runs: list[Run]) -> None:
        """Begin to give back the memory of ranges; waits for the punch before.

        Once a client has delayed one too long, its memory waits until the client ends.
        """
        self.settle()
        job = partial(region.punch_parts if region.has_folios else partial(punch, region.memfd), runs)
        if not region.shared:  # then no other process can hold its lock
            job()
            self._note_unfreed(region)
        elif region.held is None:
            pages = sum(length for _, length in runs) // HARDWARE_PAGE + SPLIT_PAGES * region.splits(runs)
            self._punching.begin(job, pages, region.account)
            self._begun = region, runs
            if region.has_folios:  # the job writes down what it could not free
                self.settle()

    def settle(self) -> None:
        """Wait for the punch that has begun, if one has."""
        if self._begun is None:
            return
        (region, _), self._begun = self._begun, None
        try:
            held = self._punching.finish()
        except OSError as error:
            self._on_held(region.region_id, f"its memory cannot be given back: {error.strerror}")
        else:
            if held is not None:
                self._end(region, held)
        self._note_unfreed(region)

    def settle_for(self, region: RealRegion, offset: int, length: int) -> None:
        """Before pages come in: wait for a punch of these bytes, which would empty them again."""
        if self._begun is None or self._begun[0] is not region:
            return
        end = offset + length
        if self._punching.done or any(first < end and offset < first + count for first, count in self._begun[1]):
            self.settle()

    def run(self, job: Callable[[], object], pages: int, region: RealRegion) -> str:
        """Do another job that the region's client can delay; returns why the client must end, or nothing."""
        self.settle()
        held = self._punching.run(job, pages, region.account)
        if held is None:
            return ""
        self._end(region, held)
        return held.why

    def tick(self) -> None:
        """Notice a punch that does not end, and retry what could not be freed."""
        self.settle()
        unfreed, self._unfreed = self._unfreed, set()
        for region in unfreed:
            if region.region_id in self._regions:
                runs, region.unfreed = list(region.unfreed.items()), {}
                self.punch(region, runs)

    def _end(self, region: RealRegion, held: Held) -> None:
        region.held = held.wait_done
        self._on_held(region.region_id, held.why)

    def _note_unfreed(self, region: RealRegion) -> None:
        if region.unfreed:
            self._unfreed.add(region)
