"""Mechanism `userfaultfd`: real memory. Each region is a memfd that the daemon maps and its client may map.

A frame is a right to memory: the bytes of a present page are in its region's memfd, which has a hole for an absent or
swapped page. If a client hands over a userfaultfd, it maps the memfd and the daemon serves its page faults. Other
clients load and store by call. A real fault ends in `zero`, `fill`, `restore`, `map_again`, `wake` or `poison`.

An eviction write-protects the page, copies it out and punches its hole. Until then the client's writes wait and are
reported, so no write is lost. A page from swap is write-protected unless it is filled for a write. So its first write
is reported, and an eviction of a page that stayed clean takes no I/O.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from usm_wire.residency import RESIDENT, RESIDENT_BYTE, reason_at
from usmd.core.commands import SlotPage
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.errors import UsmdError
from usmd.mechanism.base import Busy, Errors, Mechanism, Stage
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.departures import Departures
from usmd.mechanism.filling import Filling
from usmd.mechanism.neighbours import neighbours
from usmd.mechanism.off_loop import Run
from usmd.mechanism.real_region import ALIGNMENT, MAX_RUNS, RealRegion
from usmd.mechanism.releasing import Releasing
from usmd.mechanism.staging import Block, MemfdStage, Staging
from usmd.mechanism.uffd import HARDWARE_PAGE, Feature
from usmd.mechanism.zeroing import Ways, Zeroing

NAME: Final = "userfaultfd"
STABLE_BYTES: Final = 1 << 20
"""Bytes of protected pages that are kept from the check for zeros until their write."""


class UserfaultfdMemory(Mechanism):
    """Real memory in pages of `page_size` bytes, a multiple of the hardware's."""

    name = NAME

    def __init__(self, page_size: int, clock: Callable[[], float] = time.monotonic, ways: Ways = ()) -> None:
        """`ways`: to fill runs of pages with zeros, see `zeroing`."""
        self._clock = clock
        self._page_size = page_size
        self._zeros = bytes(page_size)
        self._zero_block = Block(HARDWARE_PAGE)
        """A page of zeros, to copy from."""
        self._regions: dict[int, RealRegion] = {}
        self._served: dict[ClientMemory, None] = {}
        """Connected clients that have mapped a region, in the order in which they did."""
        self._leaving: dict[ClientMemory, bool] = {}
        """Clients to close once their regions are gone, and whether to `poison`."""
        self._zeroing = Zeroing(ways, clock)
        self._staging = Staging(page_size)
        self._stable: dict[int, bytes] = {}
        """By page key: bytes of a protected page, so that its write does not read them again. The oldest go first."""
        self._releasing = Releasing(self._regions, lambda region, why: self.on_held(region, why))
        self._filling = Filling(page_size, self._regions, self._releasing)
        self._departures = Departures(clock)
        self.on_held: Callable[[int, str], None] = lambda _region, _why: None
        """Called with a region and a reason when its client has delayed a job too long and must end."""
        self.on_unsampled: Callable[[ClientMemory, str], None] = lambda _client, _why: None
        """Called with a client and a reason when no page of it can be taken out of its page table any more."""

    @property
    def features(self) -> Feature:
        """Features that a client's userfaultfd needs beside the required ones, for the ways of filling with zeros."""
        return self._zeroing.features

    # Regions

    def add_region(self, region_id: int, process_id: int, page_count: int) -> None:
        """Make the memfds of a region; raises LimitExceeded."""
        del process_id  # `connect` names the client
        self._departures.check_room()
        self._regions[region_id] = RealRegion(region_id, page_count, self._page_size, self._clock)

    def region(self, region_id: int) -> RealRegion | None:
        """A region that is not gone, or None."""
        return self._regions.get(region_id)

    def connect(self, region: RealRegion, client: ClientMemory, address: int) -> None:
        """Serve the faults of a region that the client has mapped at an address. Raises OSError if the kernel refuses.

        Raises Busy while an ended session of the same process is still poisoned at these addresses, which would poison
        the new region too. After an error the region is not connected, and may be mapped elsewhere.
        """
        length = region.page_count * self._page_size
        if self._departures.overlap(client.pid, address, length):
            raise Busy(f"an ended session of process {client.pid} is still being closed at {address:#x}; try again")
        for other in self._served:
            if other is not client and other.pid == client.pid:
                other.lose(address, length)
        client.register(region.region_id, address, length, deaf=self._zeroing.lets_map(region, address))
        self._served[client] = None
        region.client = client
        try:
            self._protect_all(region, client)
        except BaseException:  # raised again; else its faults would be read, and its threads never woken
            region.client = None
            client.forget(region.region_id)
            raise

    def _protect_all(self, region: RealRegion, client: ClientMemory) -> None:
        """Write-protect present pages: they may be clean or under eviction, so their first write must be reported."""
        found: list[tuple[int, int]] = []
        why = self._releasing.run(lambda: found.extend(region.data()), MAX_RUNS, region)
        if why:
            raise OSError(errno.EBUSY, why)
        for start, end in found:
            if not client.protect(region.region_id, start, end - start):
                raise OSError(errno.EAGAIN, "what it holds cannot be protected now")

    def drop_regions(self, region_ids: Sequence[int], *, ended: bool) -> None:
        """Free the memory of regions, even if processes still map them."""
        regions = self._regions
        self.settle()  # the descriptors of the regions are closed next, on another thread
        gone = {each: regions.pop(each) for each in region_ids if each in regions}
        self._departures.empty(gone)
        for client in {region.client for region in gone.values()}:
            if client is not None:
                client.drop(region_ids, ended=ended)
                if client in self._leaving and not client.serves:
                    self.farewell(client, poison=self._leaving.pop(client))

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory."""
        return self._departures.is_emptied(region_id)

    def disconnect(self, client: ClientMemory) -> None:
        """Stop serving a client that has ended or no longer wants to be served."""
        self._served.pop(client, None)
        for region_id in client.served() if client.serves else ():
            self._regions[region_id].client = None

    def farewell(self, client: ClientMemory, *, poison: bool) -> None:
        """Disconnect a client whose session has ended once its regions are gone, and close it.

        With `poison`, first make touches of its missing pages raise SIGBUS.
        """
        if client.serves:
            self._leaving[client] = poison
            return
        self.disconnect(client)
        self._departures.farewell(client, poison=poison)

    # Pages

    def _runs(self, pages: Sequence[int]) -> Iterator[tuple[RealRegion, int, int]]:
        """Pages as runs of neighbours: region, first page, count. Pages of regions that are gone are left out."""
        regions = self._regions
        if len(pages) == 1:
            only = regions.get(pages[0] >> PAGE_BITS)
            if only is not None:
                yield only, pages[0] & PAGE_MASK, 1
            return
        for region_id, first, count in neighbours(pages):
            region = regions.get(region_id)
            if region is not None:
                yield region, first, count

    def zero(self, frames: Sequence[int], pages: Sequence[int]) -> None:
        """Make pages present and zero. If no client maps the region, holes are enough."""
        del frames
        size = self._page_size
        if len(pages) == 1:  # the usual case, with little overhead
            key = pages[0]
            only = self._regions.get(key >> PAGE_BITS)
            if only is not None:
                page = key & PAGE_MASK
                offset, client = page * size, only.client
                self._releasing.settle_for(only, offset, size)
                only.residency[page] = RESIDENT
                if only.unfreed:
                    only.wanted(offset, size)
                if client is not None:
                    client.zero(only.region_id, offset, size)
            return
        for region, first, count in self._runs(pages):
            self._releasing.settle_for(region, first * size, count * size)
            region.residency[first : first + count] = RESIDENT_BYTE * count
            if region.unfreed:
                region.wanted(first * size, count * size)
            if region.client is not None:
                self._zeroing.fill(region, region.client, first * size, count * size)

    def release(self, pages: Sequence[int]) -> None:
        """Punch the pages out of their memfds; those of the last region in the background."""
        size = self._page_size
        by_region: dict[int, list[Run]] = {}
        for region, first, count in self._runs(pages):
            region.residency[first : first + count] = bytes(count)
            by_region.setdefault(region.region_id, []).append((first * size, count * size))
        for region_id, runs in by_region.items():
            region = self._regions[region_id]
            client = region.client
            deaf = client is not None and region.has_folios and not _hear(client, region_id, runs)
            self._releasing.begin(region, runs)
            if deaf:
                self.settle()
                if region.unfreed:  # a touch of these zeros would not be reported
                    self.on_held(region_id, "touches of memory that cannot be given back cannot be heard")
            if client is not None:
                for offset, length in runs:
                    client.not_wanted(region_id, offset, length)

    def settle(self) -> None:
        """Wait for the punch that has begun, if one has."""
        self._releasing.settle()

    def restore(self, pages: Sequence[int], writable: Sequence[bool]) -> None:
        """Wake the threads that wait for pages, and allow writes to the writable ones."""
        size = self._page_size
        for key, may_write in zip(pages, writable, strict=True):
            region = self._regions.get(key >> PAGE_BITS)
            if region is None:
                continue
            page = key & PAGE_MASK
            region.residency[page] = RESIDENT
            if self._stable:
                self._stable.pop(key, None)
            if region.client is None:
                continue
            if may_write:
                region.client.unprotect(region.region_id, page * size, size)
            else:
                region.client.wake(region.region_id, page * size, size)

    def map_again(self, pages: Sequence[int], writable: Sequence[bool]) -> None:
        """Put pages back into the page table of their client, and wake the threads that wait."""
        size = self._page_size
        for key, may_write in zip(pages, writable, strict=True):
            region = self._regions.get(key >> PAGE_BITS)
            if region is not None and region.client is not None:
                region.client.sampled.map_again(
                    region.region_id, (key & PAGE_MASK) * size, size, writable=may_write
                )  # fmt: skip

    def sample(self, pages: Sequence[int]) -> None:
        """Take pages out of the page table of their client; those of a region by one call."""
        size = self._page_size
        by_region: dict[RealRegion, list[Run]] = {}
        for region, first, count in self._runs(pages):
            if region.client is not None:
                by_region.setdefault(region, []).append((first * size, count * size))
        for region, runs in by_region.items():
            client = region.client
            if client is None or not client.hearing.hear_all(region.region_id):
                continue
            why_not = client.sampled.take_out(region.region_id, runs)
            if why_not:
                client.sampled.stop()
                self.on_unsampled(client, why_not)

    def wake(self, pages: Sequence[int]) -> list[int]:
        """Wake threads; returns the pages that the client itself has punched out, which are filled with zeros."""
        size = self._page_size
        return [
            region.region_id << PAGE_BITS | page
            for region, first, count in self._runs(pages)
            for page in range(first, first + count)
            if region.client is not None
            and region.client.refill(region.region_id, page * size, size, self._zero_block.address)
        ]

    def poison(self, pages: Sequence[int], reasons: Sequence[int]) -> list[int]:
        """Poison pages, also those of regions that are gone; returns those that cannot be poisoned."""
        size = self._page_size
        stuck = []
        for key, reason in zip(pages, reasons, strict=True):
            region_id = key >> PAGE_BITS
            region = self._regions.get(region_id)
            if region is not None:
                region.residency[reason_at(region.page_count, key & PAGE_MASK)] = reason
                self._releasing.settle_for(region, (key & PAGE_MASK) * size, size)
            client = self._owner(region_id) if region is None else region.client
            if client is not None and not client.poison(region_id, (key & PAGE_MASK) * size, size):
                stuck.append(key)
        return stuck

    def _owner(self, region_id: int) -> ClientMemory | None:
        """The client of a region that is gone, whose threads may still wait for pages of it."""
        return next((client for client in self._served if client.mapped(region_id)), None)

    def protect(self, frames: Sequence[int], pages: Sequence[int]) -> list[bool | None]:
        """Write-protect the pages in the client, then check which are all zero."""
        del frames
        size, zeros = self._page_size, self._zeros
        answers: dict[int, bool | None] = {}
        for key in pages if self._stable else ():
            self._stable.pop(key, None)
        for region, first, count in self._runs(pages):
            key = region.region_id << PAGE_BITS | first
            if region.client is not None and not region.client.protect(region.region_id, first * size, count * size):
                continue
            region.residency[first : first + count] = bytes(count)
            for page in _read(region, first * size, count * size, size):
                answers[key] = zero = page == zeros
                if not zero:
                    self._stable[key] = page
                key += 1
        for _ in range(len(self._stable) - STABLE_BYTES // size):
            del self._stable[next(iter(self._stable))]
        return [answers.get(key) for key in pages]

    def source(self, page: SlotPage) -> memoryview:
        """A copy of the page, because its client can empty it at any time. Zeros if the region is gone."""
        stable = self._stable.pop(page.page, None)
        if stable is not None:
            return memoryview(stable)
        region = self._regions.get(page.page >> PAGE_BITS)
        if region is None:
            return memoryview(self._zeros)
        start = (page.page & PAGE_MASK) * self._page_size
        return memoryview(region.read(start, self._page_size))

    def stage(self, pages: Sequence[SlotPage], *, at_once: bool = False) -> Stage:
        """Memory of the daemon alone: no client sees a page before all of it is read and verified."""
        del at_once
        return self._staging.stage(pages)

    def fill(self, stage: Stage, errors: Sequence[UsmdError | None]) -> Errors:
        """Copy the pages to where the client sees them, neighbours by one call."""
        if not isinstance(stage, MemfdStage):
            raise TypeError(f"{stage!r} is not a stage of this mechanism")
        results = [None if isinstance(error, Busy) else error for error in errors]
        stage.tries += 1
        if len(results) == 1:  # the usual case, with little overhead
            if results[0] is None:
                self._filling.run(stage, [0], results)
            if not isinstance(results[0], Busy):
                self.unstage(stage)
            return results
        for indexes in stage.left(results):
            self._filling.run(stage, indexes, results)
        if not any(isinstance(result, Busy) for result in results):
            self.unstage(stage)
        return results

    def unstage(self, stage: Stage) -> None:
        """Keep the block for the next stage."""
        super().unstage(stage)
        if isinstance(stage, MemfdStage):
            self._staging.give_back(stage)

    def tick(self) -> None:
        """Retry what an unfinished remap or a lack of memory has delayed."""
        self._releasing.tick()
        self._departures.tick()
        for client in [each for each in self._served if each.is_behind]:
            client.retry()

    def load(self, frames: Sequence[int], first: int, offset: int, length: int) -> bytes:
        """Bytes of a region, read from its memfd."""
        del frames
        start = (first & PAGE_MASK) * self._page_size + offset
        return self._regions[first >> PAGE_BITS].read(start, length) if length else b""

    def store(self, frames: Sequence[int], first: int, offset: int, data: memoryview) -> int:
        """Write to a region through the daemon's mapping."""
        count = min(len(data), max(len(frames) * self._page_size - offset, 0))
        if count:
            start = (first & PAGE_MASK) * self._page_size + offset
            self._regions[first >> PAGE_BITS].mapping[start : start + count] = data[:count]
        return count

    def close(self) -> None:
        """Drop all regions, and wait for their end as `finish` does."""
        self.drop_regions(list(self._regions), ended=True)
        self.finish()

    def finish(self) -> None:
        """Wait, for a bounded time, for the cleanup of regions and clients that are gone."""
        self._departures.finish()


def _read(region: RealRegion, start: int, length: int, page_size: int) -> Iterator[bytes]:
    """The bytes of each page of a range, read in as few calls as `STABLE_BYTES` allows."""
    most = max(STABLE_BYTES // page_size, 1) * page_size
    for first in range(start, start + length, most):
        data = region.read(first, min(most, start + length - first))
        for each in range(0, len(data), page_size):
            yield data[each : each + page_size]


def _hear(client: ClientMemory, region_id: int, runs: Sequence[Run]) -> bool:
    """Have touches reported of what is punched and may still take memory: parts of folios."""
    hearing = client.hearing
    heard = [
        hearing.hear(region_id, offset, length)
        for offset, length in (runs if hearing.deaf else ())
        if offset % ALIGNMENT or length % ALIGNMENT
    ]
    return all(heard)
