"""usmd's own recordings: the accesses and faults of a process, written while it ran.

The file is the magic bytes `USMTRACE1` and a newline; the header as one line of JSON; and records of 17 bytes, little
endian and packed: float64 seconds since the recording started, uint64 page key (region id in the upper 32 bits, page
within the region in the lower), uint8 kind (READ_HIT, WRITE_HIT, READ_FAULT, WRITE_FAULT).

A crash can cut a recording at any byte: an incomplete last record is dropped and reported, and is not an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain, starmap
from math import isfinite
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from usmd.errors import TraceError
from usmd.lab.traces.context import Context, shown
from usmd.lab.traces.records import Header, floats, numbers, whole_records
from usmd.lab.traces.trace import Batch, cut

MAGIC = b"USMTRACE1\n"
HEADER_LIMIT = 1 << 16
"""Most bytes in the header line."""
BUFFERED = 1 << 16
"""Bytes that a recorder buffers before it writes."""

READ_HIT, WRITE_HIT, READ_FAULT, WRITE_FAULT = range(4)

_record = struct.Struct("<dQB")
_KINDS = bytes((READ_HIT, WRITE_HIT, READ_FAULT, WRITE_FAULT))
_KIND_TO_WRITE = bytes.maketrans(_KINDS, b"\0\1\0\1")
_KIND_ALLOWED = "0 read hit, 1 write hit, 2 read fault, 3 write fault"


class Recorder:
    """Writes a recording to `file`, open for binary writing and buffered, and closes it at the end; a context manager.

    Every method raises TraceError if the file cannot be written, for example because the disk is full.
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file = file
        self._waiting = bytearray(MAGIC + msgspec.json.encode(header) + b"\n")
        if len(self._waiting) > HEADER_LIMIT:
            raise TraceError(f"process {shown(header.process)} is too long a name; allowed is a header of 64 KiB")
        self.flush()

    def add(self, time: float, key: int, kind: int) -> None:
        """Add an access at `time` seconds since the start, to page `key`, of one of the four kinds.

        Raises TraceError, and adds nothing, for a key beyond uint64 or another kind.
        """
        if not READ_HIT <= kind <= WRITE_FAULT:
            raise _no_kind(kind)
        try:
            self._waiting += _record.pack(time, key, kind)
        except struct.error as error:
            raise _no_access(error) from None
        if len(self._waiting) >= BUFFERED:
            self.flush()

    def add_many(self, accesses: Iterable[tuple[float, int, int]]) -> None:
        """Add accesses, each (time, key, kind) as for `add`; if one is invalid, none is added."""
        try:
            records = b"".join(starmap(_record.pack, accesses))
        except struct.error as error:
            raise _no_access(error) from None
        if wrong := records[_record.size - 1 :: _record.size].translate(None, _KINDS):
            raise _no_kind(wrong[0])
        self._waiting += records
        if len(self._waiting) >= BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records to the file."""
        try:
            self._file.write(self._waiting)
            self._file.flush()
        except (OSError, ValueError) as error:
            raise TraceError(f"the recording cannot be written ({error}); give an open file with room") from None
        self._waiting.clear()

    def close(self) -> None:
        """Write the buffered records and close the file. May be called again."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._release()

    def _release(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise TraceError(f"the recording cannot be written ({error}); give an open file with room") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _no_access(error: struct.error) -> TraceError:
    return TraceError(f"an access cannot be recorded ({error}); allowed is a float64, a uint64 and a kind")


def _no_kind(kind: int) -> TraceError:
    return TraceError(f"kind {kind} cannot be recorded; allowed is {_KIND_ALLOWED}")


def read_recording(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses of a recording, with times in seconds since its start; sets `context.header` at once.

    Sets `context.truncated` if the last record was cut off. Raises TraceError at once for an invalid header, and while
    iterating for an invalid kind or time.
    """
    source = iter(chunks)
    data = b""
    while data.count(b"\n") < 2 and len(data) <= HEADER_LIMIT and (more := next(source, b"")):
        data += more
    if not data.startswith(MAGIC):
        raise context.bad_byte(0, data[:20].decode("latin-1"), "does not begin a recording", repr(MAGIC.decode()))
    line, end, rest = data.removeprefix(MAGIC).partition(b"\n")
    try:
        context.header = msgspec.json.decode(line if end else b"", type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        value = line[:100].decode(errors="backslashreplace")
        raise context.bad_byte(len(MAGIC), value, f"is not a header ({error})", "JSON, as usmd writes it") from None
    return _accesses(chain([rest], source), len(MAGIC) + len(line) + 1, context)


def _accesses(chunks: Iterable[bytes], start: int, context: Context) -> Iterator[Batch]:
    length = _record.size
    for offset, records in whole_records(chunks, length, start):
        if len(records) % length:
            context.truncated = True
            return
        kinds = records[length - 1 :: length]
        times = floats(records, length, 0)
        if kinds.translate(None, _KINDS) or not isfinite(sum(times)):
            _check(records, offset, context)
        yield from cut(numbers(records, length, 8, "q"), kinds.translate(_KIND_TO_WRITE), times)


def _check(records: bytes, offset: int, context: Context) -> None:
    for n, (time, _, kind) in enumerate(_record.iter_unpack(records)):
        place = offset + n * _record.size
        if kind > WRITE_FAULT:
            raise context.bad_byte(place, str(kind), "is not a kind of access", _KIND_ALLOWED)
        if not isfinite(time):
            raise context.bad_byte(place, str(time), "is not a time", "a finite number of seconds")
