"""A store for byte strings of different lengths in a fixed piece of memory, with bounded waste.

The memory is divided into slabs, and a slab into chunks of one size class. The chunks of a class are dense: when one is
removed, the last one takes its place. So all slabs of a class are full but the last. The waste is at most one slab for
each class, and in each chunk the difference to the next smaller class. There are no locks: the caller must not run two
methods at the same time.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_left
from typing import Final

from usmd.errors import SwapDeviceError
from usmd.sizes import format_size

_STEP: Final = 1 / 16
"""Least relative difference of neighbouring size classes."""
_LENGTH_BITS: Final = 22
_LENGTH_MASK: Final = (1 << _LENGTH_BITS) - 1
_CLASS_BITS: Final = 6
_CLASS_MASK: Final = (1 << _CLASS_BITS) - 1
_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class _Class:
    """Chunks of one size, `per_slab` in each of `slabs`, in order; `owners` has the key of each."""

    __slots__ = ("owners", "per_slab", "size", "slabs")

    def __init__(self, size: int, per_slab: int) -> None:
        self.size = size
        self.per_slab = per_slab
        self.slabs: list[int] = []
        self.owners = array("Q")


class Chunks:
    """A store of byte strings by key, 0 to `keys` - 1.

    Holds at most `size` bytes, rounded down to whole slabs of `slab` bytes. A string has 1 to `largest` bytes and takes
    at least `smallest`; `largest` is at most a slab. Raises SwapDeviceError if the kernel does not grant the memory.
    """

    def __init__(self, *, size: int, slab: int, smallest: int, largest: int) -> None:
        self._slab = slab
        self.capacity = size // slab * slab
        """Most bytes that may be held."""
        self.stored = 0
        """Bytes of all strings."""
        self.held = 0
        """Bytes of the slabs in use, with the waste."""
        counts = [slab // largest]
        while slab // counts[-1] > smallest:
            counts.append(min(max(counts[-1] + 1, round(counts[-1] * (1 + _STEP))), slab // smallest))
        self._classes = [_Class(slab // count, count) for count in reversed(counts)]
        self._sizes = [each.size for each in self._classes]
        self.keys = size // slab * counts[-1]
        """Number of strings that fit if all are as short as possible."""
        try:
            self._memory = mmap.mmap(-1, self.capacity, flags=_ANONYMOUS)
            # 8 bytes a key; 0: no string. Mapped, so that only used keys take memory.
            self._places = memoryview(mmap.mmap(-1, self.keys * 8, flags=_ANONYMOUS)).cast("Q")
        except (OSError, OverflowError, ValueError) as error:
            raise SwapDeviceError(f"the kernel grants no {format_size(size)} of memory ({error})") from error
        self._unused = 0
        """First slab that was never used."""
        self._empty: list[int] = []
        """Used slabs that are empty now; their memory was given back to the kernel."""

    def put(self, key: int, data: bytes) -> bool:
        """Store `data` under an unused key. False if there is no room; then nothing has changed."""
        for number in range(bisect_left(self._sizes, len(data)), len(self._classes)):
            chunks = self._classes[number]
            index = len(chunks.owners)
            if index == len(chunks.slabs) * chunks.per_slab and not self._take_slab(chunks):
                continue  # a larger class may have a free chunk
            chunks.owners.append(key)
            self._places[key] = len(data) | number << _LENGTH_BITS | index << _LENGTH_BITS + _CLASS_BITS
            start = self._start(chunks, index)
            self._memory[start : start + len(data)] = data
            self.stored += len(data)
            return True
        return False

    def get(self, key: int) -> bytes:
        """The string of a key; empty if it has none."""
        place = self._places[key]
        if not place:
            return b""
        start = self._start(self._classes[place >> _LENGTH_BITS & _CLASS_MASK], place >> _LENGTH_BITS + _CLASS_BITS)
        return self._memory[start : start + (place & _LENGTH_MASK)]

    def remove(self, key: int) -> None:
        """Remove the string of a key, if it has one; the last chunk of the class takes its place."""
        place = self._places[key]
        if not place:
            return
        self._places[key] = 0
        self.stored -= place & _LENGTH_MASK
        chunks = self._classes[place >> _LENGTH_BITS & _CLASS_MASK]
        index = place >> _LENGTH_BITS + _CLASS_BITS
        owners = chunks.owners
        mover = owners.pop()
        if mover != key:
            length = self._places[mover] & _LENGTH_MASK
            self._memory.move(self._start(chunks, index), self._start(chunks, len(owners)), length)
            owners[index] = mover
            self._places[mover] = place & ~_LENGTH_MASK | length
        if len(owners) == (len(chunks.slabs) - 1) * chunks.per_slab:
            self._give_slab(chunks)

    def close(self) -> None:
        """Free all memory. No method may be called after this."""
        self._places.release()
        self._memory.close()

    def _start(self, chunks: _Class, index: int) -> int:
        slab, place = divmod(index, chunks.per_slab)
        return chunks.slabs[slab] * self._slab + place * chunks.size

    def _take_slab(self, chunks: _Class) -> bool:
        """Add a slab to a class; False if all are in use."""
        if self._empty:
            chunks.slabs.append(self._empty.pop())
        elif (self._unused + 1) * self._slab <= self.capacity:
            chunks.slabs.append(self._unused)
            self._unused += 1
        else:
            return False
        self.held += self._slab
        return True

    def _give_slab(self, chunks: _Class) -> None:
        """Take the last slab from a class, and give its memory back to the kernel."""
        slab = chunks.slabs.pop()
        self._empty.append(slab)
        self.held -= self._slab
        if self._slab % mmap.PAGESIZE == 0:
            self._memory.madvise(mmap.MADV_DONTNEED, slab * self._slab, self._slab)
