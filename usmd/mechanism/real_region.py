"""A region of real memory: a memfd of its bytes, one of its residency map, and the daemon's mappings of both."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from usm_wire.residency import map_bytes
from usmd.errors import LimitExceeded
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import Account, Run, punch
from usmd.sizes import format_size

_SEALS: Final = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_F_SEAL_FUTURE_WRITE: Final = 16
"""Linux 5.1; Python 3.11 has no name for it."""
MAX_RUNS: Final = 4096
"""Runs of pages that a region may hold when its client maps it."""
CLEARED_BYTES: Final = 1 << 16
"""Bytes of a residency map cleared at a time."""


def _memfd(name: str, size: int) -> int:
    """A memfd of fixed size; raises LimitExceeded."""
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise LimitExceeded(f"no descriptor for a region: {error.strerror}; raise usmd's file limit") from error
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        raise LimitExceeded(f"no memory for a region of {format_size(size)}: {error.strerror}") from error
    return descriptor


ALIGNMENT: Final = 2 << 20
"""The daemon's mapping of a region of this size or more begins at a multiple of it, so that it may have huge folios."""
_PROT_NONE: Final = 0
_MAP_FIXED: Final = 0x10
_MAP_NORESERVE: Final = 0x4000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def _mmap(address: int | None, size: int, protection: int, flags: int, memfd: int) -> int:
    """Call mmap(2); raises OSError."""
    mapped: int = _libc.mmap(address, size, protection, flags, memfd, 0)
    if mapped == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return mapped


def _aligned_place(size: int) -> int:
    """Reserve addresses for a mapping, at a multiple of ALIGNMENT; raises OSError."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    first = _mmap(None, length + ALIGNMENT, _PROT_NONE, flags, -1)
    place = -(-first // ALIGNMENT) * ALIGNMENT
    if place > first:
        _libc.munmap(first, place - first)
    if first + ALIGNMENT > place:
        _libc.munmap(place + length, first + ALIGNMENT - place)
    return place


def _map(memfd: int, size: int) -> memoryview:
    """Map a memfd until the view and all parts of it are gone, a large one at a multiple of ALIGNMENT; raises OSError.

    Python's own `mmap` keeps a duplicate of the descriptor, up to 3.12.
    """
    place, flags = (_aligned_place(size), _MAP_FIXED) if size >= ALIGNMENT else (None, 0)
    try:
        address = _mmap(place, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | flags, memfd)
    except OSError:
        if place is not None:
            _libc.munmap(place, size)
        raise
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    _libc.madvise(address, size, mmap.MADV_NOHUGEPAGE)  # a kernel without huge pages refuses this
    return memoryview(memory).cast("B")


def _runs_of_data(memfd: int, end: int = 0) -> Iterator[tuple[int, int]]:
    """Where a memfd holds bytes from `end` on: first byte and end of each run of pages. May wait for a client.

    Raises OSError.
    """
    while True:
        try:
            start = os.lseek(memfd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(memfd, start, os.SEEK_HOLE)
        yield start, end


class RealRegion:
    """A region's bytes and its residency map, each a memfd that the daemon maps and the client gets."""

    __slots__ = (
        "account", "address", "client", "emptied", "folios", "has_folios", "held", "mapping", "memfd",
        "no_folios_until", "page_count", "region_id", "residency", "residency_fd", "shared", "unfreed",
    )  # fmt: skip

    def __init__(
        self, region_id: int, page_count: int, page_size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make the memfds; raises LimitExceeded."""
        self.region_id = region_id
        self.page_count = page_count
        self.client: ClientMemory | None = None
        """The client's side, once it has mapped the region."""
        self.account = Account(clock)
        self.emptied = threading.Event()
        """Set when the region is gone and holds no memory."""
        self.shared = False
        """Whether another process has the memfd, and so can hold the lock of its inode."""
        self.held: Callable[[], object] | None = None
        """Waits until a job that a client has delayed too long is done; None if there was none."""
        self.has_folios = False
        """Whether pages of it may be parts of larger folios."""
        self.folios: set[int] = set()
        """Blocks of ALIGNMENT bytes that hold folios of which no page was punched yet."""
        self.no_folios_until = 0.0
        """No folio is asked for before, because the kernel had none."""
        self.unfreed: dict[int, int] = {}
        """Runs of bytes (offset: length) that were punched and still take memory, see `punch_parts`."""
        self.memfd = _memfd(f"usmd-{region_id}", page_count * page_size)
        try:
            self.residency_fd = _memfd(f"usmd-{region_id}-residency", map_bytes(page_count))
        except LimitExceeded:
            os.close(self.memfd)
            raise
        try:
            fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, _SEALS)
            self.mapping = _map(self.memfd, page_count * page_size)
            self.address = ctypes.addressof(ctypes.c_ubyte.from_buffer(self.mapping))
            """Of the daemon's mapping."""
            self.residency = _map(self.residency_fd, map_bytes(page_count))
            """Laid out as usm_wire.residency says."""
            # After the daemon's own mapping, which stays the only writable one.
            fcntl.fcntl(self.residency_fd, fcntl.F_ADD_SEALS, _SEALS | _F_SEAL_FUTURE_WRITE)
        except (OSError, OverflowError, ValueError) as error:
            self.close()
            raise LimitExceeded(f"no room to map a region of {format_size(page_count * page_size)}: {error}") from error

    def share(self) -> list[int]:
        """The descriptors that its client gets."""
        self.shared = True
        return [self.memfd, self.residency_fd]

    def data(self) -> list[tuple[int, int]]:
        """Where the memfd holds bytes: first byte and end of each run of pages. Raises OSError (E2BIG: too many)."""
        found = list(islice(_runs_of_data(self.memfd), MAX_RUNS + 1))
        if len(found) <= MAX_RUNS:
            return found
        raise OSError(errno.E2BIG, f"it holds more than {MAX_RUNS} runs of pages already; map it before it is filled")

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the region. A read through the mapping would turn holes into pages of zeros, for the client too."""
        return os.pread(self.memfd, length, offset)

    def splits(self, runs: Iterable[Run]) -> int:
        """How many blocks with folios a punch of these ranges splits; they count as split from then on."""
        if not self.folios:
            return 0
        hit = {
            block
            for offset, length in runs
            for block in range(offset // ALIGNMENT, (offset + length - 1) // ALIGNMENT + 1)
            if block in self.folios
        }
        self.folios -= hit
        return len(hit)

    def punch_parts(self, runs: Iterable[Run]) -> None:
        """Give back the memory of ranges that may be parts of folios. May wait for a client; raises OSError.

        The kernel splits the folio, unless something else holds it, such as a direct read into another page of it. Then
        it makes the bytes zero, and they still take memory: `unfreed` has them, for another try.
        """
        punch(self.memfd, runs)
        for offset, length in runs:
            for start, end in _runs_of_data(self.memfd, offset):
                if start >= offset + length:
                    break
                self.unfreed[start] = min(end, offset + length) - start

    def wanted(self, offset: int, length: int) -> None:
        """Pages come in here: their bytes count again, so none of them is punched as `unfreed`."""
        for start in [each for each, more in self.unfreed.items() if each < offset + length and offset < each + more]:
            end = start + self.unfreed.pop(start)
            if start < offset:
                self.unfreed[start] = offset - start
            if end > offset + length:
                self.unfreed[offset + length] = end - offset - length

    def pages_in_memory(self) -> int:
        """Pages of the hardware's size that the memfd holds, those that the client put there included."""
        return os.fstat(self.memfd).st_blocks * 512 // mmap.PAGESIZE

    def empty(self) -> None:
        """Give back all memory, even if a process still maps it, and close the region. May wait for a client."""
        if self.held is not None:
            self.held()  # that job may use the descriptor
        # The map first: a client that reads it before a touch then does not touch.
        for start, end in _runs_of_data(self.residency_fd):  # the rest is 0 already
            for first in range(start, min(end, self.page_count), CLEARED_BYTES):
                stop = min(first + CLEARED_BYTES, end, self.page_count)
                self.residency[first:stop] = bytes(stop - first)
        try:
            punch(self.memfd, [(0, len(self.mapping))])
        finally:
            self.close()

    def close(self) -> None:
        """Close the descriptors. The mappings end with this object."""
        os.close(self.memfd)
        os.close(self.residency_fd)
