"""Finds the limit of this process that a call has reached, named as in `ulimit` and `sysctl`."""

from __future__ import annotations

import _thread
import errno
import os
import queue
import resource
from contextlib import suppress
from pathlib import Path
from typing import Final

from lib_usm.errors import LimitExceeded

_PROC: Final = Path("/proc")
_STACK_BYTES: Final = 8 << 20
"""Size of a thread's stack by default."""
_DESCRIPTORS: Final = 16
_THREADS: Final = 16
"""More than gRPC and lib_usm use for one client: about 8 descriptors and 10 threads."""
_END_SECONDS: Final = 5.0
"""Most time to wait for the threads whose start was a check."""


def limit_reached(error: OSError, doing: str, size: int = 0) -> LimitExceeded | None:
    """The LimitExceeded for an error of the kernel, which names the limit; None if no limit is the cause.

    `doing` begins the message with what failed. `size`: bytes that were to be mapped, or 0.
    """
    if error.errno == errno.EMFILE:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return LimitExceeded(
            f"{doing}: this process has as many descriptors open as it may, {soft} (RLIMIT_NOFILE, ulimit -n; at most "
            f"{_shown(hard)}); close some or raise the limit"
        )
    if error.errno == errno.ENFILE:
        return LimitExceeded(f"{doing}: the machine has as many files open as it may (sysctl fs.file-max)")
    if error.errno == errno.EAGAIN and size:
        soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        return LimitExceeded(
            f"{doing}: this process locks its memory (mlockall), of which it may lock {_shown(soft)} bytes "
            "(RLIMIT_MEMLOCK, ulimit -l, in KiB); raise the limit or do not lock what is mapped later"
        )
    if error.errno == errno.ENOMEM:
        return LimitExceeded(f"{doing}: {_why_no_memory(size)}")
    return None


def thread_limit(error: RuntimeError, doing: str) -> LimitExceeded:
    """The LimitExceeded for a thread that cannot be started.

    The kernel gives EAGAIN for each cause, Python no errno.
    """
    tight = _tight_mappings(_STACK_BYTES)
    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    cause = tight or (
        f"this user may have {_shown(soft)} threads (RLIMIT_NPROC, ulimit -u), its cgroup those of pids.max, and the "
        "machine those of sysctl kernel.threads-max; end some or raise the limit"
    )
    return LimitExceeded(f"{doing} ({error}): {cause}")


def check_room(doing: str) -> None:
    """Raise LimitExceeded unless this process can get the descriptors and threads that a client uses.

    Without them gRPC would abort the process.
    """
    descriptors: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            descriptors.append(os.eventfd(0, os.EFD_CLOEXEC))
    except OSError as error:
        raise limit_reached(error, doing) or error from None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    gate, ended = _thread.allocate_lock(), queue.SimpleQueue[None]()
    started = 0
    try:
        with gate:
            for _ in range(_THREADS):
                _thread.start_new_thread(_pass, (gate, ended))
                started += 1
    except RuntimeError as error:
        raise thread_limit(error, doing) from None
    finally:
        # A thread that had not run yet would meet whatever this process does next, such as a limit of its memory. One
        # for which there is no memory at all ends without a word.
        with suppress(queue.Empty):
            for _ in range(started):
                ended.get(timeout=_END_SECONDS)


def _pass(gate: _thread.LockType, ended: queue.SimpleQueue[None]) -> None:
    """The body of a thread whose start is only a check."""
    with gate:
        ended.put(None)


def _why_no_memory(size: int) -> str:
    """The limit of mappings that is reached; the kernel gives ENOMEM for each of them."""
    return _tight_mappings(size) or (
        "the kernel has no memory or no addresses for it (sysctl vm.overcommit_memory, memory.max of the cgroup)"
    )


def _tight_mappings(size: int) -> str:
    """The limit that keeps this process from mapping `size` more bytes; empty if there is none."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = int((_PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()
    if soft != resource.RLIM_INFINITY and used + size > soft:
        return (
            f"this process uses {used} bytes of addresses and may use {soft} (RLIMIT_AS, ulimit -v, in KiB); "
            "close regions or raise the limit"
        )
    most = int((_PROC / "sys/vm/max_map_count").read_text())
    mappings = 0
    with (_PROC / "self/maps").open("rb", buffering=0) as maps:
        while part := maps.read(1 << 14):  # small reads need no new mapping
            mappings += part.count(b"\n")
    # A region has two mappings, and the kernel may split one.
    if mappings + 2 >= most:
        return (
            f"this process has {mappings} mappings and may have {most} (sysctl vm.max_map_count); a region takes two: "
            "make fewer and larger ones, or raise the limit"
        )
    return ""


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
