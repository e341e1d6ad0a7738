"""Direct I/O: bytes go between the device and memory, past the kernel's page cache.

Covers switching it on, and buffers and transfers that the kernel does not take as they are. Does not cover which
files (swap_file) nor slots (file).

How buffers must be aligned in memory differs by kernel and disk (512 bytes, or 4), so the kernel is asked: what it
refuses goes by way of memory of its liking.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from usmd.swap.vectored import VectoredCall

BLOCK: Final = 4096
"""Offsets and lengths are multiples of this: the largest block of the disks that are made."""
_BOUNCE_BYTES: Final = 256 << 10
"""What goes at once by way of other memory, if a page is not larger."""
_SPARE: Final = 8
"""Bounce buffers that are kept for the next call; as many jobs of a device as run at a time find one."""
_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def switch_on(descriptor: int, head: bytes) -> None:
    """Have all later I/O on a file bypass the page cache; `head` is how the file begins, at most BLOCK bytes.

    Raises OSError where the file system, or the disk under it, does not do that: which a read of `head` finds out.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)
    with mmap.mmap(-1, BLOCK, flags=_ANONYMOUS) as found:
        count = os.preadv(descriptor, [found], 0)  # the kernel first writes out what its cache holds of it
        if count < len(head) or found[: len(head)] != head:
            raise OSError(errno.EIO, "what was written is not what is read")
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class DirectIO:
    """`preadv` and `pwritev` in whole blocks, from and to buffers of up to `size` bytes wherever they are in memory.

    As with those of `os` less may be moved than was asked for. Any number of threads may call at a time.
    """

    def __init__(self, size: int) -> None:
        self._size = max(size, _BOUNCE_BYTES)
        self._spare: list[memoryview] = []

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Read whole blocks; returns the bytes, 0 where the file ends before the first block does."""
        return self._move(os.preadv, descriptor, buffers, offset)

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Write whole blocks; returns the bytes, 0 where no block could be written."""
        return self._move(os.pwritev, descriptor, buffers, offset, writing=True)

    def _move(
        self, call: VectoredCall, descriptor: int, buffers: Sequence[memoryview], offset: int, *, writing: bool = False
    ) -> int:
        try:
            moved = call(descriptor, buffers, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            moved = self._bounce(call, descriptor, buffers, offset, writing=writing)
        return moved - moved % BLOCK  # what follows begins with a block

    def _bounce(
        self, call: VectoredCall, descriptor: int, buffers: Sequence[memoryview], offset: int, *, writing: bool
    ) -> int:
        """Move the first of the buffers, as many as there is room for, by way of aligned memory."""
        try:
            room = self._spare.pop()
        except IndexError:
            room = memoryview(mmap.mmap(-1, self._size, flags=_ANONYMOUS))
        try:
            ends = [end for end in accumulate(map(len, buffers)) if end <= len(room)]
            places = [(buffer, end - len(buffer), end) for buffer, end in zip(buffers, ends, strict=False)]
            if writing:
                for buffer, start, end in places:
                    room[start:end] = buffer
            moved = call(descriptor, [room[: ends[-1]]], offset)
            if not writing:
                for buffer, start, end in places:
                    buffer[:] = room[start:end]  # what lies behind `moved` is read again, or has failed
            return moved
        finally:
            if len(self._spare) < _SPARE:
                self._spare.append(room)
