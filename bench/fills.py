"""Ways to bring pages into a client's memory: UFFDIO_ZEROPAGE and UFFDIO_COPY, beside allocating and UFFDIO_CONTINUE.

Measures the calls alone by pages per call, in one process without faults and daemon. The result is why the mechanism
does not use MINOR faults.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import statistics
import struct
import time
from collections.abc import Callable
from typing import Final

from bench import as_program
from bench.native import PAGE
from usmd.mechanism import uffd
from usmd.mechanism.uffd import Feature

PAGES: Final = (1, 16, 64, 512)
ROUNDS: Final = 15
_REGISTER: Final = 0xC020AA00
_CONTINUE: Final = 0xC020AA07
_MISSING_AND_MINOR: Final = 1 | 4


class Memory:
    """A memfd of `pages` pages, mapped twice: with and without reported faults."""

    def __init__(self, pages: int) -> None:
        self._uffd, _ = uffd.open_userfaultfd()
        uffd.handshake(self._uffd, Feature.MISSING_SHMEM | Feature.MINOR_SHMEM)
        self._memfd = os.memfd_create("fills")
        os.ftruncate(self._memfd, pages * PAGE)
        self._client = mmap.mmap(self._memfd, pages * PAGE)
        self._daemon = mmap.mmap(self._memfd, pages * PAGE)
        self._source = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._source[:] = b"x" * (pages * PAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._client))
        self._from = ctypes.addressof(ctypes.c_char.from_buffer(self._source))
        argument = bytearray(struct.pack("=QQQQ", self._address, pages * PAGE, _MISSING_AND_MINOR, 0))
        fcntl.ioctl(self._uffd, _REGISTER, argument)

    def empty(self) -> None:
        """Remove all pages."""
        self._daemon.madvise(mmap.MADV_REMOVE)

    def zero(self, length: int) -> None:
        """UFFDIO_ZEROPAGE."""
        done = uffd.zero(self._uffd, self._address, length, on_busy=lambda: False)
        if done != (length, 0):
            raise RuntimeError(f"UFFDIO_ZEROPAGE: {done}")

    def copy(self, length: int) -> None:
        """UFFDIO_COPY."""
        done = uffd.copy(self._uffd, self._address, self._from, length, on_busy=lambda: False)
        if done != (length, 0):
            raise RuntimeError(f"UFFDIO_COPY: {done}")

    def allocate_and_continue(self, length: int) -> None:
        """Fallocate, then UFFDIO_CONTINUE."""
        os.posix_fallocate(self._memfd, 0, length)
        self._continue(length)

    def write_and_continue(self, length: int) -> None:
        """Store bytes through the other mapping, then UFFDIO_CONTINUE."""
        self._daemon[:length] = self._source[:length]
        self._continue(length)

    def _continue(self, length: int) -> None:
        fcntl.ioctl(self._uffd, _CONTINUE, bytearray(struct.pack("=QQQq", self._address, length, 0, 0)))

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._uffd)
        os.close(self._memfd)


def timed(memory: Memory, fill: Callable[[int], None], pages: int) -> float:
    """Median microseconds per page."""
    times = []
    for _ in range(ROUNDS):
        memory.empty()
        start = time.perf_counter()
        fill(pages * PAGE)
        times.append((time.perf_counter() - start) / pages * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print a line for each number of pages per call."""
    print(f"ways to fill pages of {PAGE} bytes: us a page, median of {ROUNDS} calls, no fault and no daemon")
    offer = uffd.probe()
    why_not = uffd.usable(offer)
    if why_not or Feature.MINOR_SHMEM not in offer.features:
        print(f"  skipped: {why_not or 'this kernel has no UFFD_FEATURE_MINOR_SHMEM'}")
        return
    memory = Memory(max(PAGES))
    for pages in PAGES:
        zero, allocated = timed(memory, memory.zero, pages), timed(memory, memory.allocate_and_continue, pages)
        copied, written = timed(memory, memory.copy, pages), timed(memory, memory.write_and_continue, pages)
        print(
            f"  {pages:3} a call: zeros by ZEROPAGE {zero:5.2f}, by fallocate and CONTINUE {allocated:5.2f}   "
            f"bytes by COPY {copied:5.2f}, by a mapping and CONTINUE {written:5.2f}"
        )
    memory.close()


if __name__ == "__main__":
    as_program(main, __doc__)
