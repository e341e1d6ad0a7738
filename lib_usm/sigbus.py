"""Explains a SIGBUS on stderr before it ends the process: which page of which region, and why.

A touch of a page that cannot be brought in is a SIGBUS, for which the shell prints only "Bus error". The handler is in
sigbus.c; if that was not compiled at installation, there is no explanation. An application's own handler is kept.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

from usm_wire.pb.usm.v1 import common_pb2

_REASONS: Final = {
    common_pb2.FAILURE_REASON_OUT_OF_MEMORY: "there was no memory for it: no frame is free, and nothing can be evicted",
    common_pb2.FAILURE_REASON_DATA_LOSS: "its bytes in swap are damaged",
    common_pb2.FAILURE_REASON_SWAP_IO: "its swap device cannot be read",
}
"""Texts of at most 127 characters for the values that the daemon writes into the residency map of poisoned pages."""


def _load() -> ctypes.PyDLL | None:
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_sigbus{suffix}")
        if path.exists():
            # PyDLL holds the interpreter lock during a call, so only one thread at a time is in the library.
            library = ctypes.PyDLL(str(path))
            library.usm_watch.argtypes = [*[ctypes.c_size_t] * 3, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
            library.usm_reason.argtypes = [ctypes.c_int, ctypes.c_char_p]
            library.usm_reason.restype = None
            for number, text in _REASONS.items():
                library.usm_reason(number, text.encode())
            library.usm_ended.argtypes = [ctypes.c_int]
            library.usm_ended.restype = None
            library.usm_forget.argtypes = [ctypes.c_int]
            library.usm_forget.restype = None
            return library
    return None


_library: Final = _load()

available: Final = _library is not None
"""True if a SIGBUS is explained in this process."""


class _Buffer(ctypes.Structure):
    """Py_buffer of Python's C API."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )  # fmt: skip


def address_of(mapping: mmap.mmap) -> int:
    """First address of a mapping, which may be read-only."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(mapping), ctypes.byref(buffer), 0)
    address: int = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def watch(start: int, length: int, page_size: int, connection: int, name: str, reasons: int) -> int:
    """Explain each SIGBUS at these addresses. `connection` is a socket of the session; returns a number for `forget`.

    `reasons` is the address of one byte a page, the FailureReason of a poisoned page; it must be readable until
    `forget`. Returns -1, and explains nothing, if the handler was not compiled, the application has its own, or 4,096
    ranges are watched.
    """
    if _library is None or callable(signal.getsignal(signal.SIGBUS)):
        return -1
    number: int = _library.usm_watch(start, length, page_size, connection, name.encode(), reasons)
    return number


def ended(number: int) -> None:
    """Record that the session of a `watch` has ended."""
    if _library is not None and number >= 0:
        _library.usm_ended(number)


def forget(number: int) -> None:
    """End a `watch`: its addresses no longer belong to the region."""
    if _library is not None and number >= 0:
        _library.usm_forget(number)
