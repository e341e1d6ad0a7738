"""Fills ranges of a client's memory with zeros, by the way that is fastest on this machine for so many bytes.

The ways: UFFDIO_ZEROPAGE; UFFDIO_COPY of zeros; a huge folio (see `huge_folios`), which the kernel maps as a whole in a
region that is deaf (see `hearing`), and UFFDIO_CONTINUE page by page in others. They are tried out when the daemon
starts. Single pages take a shorter path, in `userfaultfd`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from usmd.errors import LimitExceeded
from usmd.mechanism import huge_folios, uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import punch
from usmd.mechanism.real_region import ALIGNMENT, RealRegion
from usmd.mechanism.sampler import why_no_features
from usmd.mechanism.staging import Block
from usmd.mechanism.uffd import HEARS_TOUCHES, Feature

TRIED: Final = (1 << 16, 1 << 18, 1 << 19, 2 << 20)
"""Bytes for which the ways are tried out; a run of more bytes than one takes the way of that one."""
_ROUNDS: Final = 3
_CLEARLY: Final = 0.9
"""Another way than UFFDIO_ZEROPAGE is taken if it takes at most this part of its time."""
REST_SECONDS: Final = 1.0
"""For so long a region asks for no folio after the kernel had none for it."""


class Way(NamedTuple):
    """A way to fill. `folio`: bytes of the folios that it takes; 0: none."""

    name: str
    folio: int = 0


ZEROPAGE: Final = Way("UFFDIO_ZEROPAGE")
COPY: Final = Way("UFFDIO_COPY")
Ways = tuple[tuple[int, Way], ...]
"""(bytes, way for runs of so many and more), descending; none: ZEROPAGE for all."""


class Zeroing:
    """Fills runs of pages with zeros."""

    __slots__ = ("_clock", "_least", "_ways", "_zeros")

    def __init__(self, ways: Ways = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._ways = ways
        self._least = min((size for size, _ in ways), default=1 << 62)
        self._clock = clock
        self._zeros = Block(huge_folios.LARGEST)
        """Never written to, so it takes no memory."""

    @property
    def features(self) -> Feature:
        """Features that a client's userfaultfd needs for the ways."""
        return HEARS_TOUCHES if any(way.folio for _, way in self._ways) else Feature(0)

    def lets_map(self, region: RealRegion, address: int) -> bool:
        """Whether a region that a client maps at an address is to be deaf: the kernel can map its folios as a whole."""
        aligned = len(region.mapping) >= ALIGNMENT and region.address % ALIGNMENT == address % ALIGNMENT == 0
        return aligned and any(way.folio == ALIGNMENT for _, way in self._ways)

    def fill(self, region: RealRegion, client: ClientMemory, offset: int, length: int) -> None:
        """Fill missing bytes with zeros and wake the threads that wait, as `ClientMemory.zero`."""
        if length >= self._least:
            way = next(way for size, way in self._ways if length >= size)
            if way is COPY:
                done = 0
                while done < length:
                    count = min(self._zeros.size, length - done)
                    part = client.copy(region.region_id, offset + done, count, self._zeros.address, writable=True).done
                    done += part
                    if part < count:
                        break
                offset, length = offset + done, length - done
            elif self._may_have_folios(region, client, way.folio):
                self._by_folios(region, client, offset, length, way.folio)
                return
        if length:
            client.zero(region.region_id, offset, length)

    def _may_have_folios(self, region: RealRegion, client: ClientMemory, folio: int) -> bool:
        """Whether runs of a region may come by folios of this size (0: none), and the kernel had some lately."""
        return (
            folio > 0
            and HEARS_TOUCHES in client.features
            and region.address % folio == 0
            and self._clock() >= region.no_folios_until
        )

    def _by_folios(self, region: RealRegion, client: ClientMemory, offset: int, length: int, folio: int) -> None:
        """Fill the aligned part of a range by folios, and what is before and behind it, or was left, without."""
        end = offset + length
        first, last = -(-offset // folio) * folio, end // folio * folio
        if first < last:
            there = huge_folios.take(region.address + first, last - first, folio)
            region.has_folios = True
            region.folios.update(range(first // ALIGNMENT, (last - 1) // ALIGNMENT + 1))
            done = client.map_present(region.region_id, first, there)
            if done < last - first:
                region.no_folios_until = self._clock() + REST_SECONDS
            if offset < first:
                client.zero(region.region_id, offset, first - offset)
            offset = first + done
        if offset < end:
            client.zero(region.region_id, offset, end - offset)


def try_out(offer: uffd.Offer, folios: huge_folios.Folios, stopwatch: Callable[[], float] = time.thread_time) -> Ways:
    """Find the fastest way for each of TRIED by trying, which takes some 10 ms; none if nothing can be tried."""
    if uffd.usable(offer):
        return ()
    sizes = () if why_no_features(offer.features) else folios.sizes
    try:
        trial = _Trial(offer.features)
    except (OSError, LimitExceeded):
        return ()  # for lack of memory or descriptors
    try:
        return _compact([(size, _fastest(trial, size, sizes, stopwatch)) for size in TRIED])
    finally:
        trial.close()


def _fastest(trial: _Trial, size: int, sizes: Sequence[int], stopwatch: Callable[[], float]) -> Way:
    """The fastest way for runs of `size` bytes, of ZEROPAGE, COPY, and the two largest folios that fit."""
    fitting = [each for each in sizes if each <= size][-2:]
    ways = [ZEROPAGE, COPY, *(Way(f"folios of {each >> 10} KiB", each) for each in fitting)]
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):
        for way in ways:
            times[way] = min(times[way], trial.time(way, size, stopwatch))
    best = min(times, key=lambda way: times[way])
    return best if times[best] <= _CLEARLY * times[ZEROPAGE] else ZEROPAGE


def _compact(found: Sequence[tuple[int, Way]]) -> Ways:
    """The ways that differ from those of smaller runs, the largest runs first."""
    ways: list[tuple[int, Way]] = []
    before = ZEROPAGE
    for size, way in found:
        if way != before:
            ways.append((size, way))
            before = way
    return tuple(reversed(ways))


class _Trial:
    """A region of the daemon's own, with a client's side in the same process. Raises OSError and LimitExceeded."""

    def __init__(self, features: Feature) -> None:
        length = huge_folios.LARGEST
        self._region = RealRegion(0, length // uffd.HARDWARE_PAGE, uffd.HARDWARE_PAGE)
        descriptor = -1
        try:
            self._mapping = mmap.mmap(self._region.memfd, length)
            descriptor, _ = uffd.open_userfaultfd()
            wanted = uffd.REQUIRED | HEARS_TOUCHES & features
            self._client = ClientMemory(descriptor, wanted, uffd.HARDWARE_PAGE, os.getpid())
            self._client.register(0, ctypes.addressof(ctypes.c_char.from_buffer(self._mapping)), length)
        except OSError:
            if descriptor >= 0:
                os.close(descriptor)
            self._region.close()
            raise

    def time(self, way: Way, size: int, stopwatch: Callable[[], float]) -> float:
        """Seconds that a way takes to fill so many bytes."""
        zeroing = Zeroing(((0, way),))
        began = stopwatch()
        zeroing.fill(self._region, self._client, 0, size)
        took = stopwatch() - began
        punch(self._region.memfd, [(0, size)])
        return took

    def close(self) -> None:
        """Give everything back."""
        self._client.close()
        self._region.close()
