"""Opens a userfaultfd by the first method that this process may use."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
from typing import Final

DEVICE: Final = "/dev/userfaultfd"
SYSCTL: Final = "/proc/sys/vm/unprivileged_userfaultfd"
_NEW: Final = 0xAA00
_USER_MODE_ONLY: Final = 1
_SYSCALL_NUMBERS: Final = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "ppc64le": 364, "s390x": 355}


def open_userfaultfd() -> tuple[int, str]:
    """A new descriptor, non-blocking and close-on-exec, and the method that opened it. Raises OSError.

    The methods: `device` (/dev/userfaultfd), `syscall`, and `user-mode`, the last resort: with it, a system call that
    touches a missing page fails with EFAULT instead of waiting.
    """
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    denied: OSError | None = None
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        denied = error
    else:
        try:
            return fcntl.ioctl(device, _NEW, flags), "device"
        finally:
            os.close(device)
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(denied.errno, denied.strerror, denied.filename)
    libc = ctypes.CDLL(None, use_errno=True)
    for extra, way in ((0, "syscall"), (_USER_MODE_ONLY, "user-mode")):
        descriptor: int = libc.syscall(number, flags | extra)
        if descriptor >= 0:
            return descriptor, way
    code = ctypes.get_errno() or errno.ENOSYS
    raise OSError(code, os.strerror(code))
