"""Direct I/O: bytes move between disk and memory past the kernel's page cache.

The required alignment of buffers differs by kernel and disk (512 bytes, or 4), so the kernel decides: buffers that it
refuses are copied through aligned memory.
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
"""Offsets and lengths are multiples of this, which is the largest block size of existing disks."""
_BOUNCE_BYTES: Final = 256 << 10
"""Size of a bounce buffer, unless a page is larger."""
_SPARE: Final = 8
"""Bounce buffers kept for later calls, one for each job that a device may run at the same time."""
_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def switch_on(descriptor: int, head: bytes) -> None:
    """Make all later I/O on a file bypass the page cache; `head` is the start of the file, at most BLOCK bytes.

    Raises OSError if the file system or its disk cannot do that, which a read of `head` finds out.
    """
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_DIRECT)
    with mmap.mmap(-1, BLOCK, flags=_ANONYMOUS) as found:
        count = os.preadv(descriptor, [found], 0)  # the kernel first writes the cached pages of the file out
        if count < len(head) or found[: len(head)] != head:
            raise OSError(errno.EIO, "what was written is not what is read")
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class DirectIO:
    """`preadv` and `pwritev` in whole blocks, with buffers of up to `size` bytes at any address.

    Like those of `os`, they may move less than was asked for. Any number of threads may call at a time.
    """

    def __init__(self, size: int) -> None:
        self._size = max(size, _BOUNCE_BYTES)
        self._spare: list[memoryview] = []

    def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Read whole blocks; returns the number of bytes, 0 if the file ends within the first block."""
        return self._move(os.preadv, descriptor, buffers, offset)

    def pwritev(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Write whole blocks; returns the number of bytes, 0 if no block could be written."""
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
        return moved - moved % BLOCK  # the next call must begin at a block

    def _bounce(
        self, call: VectoredCall, descriptor: int, buffers: Sequence[memoryview], offset: int, *, writing: bool
    ) -> int:
        """Move as many of the first buffers as fit through aligned memory."""
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
                    buffer[:] = room[start:end]  # bytes behind `moved` are read again, or have failed
            return moved
        finally:
            if len(self._spare) < _SPARE:
                self._spare.append(room)
