"""One region mapped into this process: its bytes, which usmd fills and evicts meanwhile, and its residency map.

lib_usm.memory receives the descriptors.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import threading
import weakref
from typing import Final

from lib_usm import sigbus
from lib_usm.errors import ClosedError, InUse
from usm_wire.residency import ABSENT_BYTE, RESIDENT_BYTE, map_bytes, reason_at

_MAP_FIXED_NOREPLACE: Final = 0x100000


class MappedBytes(mmap.mmap):
    """The mapping itself. Its arrays and memoryviews keep it alive, and it keeps alive what it depends on."""

    session: object = None
    """The session, which must outlive the bytes: without it a touch would end in SIGBUS."""
    watched = -1
    """Number of the watch of lib_usm.sigbus; -1: not watched."""
    address = 0
    mapped_bytes = 0
    residency: mmap.mmap | None = None
    """The residency map, which the SIGBUS handler reads."""

    def __del__(self) -> None:
        sigbus.forget(self.watched)

    def in_child(self) -> None:
        """After fork, in the child: reserve the addresses, at which the child has no mapping."""
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        libc.mmap(self.address, self.mapped_bytes, 0, flags, -1, 0)


class Mapping:
    """Maps `length` bytes of `memfd`, and the residency map of its `page_count` pages.

    Raises OSError; then nothing is mapped. The caller keeps the descriptors. The bytes must not be touched before the
    daemon serves their faults. They stay mapped until no object refers to them, so a read by another thread during
    `close` completes.
    """

    def __init__(self, memfd: int, residency_fd: int, length: int, page_count: int) -> None:
        size = os.fstat(memfd).st_size  # whole pages
        memory = MappedBytes(memfd, size)
        memory.madvise(mmap.MADV_DONTFORK)  # a child would read zeros where pages are not resident
        self._residency: mmap.mmap | None = mmap.mmap(residency_fd, map_bytes(page_count), prot=mmap.PROT_READ)
        self._page_count = page_count
        self.address: int = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        """Address of the first byte in this process."""
        self.size = size
        self._length = length
        # Reentrant, because a finalizer may run here while this thread holds the lock.
        self._lock = threading.RLock()
        self._loan_type: type[ctypes.Array[ctypes.c_ubyte]] = ctypes.c_ubyte * size
        self._loans: dict[int, weakref.ref[ctypes.Array[ctypes.c_ubyte]]] = {}
        self._loan_numbers = itertools.count()
        self._memory: MappedBytes | None = memory
        self._view: memoryview | None = memoryview(memory)[:length]
        memory.address, memory.mapped_bytes, memory.residency = self.address, size, self._residency
        _memories.add(memory)

    @property
    def memory(self) -> MappedBytes:
        """The object that keeps the bytes mapped. Raises ClosedError."""
        if self._memory is None:
            raise ClosedError(_CLOSED)
        return self._memory

    @property
    def view(self) -> memoryview:
        """The bytes of the region, for lib_usm's own reads and writes; not to be released. Raises ClosedError."""
        view = self._view
        if view is None:
            raise ClosedError(_CLOSED)
        return view

    def explain_sigbus(self, page_size: int, connection: int, name: str) -> None:
        """Print an explanation on stderr if a touch of the bytes ends in SIGBUS; see lib_usm.sigbus."""
        reasons = sigbus.address_of(self._map()) + reason_at(self._page_count, 0)
        self.memory.watched = sigbus.watch(self.address, self.size, page_size, connection, name, reasons)

    def buffer(self) -> memoryview:
        """A new view of the bytes. The region counts as in use as long as the view lives. Raises ClosedError."""
        with self._lock:
            # A new object for each view: its weak reference shows whether the view, or an array or slice of it, still
            # lives.
            loan = self._loan_type.from_buffer(self.memory)
            loans, number = self._loans, next(self._loan_numbers)
            loans[number] = weakref.ref(loan, lambda _: loans.pop(number))
        return memoryview(loan).cast("B")[: self._length]

    def resident(self, first_page: int, page_count: int) -> bool:
        """True if all these pages are in memory, and none is being evicted; read from the map, without a call."""
        return self._map().find(ABSENT_BYTE, first_page, first_page + page_count) < 0

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """The non-resident runs (first page, pages) of a range, ascending, each at most `longest` pages."""
        residency = self._map()
        runs = []
        end = first_page + page_count
        page = residency.find(ABSENT_BYTE, first_page, end)
        while page >= 0:
            # From the next page on, because this one may have become resident since.
            stop = residency.find(RESIDENT_BYTE, page + 1, min(end, page + longest))
            stop = min(end, page + longest) if stop < 0 else stop
            runs.append((page, stop - page))
            page = residency.find(ABSENT_BYTE, stop, end)
        return runs

    def _map(self) -> mmap.mmap:
        residency = self._residency
        if residency is None:
            raise ClosedError(_CLOSED)
        return residency

    def close(self, what: str) -> MappedBytes | None:
        """Refuse all further use, and return the memory; None if it was closed before.

        The memory is unmapped when the caller and the reads of other threads release it. Raises InUse while arrays or
        views are in use; then nothing has changed.
        """
        with self._lock:
            if self.lent:
                raise InUse(
                    f"{what} has arrays or memoryviews in use, whose memory would go; delete them (`del array`) first"
                )
            return self.let_go()

    @property
    def lent(self) -> bool:
        """True if arrays or views that `buffer` returned are in use."""
        return bool(self._loans)

    def let_go(self) -> MappedBytes | None:
        """As `close`, but arrays and views stay valid; the memory is unmapped when the last of them is gone."""
        with self._lock:
            memory = self._memory
            self._memory = self._view = self._residency = None
            return memory


_CLOSED: Final = "the region was closed"
_memories: weakref.WeakSet[MappedBytes] = weakref.WeakSet()


def session_ended(session: object) -> None:
    """Let the explanations of a SIGBUS say that the session has ended, for all its memory that is still mapped."""
    for memory in list(_memories):
        if memory.session is session:
            sigbus.ended(memory.watched)


def _after_fork() -> None:
    for memory in list(_memories):
        memory.in_child()


os.register_at_fork(after_in_child=_after_fork)
