"""System calls that neither Python nor the C library wraps."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_NOTHING: Final = (0,) * 6

_syscall: Final = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long] * 7


def syscall(number: int, *arguments: int) -> int:
    """A system call with at most 6 arguments; returns its result. Raises OSError."""
    result = int(_syscall(number, *arguments, *_NOTHING[len(arguments) :]))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
