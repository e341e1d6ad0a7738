"""Asks the kernel's scheduler for short time slices of the loop's thread.

A thread that was woken because its page is there may be on the CPU of the daemon, whose loop is busy with the faults of
other clients. The scheduler lets a thread use its slice up first, some milliseconds. With a short slice of its own the
loop gives way soon; it gets as much CPU time as before, in smaller pieces. Since Linux 6.12 a thread may ask for slices
(`sched_runtime` of sched_setattr(2), for EEVDF); an older kernel ignores that.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

from usmd.syscalls import syscall

SECONDS: Final = 0.0001
"""The kernel allows 0.1 to 100 ms."""
_CALLS: Final = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Numbers of sched_setattr and sched_getattr."""
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period."""


def ask(seconds: float = SECONDS) -> float | None:
    """Ask for slices of this thread. Returns those it has then; None if it has none, or that is unknown.

    A thread with a real-time policy, which somebody gave it, stays as it is.
    """
    policy, calls = os.sched_getscheduler(0), _CALLS.get(platform.machine())
    if policy not in (os.SCHED_OTHER, os.SCHED_BATCH) or calls is None:
        return None
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, 0, nice, 0, round(seconds * 1e9), 0, 0)
    attributes = ctypes.create_string_buffer(wanted, len(wanted))
    try:
        syscall(calls[0], 0, ctypes.addressof(attributes), 0)
        syscall(calls[1], 0, ctypes.addressof(attributes), _ATTRIBUTES.size, 0)
    except OSError:  # refused by a filter of system calls: the slices stay as they are
        return None
    runtime: int = _ATTRIBUTES.unpack(attributes.raw)[5]
    return runtime / 1e9
