"""Limits of this process that a call ran into: which one, by the name that `ulimit` and `sysctl` know it by."""

from __future__ import annotations

import errno
import resource
from pathlib import Path
from typing import Final

from lib_usm.errors import LimitExceeded

_PROC: Final = Path("/proc")


def limit_reached(error: OSError, doing: str, size: int = 0) -> LimitExceeded | None:
    """What an error of the kernel is when a limit is the cause, which it names; None for other errors.

    `doing` is what failed, as the start of a sentence; `size` how many bytes were to be mapped, or 0.
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


def _why_no_memory(size: int) -> str:
    """Which of the limits of mappings it was; the kernel says ENOMEM for each."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = int((_PROC / "self/statm").read_text().split()[0]) * resource.getpagesize()
    if soft != resource.RLIM_INFINITY and used + size > soft:
        return (
            f"this process uses {used} bytes of addresses and may use {soft} (RLIMIT_AS, ulimit -v, in KiB); "
            "close regions or raise the limit"
        )
    most = int((_PROC / "sys/vm/max_map_count").read_text())
    mappings = (_PROC / "self/maps").read_bytes().count(b"\n")
    # Each of a region's two mappings is one, and a mapping may be split.
    if mappings + 2 >= most:
        return (
            f"this process has {mappings} mappings and may have {most} (sysctl vm.max_map_count); a region takes two: "
            "make fewer and larger ones, or raise the limit"
        )
    return "the kernel has no memory or no addresses for it (sysctl vm.overcommit_memory, memory.max of the cgroup)"


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
