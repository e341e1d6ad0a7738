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
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from usm_wire.residency import map_bytes
from usmd.errors import LimitExceeded
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import Account, punch
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


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def _map(memfd: int, size: int) -> memoryview:
    """Map a memfd until the view and all parts of it are gone; raises OSError.

    Python's own `mmap` keeps a duplicate of the descriptor, up to 3.12.
    """
    address = _libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, memfd, 0)
    if address == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    _libc.madvise(address, size, mmap.MADV_NOHUGEPAGE)  # a kernel without huge pages refuses this
    return memoryview(memory).cast("B")


def _runs_of_data(memfd: int) -> Iterator[tuple[int, int]]:
    """Where a memfd holds bytes: first byte and end of each run of pages. May wait for a client; raises OSError."""
    end = 0
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
        "account", "client", "emptied", "held", "mapping", "memfd", "page_count", "region_id", "residency",
        "residency_fd", "shared",
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
        self.memfd = _memfd(f"usmd-{region_id}", page_count * page_size)
        try:
            self.residency_fd = _memfd(f"usmd-{region_id}-residency", map_bytes(page_count))
        except LimitExceeded:
            os.close(self.memfd)
            raise
        try:
            fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, _SEALS)
            self.mapping = _map(self.memfd, page_count * page_size)
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
