"""Tables with a header line: one access a row, with columns for id or address, and optionally time, size, operation.

    time,op,address,size
    0.5,write,0x7f0000000ff8,16

An id is an integer, hexadecimal with 0x, or any other text, which is hashed to 63 bits; its size is ignored. An address
is a byte address, and the access touches every page of its `size` bytes (1 without the column). In a table without
operations all rows are reads. A row whose operation is no access, such as a delete, is skipped and counted. Times may
be in any unit (time_units). A table whose columns are known needs no header (columns).

Rows are converted column by column, many at a time; if that fails, they are converted again row by row to find the
invalid one. Lines without quotes are split here, because the csv module is slower.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, islice
from math import isfinite, nan
from operator import add

import msgspec

from usmd.lab.traces.columns import Columns, choose_columns, commented_header
from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import PAGES_LIMIT, hashed, parse_integer, touched
from usmd.lab.traces.lines import line_blocks, text_of
from usmd.lab.traces.operations import ALLOWED, NO_ACCESS, kind_of
from usmd.lab.traces.time_units import UNITS, guess
from usmd.lab.traces.trace import Batch

ROWS = 2048
"""Number of rows converted together."""

_ADDRESSES = 1 << 64


_Block = tuple[int, bytes]
"""The number of the first line, and whole lines."""


class _WrongValue(Exception):
    """An invalid value; becomes a TraceError once its line is known."""

    def __init__(self, value: str, problem: str, allowed: str) -> None:
        super().__init__(value, problem, allowed)
        self.parts = value, problem, allowed


class _Accesses(msgspec.Struct):
    """Converted rows."""

    first: list[int]
    last: list[int]
    writes: bytes
    times: array[float] | None
    skipped: int = 0
    """Rows without an access, which are not among these."""


class _Table(msgspec.Struct):
    """The columns of a table, and the settings for reading it."""

    columns: Columns
    page_size: int
    unit: float | None
    """The unit of its times in seconds; None until the first time is read."""


def read_csv(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses of a table. Raises TraceError for an invalid header or row."""
    blocks = line_blocks(chunks, context)
    columns, blocks = _after_header(blocks, context)
    table = _Table(columns, context.page_size, UNITS.get(context.time_unit, columns.time_unit))
    for first, block in blocks:
        for accesses in _accesses(first, block, blocks, table, context):
            context.skipped += accesses.skipped
            yield from touched(accesses.first, accesses.last, accesses.writes, accesses.times)


def _after_header(blocks: Iterator[_Block], context: Context) -> tuple[Columns, Iterator[_Block]]:
    """The columns, and the blocks of lines below the header, or all lines if there is no header."""
    comment = None
    for first, block in blocks:
        text = text_of(block, first, context)
        start = 0
        for number, line in enumerate(text.split("\n")[:-1], first):
            if line.startswith("#"):
                comment = commented_header(line) or comment
            elif line.strip():
                columns, is_header = choose_columns(line, number, comment, context)
                if is_header:
                    start += len(line) + 1
                return columns, chain([(number + is_header, text[start:].encode())], blocks)
            start += len(line) + 1
    raise context.bad_line(1, "", "is not a header", "a line with the names of columns")


def _accesses(
    first: int, block: bytes, following: Iterator[_Block], table: _Table, context: Context
) -> Iterator[_Accesses]:
    """The accesses of a block; if a field may continue in the next block, of that and all following blocks."""
    if b'"' not in block:
        fields = _split(block, first, table.columns, context)
        try:
            if fields:
                yield _convert(fields, table)
                return
        except _WrongValue:
            pass  # converted again below, where the line is known
        following = iter(())
    start = first - 1
    lines = _lines(chain([(first, block)], following), context)
    reader = csv.reader(lines, delimiter=table.columns.delimiter, strict=True)
    while True:
        line = start + reader.line_num + 1
        try:
            rows = list(islice(reader, ROWS))
        except csv.Error as error:
            allowed = "fields in double quotes that end, and no bare line breaks"
            raise context.bad_line(start + reader.line_num, str(error), "is wrong with this row", allowed) from None
        if not rows:
            return
        yield from _converted(rows, line, table, context)


def _split(block: bytes, first: int, columns: Columns, context: Context) -> list[list[str]] | None:
    """The fields of a block without quotes, by column; None if a row's length differs from the header's."""
    block = block.replace(b"\r\n", b"\n")
    separators = columns.delimiter.encode() + b"\n"
    row = separators[:1] * (columns.count - 1) + b"\n"
    only = block.translate(None, bytes(set(range(256)).difference(separators)))
    if b"\r" in block or only != row * block.count(b"\n") or b"\n\n" in b"\n" + block or not block:
        return None
    flat = text_of(block, first, context).replace("\n", columns.delimiter).split(columns.delimiter)
    return [flat[n : -1 : columns.count] for n in range(columns.count)]


def _lines(blocks: Iterable[_Block], context: Context) -> Iterator[str]:
    for first, block in blocks:
        yield from io.StringIO(text_of(block, first, context), newline="\n")


def _converted(rows: list[list[str]], start: int, table: _Table, context: Context) -> Iterator[_Accesses]:
    """Convert the rows together, or one by one if that fails; `start` is the line of the first."""
    full = [row for row in rows if row] if [] in rows else rows
    if not full:
        return
    try:
        together = _convert(_by_column(full, table.columns), table)
    except _WrongValue:
        yield from _one_by_one(rows, start, table, context)
    else:
        yield together


def _one_by_one(rows: list[list[str]], start: int, table: _Table, context: Context) -> Iterator[_Accesses]:
    line = start
    for row in rows:
        try:
            if row:
                yield _convert(_by_column([row], table.columns), table)
        except _WrongValue as wrong:
            raise context.bad_line(line, *wrong.parts) from None
        line += 1 + sum(field.count("\n") for field in row)


def _by_column(rows: Sequence[list[str]], columns: Columns) -> list[tuple[str, ...]]:
    for row in rows if len(set(map(len, rows))) > 1 else rows[:1]:
        if len(row) != columns.count:
            text = columns.delimiter.join(row)
            raise _WrongValue(text, f"has {len(row)} fields", f"{columns.count}, as in the first line")
    return list(zip(*rows, strict=True))


def _convert(fields: Sequence[Sequence[str]], table: _Table) -> _Accesses:
    columns = table.columns
    writes = b"" if columns.op is None else _writes(fields[columns.op])
    skipped = writes.count(NO_ACCESS)
    if skipped:
        wanted = [kind != NO_ACCESS for kind in writes]
        fields = [list(compress(field, wanted)) for field in fields]
        writes = bytes(compress(writes, wanted))
    times = None if columns.time is None else _times(fields[columns.time], table)
    if columns.is_address:
        sizes = None if columns.size is None else _sizes(fields[columns.size], table.page_size)
        return _Accesses(*_pages(_addresses(fields[columns.key]), sizes, table.page_size), writes, times, skipped)
    keys = _ids(fields[columns.key])
    return _Accesses(keys, keys, writes, times, skipped)


def _times(column: Sequence[str], table: _Table) -> array[float]:
    try:
        times = array("d", map(float, column))
    except ValueError:
        times = array("d", [nan])
    if not isfinite(sum(times)):
        times = _one_time_each(column)  # one is invalid, or their sum overflows
    if table.unit is None and times:
        table.unit = guess(times[0])
    unit = table.unit or 1.0
    return times if unit == 1.0 else array("d", [time * unit for time in times])


def _one_time_each(column: Sequence[str]) -> array[float]:
    times = array("d")
    for text in column:
        try:
            times.append(float(text))
        except ValueError:
            raise _WrongValue(text, "is not a time", "a number, or --columns time=, which leaves times out") from None
        if not isfinite(times[-1]):
            raise _WrongValue(text, "is not a time", "a finite number")
    return times


def _writes(column: Sequence[str]) -> bytes:
    known = {text: kind_of(text) for text in set(column)}
    for text, kind in known.items():
        if kind is None:
            raise _WrongValue(text, "is not a known operation", f"{ALLOWED}; --columns op= leaves operations out")
    return bytes(known[text] or 0 for text in column)


def _ids(column: Sequence[str]) -> list[int]:
    if _all_digits(column):
        return list(map(int, column))
    return [_id(text.strip()) for text in column]


def _id(text: str) -> int:
    if not text:
        raise _WrongValue(text, "is not an id", "an integer, 0x hex, or any text that is not empty")
    number = parse_integer(text)
    return hashed(text) if number is None else number


def _addresses(column: Sequence[str]) -> list[int]:
    if _all_digits(column):
        return list(map(int, column))
    return [_address(text.strip()) for text in column]


def _address(text: str) -> int:
    number = parse_integer(text)
    if number is None or number < 0:
        raise _WrongValue(text, "is not an address", "a number of bytes, at most 64 bits, decimal or 0x hex")
    return number


def _sizes(column: Sequence[str], page_size: int) -> list[int]:
    known = {text: _size(text, page_size) for text in set(column)}
    return [known[text] for text in column]


def _size(text: str, page_size: int) -> int:
    number = parse_integer(text.strip())
    limit = (PAGES_LIMIT - 1) * page_size
    if number is None or not 0 <= number <= limit:
        raise _WrongValue(text, "is not a size", f"a number of bytes, at most {limit:,}")
    return number


def _pages(addresses: list[int], sizes: list[int] | None, page_size: int) -> tuple[list[int], list[int]]:
    first = [address // page_size for address in addresses]
    if sizes is None:
        return first, first
    ends = list(map(add, addresses, sizes))
    if max(ends, default=0) > _ADDRESSES:
        raise _WrongValue(hex(max(ends)), "is where an access ends", "an end within 64 bits of addresses")
    return first, [max(page, (end - 1) // page_size) for page, end in zip(first, ends, strict=True)]


def _all_digits(column: Sequence[str]) -> bool:
    """True if every field is a decimal number with few enough digits for 64 bits."""
    digits = "".join(column)
    return bool(column) and digits.isascii() and digits.isdigit() and "" not in column and max(map(len, column)) < 20
