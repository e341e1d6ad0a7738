"""The kernel's userfaultfd, as far as usmd uses it: its features, and the system calls on a descriptor.

Constants are those of linux/userfaultfd.h. A descriptor belongs to the address space that made it. A process with a
duplicate may read its messages and resolve its faults: so the daemon serves its clients.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import platform
import select
import struct
from collections.abc import Callable, Iterable
from enum import IntFlag
from pathlib import Path
from typing import Final, NamedTuple

from usm_wire.userfaultfd import DEVICE, SYSCTL, open_userfaultfd

__all__ = [
    "DEVICE", "EVENT_PAGEFAULT", "EVENT_REMAP", "FLAG_MINOR", "FLAG_PROTECTED", "FLAG_WRITE", "HARDWARE_PAGE",
    "HEARS_TOUCHES", "REQUIRED", "SYSCTL", "WANTED", "ContinuePages", "CopyPages", "Drained", "Feature", "Messages",
    "Offer", "ZeroPage", "broken", "continue_", "copy", "handshake", "is_userfaultfd", "names", "open_userfaultfd",
    "poison", "probe", "register", "usable", "wake", "write_protect", "zero",
]  # fmt: skip

HARDWARE_PAGE: Final = mmap.PAGESIZE
_API_VERSION: Final = 0xAA


class Feature(IntFlag):
    """Features by the kernel's names, with the version that brought each."""

    PAGEFAULT_FLAG_WP = 1 << 0  # 5.7
    EVENT_FORK = 1 << 1  # 4.11
    EVENT_REMAP = 1 << 2  # 4.11
    EVENT_REMOVE = 1 << 3  # 4.11
    MISSING_HUGETLBFS = 1 << 4  # 4.11
    MISSING_SHMEM = 1 << 5  # 4.11
    EVENT_UNMAP = 1 << 6  # 4.11
    SIGBUS = 1 << 7  # 4.14
    THREAD_ID = 1 << 8  # 4.14
    MINOR_HUGETLBFS = 1 << 9  # 5.13
    MINOR_SHMEM = 1 << 10  # 5.14
    EXACT_ADDRESS = 1 << 11  # 5.18
    WP_HUGETLBFS_SHMEM = 1 << 12  # 5.19
    WP_UNPOPULATED = 1 << 13  # 6.4
    POISON = 1 << 14  # 6.6
    WP_ASYNC = 1 << 15  # 6.7
    MOVE = 1 << 16  # 6.8


REQUIRED: Final = Feature.PAGEFAULT_FLAG_WP | Feature.MISSING_SHMEM | Feature.WP_HUGETLBFS_SHMEM | Feature.EVENT_REMAP
"""Without these no byte would be safe: eviction needs write-protect on shared memory, and a mapping that mremap moves
must stay registered."""
WANTED: Final = Feature.THREAD_ID | Feature.POISON
"""Used if there: THREAD_ID to find the faulting CPU, POISON to raise SIGBUS instead of an endless wait."""


HEARS_TOUCHES: Final = Feature.MINOR_SHMEM
"""Enabled if touches are to be sampled: see `mechanism.sampler`."""


def _ioctl(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | _API_VERSION << 8 | number


_API: Final = _ioctl(3, 0x3F, 24)
_REGISTER: Final = _ioctl(3, 0, 32)
_WAKE: Final = _ioctl(2, 2, 16)
_COPY: Final = _ioctl(3, 3, 40)
_ZEROPAGE: Final = _ioctl(3, 4, 32)
_CONTINUE: Final = _ioctl(3, 7, 32)
_WRITEPROTECT: Final = _ioctl(3, 6, 24)
_POISON: Final = _ioctl(3, 8, 32)

_MODE_MISSING: Final = 1
_MODE_WP: Final = 2
_MODE_MINOR: Final = 4
COPY_WRITE_PROTECTED: Final = 2
"""Mode of `copy`: the pages come in write-protected."""
CONTINUE_WRITE_PROTECTED: Final = 2
"""Mode of `continue_`, since Linux 6.4: the pages are put back write-protected."""

_TWO: Final = struct.Struct("=QQ")
_THREE: Final = struct.Struct("=QQQ")
_RANGE_RESULT: Final = struct.Struct("=QQQq")
_COPY_ARGUMENT: Final = struct.Struct("=QQQQq")
_pack_range = _RANGE_RESULT.pack_into
_pack_copy = _COPY_ARGUMENT.pack_into
_ioctl_call = fcntl.ioctl

EVENT_PAGEFAULT: Final = 0x12
EVENT_REMAP: Final = 0x14
FLAG_WRITE: Final = 1
FLAG_PROTECTED: Final = 2
FLAG_MINOR: Final = 4
MESSAGE: Final = struct.Struct("=B7xQQQ")
"""A message: event, and three words. For a page fault: flags, address, thread id. For a remap: from, to, length."""


class Offer(NamedTuple):
    """How this process can open a userfaultfd and what features it has, or why it cannot."""

    way: str
    """`device` (/dev/userfaultfd), `syscall`, `user-mode` (no faults of system calls), or empty: none."""
    features: Feature
    why_not: str


def probe() -> Offer:
    """What the kernel offers this process; leaves nothing open."""
    try:
        descriptor, way = open_userfaultfd()
    except OSError as error:
        return Offer("", Feature(0), f"no userfaultfd: {error.strerror or error}")
    try:
        return Offer(way, handshake(descriptor, Feature(0)), "")
    except OSError as error:
        return Offer("", Feature(0), f"userfaultfd answers no handshake: {error.strerror}")
    finally:
        os.close(descriptor)


def usable(offer: Offer) -> str:
    """Why usmd cannot serve real faults with this offer, in one line; empty if it can."""
    if not offer.way:
        return offer.why_not
    missing = REQUIRED & ~offer.features
    if missing:
        return f"this kernel ({platform.release()}) lacks {', '.join(names(missing))}; Linux 5.19 has them all"
    return ""


def names(features: Feature) -> list[str]:
    """The kernel's names of features; unknown ones together as a hexadecimal number."""
    known = [f"UFFD_FEATURE_{each.name}" for each in Feature if each in features]
    rest = int(features) & ~sum(Feature)
    return [*known, f"{rest:#x}"] if rest else known


def is_userfaultfd(descriptor: int) -> bool:
    """Whether a descriptor of this process is a userfaultfd."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()) == "anon_inode:[userfaultfd]"
    except OSError:
        return False


def handshake(descriptor: int, features: Feature) -> Feature:
    """Enable `features`, once a descriptor; returns all that the kernel has. Raises OSError (EINVAL: not these)."""
    argument = bytearray(_THREE.pack(_API_VERSION, features, 0))
    fcntl.ioctl(descriptor, _API, argument)
    offered: int = _THREE.unpack(argument)[1]
    return Feature(offered)


def register(descriptor: int, address: int, length: int, *, minor: bool = False) -> None:
    """Make the kernel report faults on missing and on write-protected pages of a range. Raises OSError.

    `minor`: also on pages that are in the memory and not in the page table, which needs MINOR_SHMEM.
    """
    mode = _MODE_MISSING | _MODE_WP | (_MODE_MINOR if minor else 0)
    argument = bytearray(_RANGE_RESULT.pack(address, length, mode, 0))
    fcntl.ioctl(descriptor, _REGISTER, argument)


def wake(descriptor: int, address: int, length: int) -> None:
    """Make threads that wait for pages of a range try again. Raises OSError."""
    fcntl.ioctl(descriptor, _WAKE, _TWO.pack(address, length))


def write_protect(descriptor: int, address: int, length: int, *, protect: bool) -> None:
    """Make writes to a range fault, or (`protect` False) allow them and wake their threads. Raises OSError."""
    fcntl.ioctl(descriptor, _WRITEPROTECT, bytearray(_THREE.pack(address, length, protect)))


class Drained(NamedTuple):
    """Bytes that a fill has done, and 0 or the errno that stopped it."""

    done: int
    error: int


def copy(
    descriptor: int, address: int, source: int, length: int, *, on_busy: Callable[[], bool], mode: int = 0
) -> Drained:
    """Fill missing pages from the caller's memory at `source`, atomically, and wake their threads.

    The kernel fills nothing while a remap is unread. `on_busy` reads it and returns whether to try again.
    """
    layout = _COPY_ARGUMENT
    return _fill(
        lambda done, left: _moved(descriptor, _COPY, layout, left, address + done, source + done, left, mode, 0),
        length,
        on_busy,
    )


def zero(descriptor: int, address: int, length: int, *, on_busy: Callable[[], bool]) -> Drained:
    """Fill missing pages with zeros and wake their threads; `on_busy` as for `copy`."""
    return _fill_range(_ZEROPAGE, descriptor, address, length, on_busy)


def continue_(descriptor: int, address: int, length: int, *, on_busy: Callable[[], bool], mode: int = 0) -> Drained:
    """Put pages that are in the memory back into the page table, and wake their threads; `on_busy` as for `copy`.

    Errors: EEXIST: the page is in the page table. EFAULT: it is not in the memory.
    """
    layout = _RANGE_RESULT
    return _fill(
        lambda done, left: _moved(descriptor, _CONTINUE, layout, left, address + done, left, mode, 0), length, on_busy
    )


def poison(descriptor: int, address: int, length: int, *, on_busy: Callable[[], bool]) -> Drained:
    """Make touches of missing pages raise SIGBUS, and wake their threads for it; `on_busy` as for `copy`."""
    return _fill_range(_POISON, descriptor, address, length, on_busy)


def _fill_range(request: int, descriptor: int, address: int, length: int, on_busy: Callable[[], bool]) -> Drained:
    return _fill(
        lambda done, left: _moved(descriptor, request, _RANGE_RESULT, left, address + done, left, 0, 0),
        length,
        on_busy,
    )


def _moved(descriptor: int, request: int, layout: struct.Struct, wanted: int, *values: int) -> int:
    """Run a request whose last word is its result; returns the bytes done, or a negative errno if none were."""
    argument = bytearray(layout.pack(*values))
    try:
        fcntl.ioctl(descriptor, request, argument)
    except OSError as error:
        moved: int = layout.unpack(argument)[-1]
        return moved if moved > 0 else -(error.errno or errno.EIO)
    return wanted


class ZeroPage:
    """UFFDIO_ZEROPAGE on one descriptor with little overhead: every first touch takes this path."""

    __slots__ = ("_argument", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._argument = bytearray(_RANGE_RESULT.size)

    def __call__(self, address: int, length: int) -> bool:
        """Fill missing pages with zeros and wake their threads; False if not all were filled: `zero` returns why."""
        _pack_range(self._argument, 0, address, length, 0, 0)
        try:
            _ioctl_call(self._descriptor, _ZEROPAGE, self._argument)
        except OSError:
            return False
        return True


class CopyPages:
    """UFFDIO_COPY on one descriptor with little overhead: every page from swap takes this path."""

    __slots__ = ("_argument", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._argument = bytearray(_COPY_ARGUMENT.size)

    def __call__(self, address: int, source: int, length: int, mode: int) -> int:
        """Try once to fill missing pages; returns the bytes filled. If not all were, `copy` returns why."""
        _pack_copy(self._argument, 0, address, source, length, mode, 0)
        try:
            _ioctl_call(self._descriptor, _COPY, self._argument)
        except OSError:
            moved: int = _COPY_ARGUMENT.unpack(self._argument)[4]
            return max(moved, 0)
        return length


class ContinuePages:
    """UFFDIO_CONTINUE on one descriptor with little overhead: every sampled touch takes this path."""

    __slots__ = ("_argument", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._argument = bytearray(_RANGE_RESULT.size)

    def __call__(self, address: int, length: int, mode: int) -> bool:
        """Put pages back and wake their threads; False if not all were: `continue_` returns why."""
        _pack_range(self._argument, 0, address, length, mode, 0)
        try:
            _ioctl_call(self._descriptor, _CONTINUE, self._argument)
        except OSError:
            return False
        return True


def _fill(attempt: Callable[[int, int], int], length: int, on_busy: Callable[[], bool]) -> Drained:
    """Call `attempt` with the bytes done and left until none is left. It returns what `_moved` does."""
    done = 0
    while done < length:
        moved = attempt(done, length - done)
        if moved > 0:
            done += moved
        elif moved != -errno.EAGAIN or not on_busy():
            return Drained(done, -moved)
    return Drained(done, 0)


class Messages:
    """Reads what a descriptor reports, up to `most` messages at a time."""

    __slots__ = ("_buffer", "_descriptor", "_flags", "_list")

    def __init__(self, descriptor: int, most: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray(most * MESSAGE.size)
        self._list = [self._buffer]
        self._flags = os.RWF_NOWAIT

    def read(self, most: int | None = None) -> Iterable[tuple[int, int, int, int]]:
        """Unread messages, each as in `MESSAGE`, at most `most`; empty if there are none. Raises OSError.

        Since Linux 6.9 this never waits, even if the client has made the descriptor blocking.
        """
        into = self._list if most is None else [memoryview(self._buffer)[: most * MESSAGE.size]]
        try:
            size = os.preadv(self._descriptor, into, -1, self._flags)
        except BlockingIOError:
            return ()
        except OSError as error:
            if not self._flags or error.errno != errno.EOPNOTSUPP:
                raise
            self._flags = 0
            os.set_blocking(self._descriptor, False)
            return self.read(most)
        if size == MESSAGE.size:
            return (MESSAGE.unpack_from(self._buffer),)
        return MESSAGE.iter_unpack(self._buffer[:size])


def broken(descriptor: int) -> bool:
    """Whether a descriptor can report no more faults, for instance because it was made blocking."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & (select.POLLERR | select.POLLNVAL | select.POLLHUP) for _, events in poll.poll(0))
