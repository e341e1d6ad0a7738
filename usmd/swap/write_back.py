"""Keeps little of a swap file in the page cache, where what the kernel cannot take back at once could end the daemon.

A buffered file has dirty pages in the page cache, which the kernel writes when it sees fit. In a memory cgroup of
version 1 with a limit that can be too late: nothing holds writers back by the cgroup's own share of dirty pages, and
where they fill it and none is being written yet, the kernel kills a process of the group. Once a page is being written,
an allocation waits for that instead. So the kernel is asked to begin early.

Pages that the disk is reading cannot be taken back either, and read-ahead of the kernel would multiply them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

PART: Final = 1 << 20
"""Bytes that are written to a file before the kernel is asked to write them to the disk, if it is."""
START: Final = 2
"""SYNC_FILE_RANGE_WRITE: begin to write what is dirty, and do not wait for its end."""
_MOUNTS: Final = Path("/proc/self/mounts")
_CGROUPS: Final = Path("/proc/self/cgroup")
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def is_bounded(mounts: Path = _MOUNTS, cgroups: Path = _CGROUPS) -> bool:
    """Whether this process is in a memory cgroup of version 1 that has less memory than the machine."""
    try:
        found = _statistics(mounts.read_text(), cgroups.read_text())
        if found is None:
            return False
        fields = dict(line.split() for line in found.read_text(encoding="ascii").splitlines())
        return int(fields["hierarchical_memory_limit"]) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, KeyError, ValueError):
        return False  # where the kernel does not report a limit, it is as if there were none


def _statistics(mounts: str, cgroups: str) -> Path | None:
    """The file with the statistics of this process's memory cgroup of version 1; None if there is none."""
    within = next((path for _, names, path in _memberships(cgroups) if "memory" in names.split(",")), None)
    if within is None:
        return None
    for line in mounts.splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            own = Path(place, within.lstrip("/"), "memory.stat")
            # In a container the mount may show the process's own cgroup as its root.
            return own if own.is_file() else Path(place, "memory.stat")
    return None


def _memberships(cgroups: str) -> list[tuple[str, str, str]]:
    """Hierarchy, controllers and path of each line of /proc/PID/cgroup; those of version 2 have no controllers."""
    lines = (line.split(":", 2) for line in cgroups.splitlines())
    return [(number, names, path) for number, names, path in lines]


class WriteBack:
    """Counts what is written to a file. `bounded` tells whether memory is."""

    def __init__(self, descriptor: int, bounded: Callable[[], bool] = is_bounded) -> None:
        self._descriptor = descriptor
        self._bounded = bounded
        self._written = 0
        self._was_bounded = False

    def due(self, written: int) -> bool:
        """Count `written` bytes more; True if the kernel is now to be asked to write what is dirty.

        Read-ahead of the kernel is off where memory is bounded.
        """
        self._written += written
        if self._written < PART:
            return False
        self._written = 0
        bounded = self._bounded()
        if bounded != self._was_bounded:
            self._was_bounded = bounded
            advice = os.POSIX_FADV_RANDOM if bounded else os.POSIX_FADV_NORMAL
            os.posix_fadvise(self._descriptor, 0, 0, advice)
        return bounded


def start(descriptor: int) -> None:
    """Have the kernel begin to write what is dirty of a file; may wait for room in the disk's queue.

    Raises nothing: what the disk does not take, the next write or read reports.
    """
    _libc.sync_file_range(descriptor, 0, 0, START)
