"""A swap device in the daemon's own memory that stores compressed pages, so that it holds more of them.

Pages are compressed with zstd and stored in chunks of size classes (usmd.swap.chunks). A page that compresses to more
than `MOST` of its size, or for which there is no free chunk, is refused and goes to another device. The checksum is
that of the uncompressed page, so a flipped bit in the compressed bytes is DataLoss, as on any device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, TypeVar

import zstandard

from usmd.errors import ConfigError, NoRoom, Refused, SwapDeviceError
from usmd.sizes import format_size
from usmd.swap.base import Results, SlotIO, SwapDevice, Usage
from usmd.swap.chunks import Chunks
from usmd.swap.kind import SwapKind

_T = TypeVar("_T")

MOST: Final = 0.75
"""Largest share of a page that its compressed bytes may have: a smaller saving is not worth a page fault's time."""
LEAST: Final = 1 / 16
"""Smallest share of a page that a chunk takes, however well the page compresses."""
SLAB_PAGES: Final = 8
"""Size of a slab in pages."""
LEVEL: Final = 1
"""Of zstd: higher ones take longer and save little (`python -m bench compressed`)."""


def _spare(tools: list[_T], make: Callable[[], _T]) -> _T:
    """A tool that no other job uses: one that an earlier job gave back, else a new one."""
    try:
        return tools.pop()
    except IndexError:
        return make()


class CompressedSwapDevice(SwapDevice):
    """Slots of compressed pages in `size` bytes of private anonymous memory: as many as fit at the best compression.

    Raises SwapDeviceError if the kernel does not grant the memory.
    """

    kind: ClassVar[str] = "compressed"

    def __init__(self, *, number: int, name: str, size: int, page_size: int) -> None:
        self._most = int(page_size * MOST)
        try:
            self._chunks = Chunks(
                size=size, slab=SLAB_PAGES * page_size, smallest=int(page_size * LEAST), largest=self._most
            )
        except SwapDeviceError as error:
            raise SwapDeviceError(f"swap device {name}: {error}; make the device smaller, or use a file") from error
        self._chunks_lock = threading.Lock()
        self._compressors: list[zstandard.ZstdCompressor] = []
        self._decompressors: list[zstandard.ZstdDecompressor] = []
        super().__init__(number=number, name=name, path=None, slots=self._chunks.keys, page_size=page_size)

    def usage(self, pages: int) -> Usage:
        """What the device holds: whole slabs, and the compressed bytes in them."""
        del pages
        chunks = self._chunks
        return Usage(chunks.capacity, chunks.held, chunks.stored)

    def _store(self, batch: Sequence[SlotIO]) -> Results:
        results: Results = []
        compressor = _spare(self._compressors, lambda: zstandard.ZstdCompressor(LEVEL))
        for entry in batch:
            data = compressor.compress(entry.buffer)
            with self._chunks_lock:
                self._chunks.remove(entry.slot)
                kept = len(data) <= self._most and self._chunks.put(entry.slot, data)
            results.append(None if kept else self._refusal(entry.slot, len(data)))
        self._compressors.append(compressor)
        return results

    def _fetch(self, batch: Sequence[SlotIO]) -> Results:
        results: Results = []
        decompressor = _spare(self._decompressors, zstandard.ZstdDecompressor)
        for entry in batch:
            with self._chunks_lock:
                data = self._chunks.get(entry.slot)
            try:
                entry.buffer[:] = decompressor.decompress(data, max_output_size=self.page_size)
            except (zstandard.ZstdError, ValueError) as error:  # ValueError: not the size of a page
                results.append(self._lost(entry.slot, f"its bytes cannot be decompressed ({error})"))
            else:
                results.append(None)
        self._decompressors.append(decompressor)
        return results

    def _fetch_now(self, batch: Sequence[SlotIO]) -> Results | None:
        return self._fetch(batch)

    def _release(self, slots: Sequence[int]) -> None:
        with self._chunks_lock:
            for slot in slots:
                self._chunks.remove(slot)

    def _close(self) -> None:
        self._chunks.close()

    def _refusal(self, slot: int, length: int) -> Refused:
        if length > self._most:
            return Refused(f"{self._at(slot)}: the page has {length} bytes compressed; at most {self._most} are taken")
        return NoRoom(f"{self._at(slot)}: no chunk of {length} bytes is left in {format_size(self._chunks.capacity)}")


class CompressedKind(SwapKind, frozen=True, kw_only=True):
    """`compressed:SIZE`; SIZE is that of the memory."""

    device = CompressedSwapDevice

    def open(self, number: int, name: str, page_size: int) -> CompressedSwapDevice:
        """Take the memory. Raises ConfigError for less than a slab, SwapDeviceError if the kernel does not grant it."""
        if self.size < SLAB_PAGES * page_size:
            raise ConfigError(
                f"swap device {name}: {format_size(self.size)} is too small; a compressed device has at least "
                f"{format_size(SLAB_PAGES * page_size)}"
            )
        return CompressedSwapDevice(number=number, name=name, size=self.size, page_size=page_size)
