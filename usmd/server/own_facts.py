"""What the daemon itself takes of the machine: memory, CPU time, descriptors. Each is one read of the kernel's."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final, NamedTuple

_DESCRIPTORS: Final = Path("/proc/self/fd")
_STATM: Final = Path("/proc/self/statm")
_STAT: Final = Path("/proc/self/stat")
_START_FIELD: Final = 19
"""Field of the start time in /proc/self/stat, counted from behind the name."""


class OwnFacts(NamedTuple):
    """Bytes, seconds and counts of this process."""

    virtual: int
    resident: int
    shared: int
    """Resident bytes that are shared with others: mapped files, and memory of clients."""
    cpu_seconds: float
    descriptors: int
    """Open descriptors; 0 if the kernel is too old to count them (before Linux 6.2)."""
    most_descriptors: int


def own_facts() -> OwnFacts:
    """The facts now."""
    page = resource.getpagesize()
    virtual, resident, shared = (int(each) * page for each in _STATM.read_text(encoding="ascii").split()[:3])
    times = os.times()
    return OwnFacts(
        virtual=virtual,
        resident=resident,
        shared=shared,
        cpu_seconds=times.user + times.system,
        descriptors=_DESCRIPTORS.stat().st_size,
        most_descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def now() -> float:
    """Seconds of the Unix epoch, to say when something was."""
    return time.time()


def started() -> float:
    """When this process began, in seconds of the Unix epoch."""
    ticks = int(_STAT.read_text(encoding="ascii").rpartition(")")[2].split()[_START_FIELD])
    return now() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
