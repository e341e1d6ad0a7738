"""One region mapped into this process: its bytes, which usmd gives and takes while it runs, and its residency map.

Covers the mappings, how long they last, and what fork does to them. How their descriptors come is in lib_usm.memory.
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
    """The mapping itself, which every array and memoryview of it keeps alive, and with it what it depends on."""

    session: object = None
    """What must not go before the bytes, for without it a touch of them would be SIGBUS."""
    watched = -1
    """Number of lib_usm.sigbus; -1: not watched."""
    address = 0
    mapped_bytes = 0
    residency: mmap.mmap | None = None
    """Read by the handler of SIGBUS."""

    def __del__(self) -> None:
        sigbus.forget(self.watched)

    def in_child(self) -> None:
        """After fork: nothing is mapped here; keep the addresses from being used for something else."""
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        libc.mmap(self.address, self.mapped_bytes, 0, flags, -1, 0)


class Mapping:
    """Maps `length` bytes of `memfd`, and the residency map of its `page_count` pages.

    Raises OSError, and maps nothing. The descriptors stay the caller's. The bytes must not be touched before the daemon
    serves their faults. They stay mapped until nothing refers to them: what another thread reads at the moment of
    `close` it reads to the end.
    """

    def __init__(self, memfd: int, residency_fd: int, length: int, page_count: int) -> None:
        size = os.fstat(memfd).st_size  # whole pages
        memory = MappedBytes(memfd, size)
        memory.madvise(mmap.MADV_DONTFORK)  # a child would see holes as zeros
        self._residency: mmap.mmap | None = mmap.mmap(residency_fd, map_bytes(page_count), prot=mmap.PROT_READ)
        self._page_count = page_count
        self.address: int = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        """Where the first byte is in this process."""
        self.size = size
        self._length = length
        # A finalizer may come here while this thread is inside.
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
        """What the bytes last as long as; whoever keeps it keeps them. Raises ClosedError."""
        if self._memory is None:
            raise ClosedError(_CLOSED)
        return self._memory

    @property
    def view(self) -> memoryview:
        """The bytes of the region, for reads and writes of lib_usm itself; not to be released. Raises ClosedError."""
        view = self._view
        if view is None:
            raise ClosedError(_CLOSED)
        return view

    def explain_sigbus(self, page_size: int, connection: int, name: str) -> None:
        """Have a SIGBUS by a touch of the bytes say so on stderr; see lib_usm.sigbus."""
        reasons = sigbus.address_of(self._map()) + reason_at(self._page_count, 0)
        self.memory.watched = sigbus.watch(self.address, self.size, page_size, connection, name, reasons)

    def buffer(self) -> memoryview:
        """A view of the bytes that is the caller's own, and in use as long as it lives. Raises ClosedError."""
        with self._lock:
            # An object of its own, so that one can tell whether it, or an array or slice made of it, is still there.
            loan = self._loan_type.from_buffer(self.memory)
            loans, number = self._loans, next(self._loan_numbers)
            loans[number] = weakref.ref(loan, lambda _: loans.pop(number))
        return memoryview(loan).cast("B")[: self._length]

    def resident(self, first_page: int, page_count: int) -> bool:
        """Whether all these pages are in memory, and none is on its way out; without asking anybody."""
        return self._map().find(ABSENT_BYTE, first_page, first_page + page_count) < 0

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs (first page, pages) of a range that are not resident, ascending, none over `longest` pages."""
        residency = self._map()
        runs = []
        end = first_page + page_count
        page = residency.find(ABSENT_BYTE, first_page, end)
        while page >= 0:
            stop = residency.find(RESIDENT_BYTE, page, min(end, page + longest))
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
        """Refuse every further use. Raises InUse, and has changed nothing, while arrays or views are in use.

        Returns the memory, which is unmapped when the caller and the reads of other threads are done with it; None if
        it was closed before.
        """
        with self._lock:
            if self.lent:
                raise InUse(
                    f"{what} has arrays or memoryviews in use, whose memory would go; delete them (`del array`) first"
                )
            return self.let_go()

    @property
    def lent(self) -> bool:
        """Arrays or views that `buffer` gave are in use."""
        return bool(self._loans)

    def let_go(self) -> MappedBytes | None:
        """As `close`, but what is in use stays valid, and is unmapped when the last of it goes."""
        with self._lock:
            memory = self._memory
            self._memory = self._view = self._residency = None
            return memory


_CLOSED: Final = "the region was closed"
_memories: weakref.WeakSet[MappedBytes] = weakref.WeakSet()


def session_ended(session: object) -> None:
    """Have the explanation of a SIGBUS say so, for all that is still mapped and was the session's."""
    for memory in list(_memories):
        if memory.session is session:
            sigbus.ended(memory.watched)


def _after_fork() -> None:
    for memory in list(_memories):
        memory.in_child()


os.register_at_fork(after_in_child=_after_fork)
