"""Copies bytes out of and into mapped regions in parts: each part is made resident, then copied.

So a cause of SIGBUS (a damaged slot, no memory, the end of the session) is the error of a fault before the copy, and
other Python threads run between two parts. If a page is evicted between its fault and the copy, the copy faults and
waits in the kernel. The generator `visits` decides what to do next; lib_usm.steps does it and sends back the outcome of
each fault.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from io import BytesIO
from typing import Any, Final, NamedTuple, TypeAlias

from lib_usm.byte_sequence import Strided
from lib_usm.errors import OutOfMemory, again
from lib_usm.mapping import Mapping

PART_BYTES: Final = 1 << 18
"""Bytes that are made resident together, and copied while other Python threads wait; at least one page."""
_ROUNDS: Final = 4
"""How often a page is made resident again before the copy itself faults, which blocks the thread."""


class Need(NamedTuple):
    """Make these pages resident, and wait. The answer is OutOfMemory, True for one page that was touched, or None.

    Other errors are raised.
    """

    first_page: int
    page_count: int


class Copy(NamedTuple):
    """Copy the bytes from `start` to `stop`. There is no answer."""

    start: int
    stop: int


Visits: TypeAlias = Generator[Need | Copy, "OutOfMemory | bool | None", None]


def visits(mapping: Mapping, page_size: int, start: int, end: int, *, backwards: bool = False) -> Visits:
    """The steps that copy the bytes from `start` to `end`, the last first if `backwards`. Raises OutOfMemory.

    Parts end at page borders. They shrink while memory cannot hold all pages of a part at once.
    """
    most = pages = max(PART_BYTES // page_size, 1)
    while start < end:
        if backwards:
            low, high = max(start, (-(-end // page_size) - pages) * page_size), end
        else:
            low, high = start, min(end, (start // page_size + pages) * page_size)
        first_page = low // page_size
        page_count = -(-high // page_size) - first_page
        short: OutOfMemory | None = None
        rounds = 0
        while not (there := mapping.resident(first_page, page_count)) and rounds < _ROUNDS and short is None:
            answer = yield Need(first_page, page_count)
            if answer is True:
                there = True  # the map may say so a little later
                break
            short = answer or None
            rounds += 1
        if not there and page_count > 1:
            pages = page_count // 2
            continue
        if short is not None and not there:
            raise again(short)
        yield Copy(low, high)
        start, end = (start, low) if backwards else (high, end)
        pages = min(most, pages * 2)


def resident(mapping: Mapping, page_size: int, offset: int, n: int) -> bool:
    """True if `n` bytes (at least 1) can be copied at once: at most one part, and all pages in memory."""
    first_page = offset // page_size
    return n <= PART_BYTES and mapping.resident(first_page, -(-(offset + n) // page_size) - first_page)


def reader(mapping: Mapping, parts: BytesIO) -> Callable[[int, int], object]:
    """A function that appends one part of the region to `parts`."""
    return lambda start, stop: parts.write(mapping.view[start:stop])


def storing(page_size: int, mapping: Mapping, offset: int, data: memoryview) -> Visits:
    """`visits` for a store of `data`, which may lie in the same region."""
    address, target = _address_of(data), mapping.address + offset
    backwards = address < target < address + len(data)  # else the first part would overwrite what is to be copied next
    return visits(mapping, page_size, offset, offset + len(data), backwards=backwards)


def writer(mapping: Mapping, offset: int, data: memoryview) -> Callable[[int, int], object]:
    """A function that copies one part into the region."""

    def copy(start: int, stop: int) -> None:
        mapping.view[start:stop] = data[start - offset : stop - offset]

    return copy


def strided_writer(mapping: Mapping, place: Strided, data: memoryview) -> Callable[[int, int], object]:
    """A function that copies one part of `data` into the region, one byte to each position of `place`."""

    def copy(start: int, stop: int) -> None:
        first = -(-(start - place.start) // place.step)
        end = -(-(stop - place.start) // place.step)
        mapping.view[place.start + first * place.step : stop : place.step] = data[first:end]

    return copy


class _PyBuffer(ctypes.Structure):
    """Py_buffer of Python's C API."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def _address_of(data: memoryview) -> int:
    """Address of the first byte of `data`; ctypes gives it for writable buffers only."""
    found = _PyBuffer()
    get: Any = ctypes.pythonapi.PyObject_GetBuffer
    get(ctypes.py_object(data), ctypes.byref(found), 0)
    address: int = found.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return address
