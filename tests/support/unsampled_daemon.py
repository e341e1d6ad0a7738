"""Daemons that take no page out of a client's page table, or by one way only."""

from __future__ import annotations

import ctypes
import errno
import os

from usmd.mechanism import sampler

_CAP_SYS_PTRACE, _CAP_SYS_NICE = 19, 23
_VERSION_3 = 0x20080522


def refuse() -> None:
    """Have process_madvise fail with EPERM, but without ranges, as it is tried at the start."""
    asked = sampler.syscall

    def refused(number: int, pidfd: int, vector: int, count: int, advice: int) -> int:
        if not count:
            return asked(number, pidfd, vector, count, advice)
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    by_pageout()
    sampler.syscall = refused  # type: ignore[attr-defined]


def by_pageout() -> None:
    """Have no socket by which a client can be asked, so that usmd takes its pages out."""

    def no_socket(_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    sampler.ByClient.__init__ = no_socket  # type: ignore[method-assign]


def without_rights() -> None:
    """Give up CAP_SYS_NICE and CAP_SYS_PTRACE, as the unit does with all of them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the lower half of each first
    if libc.capget(header, data) == 0:
        for index in range(3):
            data[index] &= ~(1 << _CAP_SYS_PTRACE | 1 << _CAP_SYS_NICE)
        if libc.capset(header, data) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
