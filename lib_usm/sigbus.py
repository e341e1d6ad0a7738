"""A sentence on stderr before a SIGBUS ends the process: which page of which region, and why.

A touch of a page that cannot be had is SIGBUS, whose own message is "Bus error". The handler is in sigbus.c; where
that could not be compiled when the library was installed, nothing is said. An application's own handler stays.
"""

from __future__ import annotations

import ctypes
import signal
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final


def _load() -> ctypes.PyDLL | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_sigbus{suffix}")
        if path.exists():
            # PyDLL keeps the interpreter's lock, so that one thread at a time is in there.
            library = ctypes.PyDLL(str(path))
            library.usm_watch.argtypes = [*[ctypes.c_size_t] * 3, ctypes.c_int, ctypes.c_char_p]
            library.usm_ended.argtypes = [ctypes.c_int]
            library.usm_ended.restype = None
            library.usm_forget.argtypes = [ctypes.c_int]
            library.usm_forget.restype = None
            return library
    return None


_library: Final = _load()

available: Final = _library is not None
"""A SIGBUS is explained in this process."""


def watch(start: int, length: int, page_size: int, connection: int, name: str) -> int:
    """Explain a SIGBUS in these addresses, whose session has `connection`; returns a number for `forget`, or -1.

    -1, and nothing is explained, where the handler was not compiled, the application has one, or 4,096 are watched.
    """
    if _library is None or callable(signal.getsignal(signal.SIGBUS)):
        return -1
    number: int = _library.usm_watch(start, length, page_size, connection, name.encode())
    return number


def ended(number: int) -> None:
    """The session of a `watch` has ended."""
    if _library is not None and number >= 0:
        _library.usm_ended(number)


def forget(number: int) -> None:
    """The addresses of a `watch` are not the region's any more."""
    if _library is not None and number >= 0:
        _library.usm_forget(number)
