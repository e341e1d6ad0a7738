"""One region mapped into this process: its bytes, which usmd gives and takes while it runs, and its residency map.

Covers the mappings and what fork does to them. How their descriptors come is in lib_usm.memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Final

from lib_usm import sigbus
from lib_usm.errors import InUse

_MAP_FIXED_NOREPLACE: Final = 0x100000
_ABSENT: Final = b"\0"


class _Memory(mmap.mmap):
    """The mapping itself, which every array and memoryview of it keeps alive, and with it what it depends on."""

    session: object = None
    watched = -1
    """Number of lib_usm.sigbus; -1: not watched."""

    def close(self) -> None:
        """Unmap. Raises BufferError while arrays or views are in use."""
        super().close()
        watched, self.watched = self.watched, -1
        sigbus.forget(watched)

    def __del__(self) -> None:
        sigbus.forget(self.watched)


class Mapping:
    """Maps `length` bytes of `memfd`, and the residency map of `page_count` bytes. Raises OSError, and maps nothing.

    The descriptors stay the caller's. The bytes must not be touched before the daemon serves their faults.
    """

    def __init__(self, memfd: int, residency_fd: int, length: int, page_count: int) -> None:
        size = os.fstat(memfd).st_size  # whole pages
        self._memory = _Memory(memfd, size)
        try:
            self._memory.madvise(mmap.MADV_DONTFORK)  # a child would see holes as zeros
            self._residency = mmap.mmap(residency_fd, page_count, prot=mmap.PROT_READ)
        except OSError:
            self._memory.close()
            raise
        self.address: int = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        """Where the first byte is in this process."""
        self.size = size
        self._length = length
        self.view = memoryview(self._memory)[:length]
        """The bytes of the region, for reading and writing here; nobody else gets it, and so nobody can release it."""
        _mappings.add(self)

    def keep_alive(self, session: object) -> None:
        """Have arrays and views keep an object, for without it a touch of them would be SIGBUS."""
        self._memory.session = session

    def explain_sigbus(self, page_size: int, connection: int, name: str) -> None:
        """Have a SIGBUS by a touch of the bytes say so on stderr; see lib_usm.sigbus."""
        self._memory.watched = sigbus.watch(self.address, self.size, page_size, connection, name)

    def session_ended(self) -> None:
        """Have the explanation of a SIGBUS say so."""
        sigbus.ended(self._memory.watched)

    def buffer(self) -> memoryview:
        """A view of the bytes that is the caller's own."""
        return self.view[:]

    def resident(self, first_page: int, page_count: int) -> bool:
        """Whether all these pages are in memory, and none is on its way out; without asking anybody."""
        return self._residency.find(_ABSENT, first_page, first_page + page_count) < 0

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs (first page, pages) of a range that are not resident, ascending, none over `longest` pages."""
        runs = []
        end = first_page + page_count
        page = self._residency.find(_ABSENT, first_page, end)
        while page >= 0:
            stop = self._residency.find(b"\1", page, min(end, page + longest))
            stop = min(end, page + longest) if stop < 0 else stop
            runs.append((page, stop - page))
            page = self._residency.find(_ABSENT, stop, end)
        return runs

    def close(self, what: str) -> None:
        """Unmap. Raises InUse, and has changed nothing, while arrays or views of the bytes are in use."""
        try:
            self.view.release()
            self._memory.close()
        except BufferError:
            self.view = memoryview(self._memory)[: self._length]
            raise InUse(
                f"{what} has arrays or memoryviews in use, whose memory would go; delete them (`del array`) first"
            ) from None
        self._residency.close()
        _mappings.discard(self)

    def in_child(self) -> None:
        """After fork: nothing is mapped here; keep the addresses from being used for something else."""
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        libc.mmap(self.address, self.size, 0, flags, -1, 0)


_mappings: weakref.WeakSet[Mapping] = weakref.WeakSet()


def _after_fork() -> None:
    for mapping in list(_mappings):
        mapping.in_child()


os.register_at_fork(after_in_child=_after_fork)
