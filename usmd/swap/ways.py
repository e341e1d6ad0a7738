"""Chooses how the jobs of a swap file run: submitted from the loop through Linux AIO or io_uring, or in threads."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
from typing import Final

from usmd.errors import SwapDeviceError
from usmd.swap.channel import Channel
from usmd.swap.direct import BLOCK
from usmd.swap.io_uring import IoUring
from usmd.swap.linux_aio import LinuxAio

AUTO: Final = "auto"
THREADS: Final = "threads"
WAYS: Final = (AUTO, IoUring.way, LinuxAio.way, THREADS)
"""What an operator may write. `auto`: with direct I/O Linux AIO, which is as fast for one read and faster for many
(`python -m bench disk`), else io_uring; if that does not work, the other; else threads."""
TRY_MILLISECONDS: Final = 10_000
_DISABLED: Final = "/proc/sys/kernel/io_uring_disabled"
_WAITS: Final = "Linux AIO waits for a file that goes through the page cache"


def choose(way: str, descriptor: int, *, direct: bool) -> tuple[Channel | None, str]:
    """A channel to an open file, or None for threads, and the reason in words.

    `direct`: the file bypasses the page cache. Raises SwapDeviceError if `way` is not `auto` and does not work here.
    """
    if way == THREADS:
        return None, "the configuration says so"
    reasons: list[str] = []
    for channel in (LinuxAio, IoUring) if direct else (IoUring, LinuxAio):
        if way not in (AUTO, channel.way):
            continue
        if channel is LinuxAio and not direct:
            reasons.append(f"aio: {_WAITS}; use io_uring or threads, or add `direct`")
            continue
        try:
            found: Channel = channel(descriptor)
            try:
                _try(found)
            except BaseException:
                found.close()
                raise
        except OSError as error:
            reasons.append(f"{channel.way}: {why_not(channel.way, error)}")
        else:
            return found, "the configuration says so" if way != AUTO else "; ".join(reasons)
    if way != AUTO:
        raise SwapDeviceError("; ".join(reasons))
    return None, "; ".join(reasons)


def _try(channel: Channel) -> None:
    """Read the start of the file through a channel. Raises OSError if that fails."""
    with mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        place = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(place)
        del place
        if channel.submit([(False, 0, address, BLOCK, 0)]) != 1:
            raise OSError(errno.EAGAIN, "it takes no request")
        ready = select.poll()
        ready.register(channel.descriptor, select.POLLIN)
        found: list[tuple[int, int]] = []
        while not found:
            if not ready.poll(TRY_MILLISECONDS):
                raise OSError(errno.ETIME, f"a read has not completed for {TRY_MILLISECONDS // 1000} s")
            found = channel.completed()
        if found[0][1] < 0:
            raise OSError(-found[0][1], os.strerror(-found[0][1]))


def why_not(way: str, error: OSError) -> str:
    """Why a channel cannot be opened, in words for an operator."""
    why = error.strerror or str(error)
    if way == IoUring.way and isinstance(error, PermissionError):
        return f"{why}; {_DISABLED} is not 0, or a seccomp filter, as of a container, forbids it"
    return why


def probe(way: str) -> str:
    """Why this machine or process lacks a way; empty: it has it."""
    descriptor = os.memfd_create("usmd-probe", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, BLOCK)
        channel, _ = choose(way, descriptor, direct=True)
    except SwapDeviceError as error:
        return str(error).partition(": ")[2]
    finally:
        os.close(descriptor)
    if channel is not None:
        channel.close()
    return ""
