"""Records of fixed length in binary traces: cuts whole records, and extracts one field of many at once.

A field is gathered byte by byte over all records with strided copies, which in Python is many times faster than
unpacking each record.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from usmd.lab.traces.trace import BATCH_LIMIT


class Header(msgspec.Struct, frozen=True):
    """The circumstances of a recording."""

    page_size: int
    """Bytes in a page."""
    process: str
    """Name of the recorded process."""
    started: float
    """Start of the recording in Unix seconds; times of records count from here."""
    frames: int
    """Most frames that the process could have."""
    evict: str
    """Name of the process's evict policy."""


def whole_records(chunks: Iterable[bytes], length: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Pairs of a byte offset, counted from `start`, and whole records of `length` bytes, at most BATCH_LIMIT of them.

    If the last record is cut off, its bytes are the last item.
    """
    offset = start
    rest = b""
    for chunk in chunks:
        rest = rest + chunk if rest else chunk
        end = len(rest) - len(rest) % length
        for begin in range(0, end, BATCH_LIMIT * length):
            run = rest[begin : min(end, begin + BATCH_LIMIT * length)]
            yield offset, run
            offset += len(run)
        rest = rest[end:]
    if rest:
        yield offset, rest


def numbers(records: bytes, length: int, offset: int, typecode: str) -> array[int]:
    """The little-endian integer at `offset` bytes of every record, as an array of `typecode`."""
    field: array[int] = array(typecode)
    field.frombytes(_gathered(records, length, offset, field.itemsize))
    if sys.byteorder == "big":
        field.byteswap()
    return field


def floats(records: bytes, length: int, offset: int) -> array[float]:
    """The little-endian float64 at `offset` bytes of every record."""
    field = array("d")
    field.frombytes(_gathered(records, length, offset, field.itemsize))
    if sys.byteorder == "big":
        field.byteswap()
    return field


def _gathered(records: bytes, length: int, offset: int, width: int) -> bytes:
    field = bytearray(len(records) // length * width)
    for n in range(width):
        field[n::width] = records[offset + n :: length]
    return bytes(field)
