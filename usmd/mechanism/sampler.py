"""Reference samplers: ways to take pages out of a client's page table, so that its next touch of each is a fault.

The bytes of the pages stay where they are, and so does write protection. A way is best effort: a page may stay in.
`ByClient` is for clients that offer it, `Pageout` for the others, where usmd has the right to it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain, starmap
from pathlib import Path
from typing import ClassVar, Final

from usm_wire.conventions import MAX_RANGES_TO_TAKE_OUT, RANGE_TO_TAKE_OUT
from usmd.mechanism.off_loop import Run
from usmd.mechanism.uffd import HEARS_TOUCHES, Feature, names
from usmd.syscalls import syscall

NEEDED: Final = HEARS_TOUCHES | Feature.WP_UNPOPULATED
"""Features without which no page is taken out; the second one came with UFFDIO_CONTINUE_MODE_WP."""
MAX_RANGES: Final = 512
"""Ranges of one call."""
_MADV_PAGEOUT: Final = 21
_PROCESS_MADVISE: Final = 440
"""Number of the system call on all architectures."""
_FOR_GOOD: Final = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EBADF)
_SWAPS: Final = Path("/proc/swaps")
_STATUS: Final = Path("/proc/self/status")
_NAMESPACE: Final = Path("/proc/self/ns/user")
_CAP_SYS_NICE: Final = 23
_FIRST_NAMESPACE: Final = 0xEFFFFFFD
"""Inode of the system's own user namespace (PROC_USER_INIT_INO): a capability in another one is none here."""


QUEUE_BYTES: Final = 16 << 10
"""Of a client's queue of ranges. The kernel doubles it, and adds to each packet: it has room for some 20 batches."""
_RANGE_BYTES: Final = 16
"""Of a struct iovec: address and length, 8 bytes each."""


class ReferenceSampler(ABC):
    """Takes pages of one client out of its page table."""

    name: ClassVar[str]

    @abstractmethod
    def take_out(self, ranges: Sequence[Run]) -> str:
        """Take ranges (address, length) out; returns why this way cannot, which is for good, or an empty string."""

    def close(self) -> None:  # noqa: B027 - optional
        """Give back what this way has; no page is taken out after that."""


class ByClient(ReferenceSampler):
    """madvise(MADV_PAGEOUT), called by a thread of the client, which gets the ranges by a socket.

    The kernel does what it does for `Pageout`, and asks for no right. The daemon never waits for the client, and reads
    nothing of it: ranges for which the socket has no room are dropped. They may come late, when something else is at
    their addresses, where MADV_PAGEOUT destroys nothing, as MADV_DONTNEED would.
    """

    name = "client"

    def __init__(self) -> None:
        """Raises OSError if there are no descriptors left."""
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.shutdown(socket.SHUT_RD)  # what a client sent, descriptors among it, would have to be thrown away
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)

    def take_out(self, ranges: Sequence[Run]) -> str:
        """Hand ranges to the client, by one call for `MAX_RANGES_TO_TAKE_OUT` of them."""
        for first in range(0, len(ranges), MAX_RANGES_TO_TAKE_OUT):
            some = ranges[first : first + MAX_RANGES_TO_TAKE_OUT]
            try:
                self._ours.send(b"".join(starmap(RANGE_TO_TAKE_OUT.pack, some)))
            except ConnectionError:  # BrokenPipeError, or the queue was not empty as it closed it
                return "it takes no pages out any more: it has closed the socket by which it is asked to"
            except OSError:  # the queue is full, or the kernel has no memory: these pages stay in
                return ""
        return ""

    def close(self) -> None:
        """Close both ends, by which the client's thread ends."""
        self._ours.close()
        self.theirs.close()


class Pageout(ReferenceSampler):
    """process_madvise(MADV_PAGEOUT), called by the daemon.

    The kernel unmaps a shared page that one page table has, and tries to write it to swap. If there is no swap, it
    keeps the page where it is. It leaves a page alone that it has locked, that another page table has, too, or that
    another CPU has not put on its LRU list yet, as after a sample there. Needs CAP_SYS_NICE, and the right to trace the
    client. Takes 0.6 us a page in runs of 16 and more, 1.4 us singly.
    """

    name = "pageout"

    def __init__(self, pidfd: int) -> None:
        """`pidfd`: of the client; stays the caller's."""
        self._pidfd = pidfd
        self._vector = (ctypes.c_uint64 * (2 * MAX_RANGES))()

    def take_out(self, ranges: Sequence[Run]) -> str:
        """Take ranges out, with one call for `MAX_RANGES` of them."""
        for first in range(0, len(ranges), MAX_RANGES):
            why = self._call(ranges[first : first + MAX_RANGES])
            if why:
                return why
        return ""

    def _call(self, ranges: Sequence[Run]) -> str:
        vector = self._vector
        vector[: 2 * len(ranges)] = list(chain.from_iterable(ranges))
        done = 0
        while done < len(ranges):
            start = ctypes.addressof(vector) + done * _RANGE_BYTES
            try:
                advised = syscall(_PROCESS_MADVISE, self._pidfd, start, len(ranges) - done, _MADV_PAGEOUT)
            except OSError as error:
                if error.errno in _FOR_GOOD:
                    return _why_refused(error.errno)
                advised = 0  # the client has unmapped or locked that range, or is dying
            while done < len(ranges) and advised >= ranges[done][1]:
                advised -= ranges[done][1]
                done += 1
            done += 1  # the kernel stopped in the range that it refused, if any are left
        return ""


def _why_refused(error: int) -> str:
    if error == errno.EPERM:
        return "process_madvise is not permitted: usmd needs CAP_SYS_NICE"
    if error == errno.EACCES:
        return "process_madvise is not permitted on this client: usmd needs CAP_SYS_PTRACE over other users' processes"
    return f"process_madvise(MADV_PAGEOUT) is refused: {os.strerror(error)}"


def why_not_permitted(status: Path = _STATUS, namespace: Path = _NAMESPACE) -> str:
    """Why this process may take out no page of any other one; empty if it may, or if that is not known.

    The kernel asks for the capability for other processes alone, so a call for this one tells only of filters. `status`
    and `namespace`: the files of /proc with the capabilities, and of the user namespace.
    """
    pidfd = os.pidfd_open(os.getpid())
    try:
        syscall(_PROCESS_MADVISE, pidfd, 0, 0, _MADV_PAGEOUT)  # no ranges
    except OSError as error:
        if error.errno in _FOR_GOOD:
            return _why_refused(error.errno)
    finally:
        os.close(pidfd)
    try:
        fields = dict(line.partition(":")[::2] for line in status.read_text(encoding="utf-8").splitlines())
        has = int(fields["CapEff"], 16) >> _CAP_SYS_NICE & 1 and namespace.stat().st_ino == _FIRST_NAMESPACE
    except (OSError, KeyError, ValueError):
        return ""
    return "" if has else _why_refused(errno.EPERM)


def why_no_features(features: Feature) -> str:
    """Why the kernel cannot put a page back as it was; empty if it can."""
    missing = NEEDED & ~features
    if missing:
        return f"this kernel ({platform.release()}) lacks {', '.join(names(missing))}; Linux 6.4 has them all"
    return ""


def kernel_swap(swaps: Path = _SWAPS) -> str:
    """Why no page can be taken out while the kernel has swap of its own; empty if it has none."""
    try:
        lines = swaps.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except FileNotFoundError:  # a kernel without swap
        return ""
    except OSError as error:
        return f"{swaps} cannot be read ({error.strerror}), which says whether the kernel would swap the pages"
    if not lines:
        return ""
    return f"the kernel has swap ({lines[0].split()[0]}), to which it would write the pages; `swapoff` it"
