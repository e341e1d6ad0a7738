"""Text traces: one page id per line, decimal or 0x hex, optionally with the kind of the access.

    # a comment
    17
    0x11 w

Lines of digits only, and those followed by " r" or " w", are parsed in C. A block with any other line is parsed in
Python, with the same result.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import msgspec

from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import as_keys, parse_integer
from usmd.lab.traces.lines import line_blocks, text_of
from usmd.lab.traces.trace import Batch, cut

KINDS = {"r": 0, "read": 0, "w": 1, "write": 1}
ID_ALLOWED = "a page id of at most 64 bits, decimal or 0x hex"
KIND_ALLOWED = "r, w, read or write, in either case"

_DIGITS = b"0123456789"
_KIND_TO_WRITE = bytes.maketrans(b"rw", b"\0\1")
_decode = msgspec.json.Decoder(list[int]).decode


def read_text(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses of a text trace, without times. Raises TraceError for an invalid line."""
    for first, block in line_blocks(chunks, context):
        keys, writes = _decimals(block) or _decimals_with_kinds(block) or _line_by_line(block, first, context)
        yield from cut(keys, writes)


def _decimals(block: bytes) -> tuple[array[int], bytes] | None:
    """The keys of a block with one decimal id on every line and nothing else; None for any other block."""
    if block.translate(None, _DIGITS + b"\r\n"):
        return None
    keys = _comma_separated(block[:-1].replace(b"\n", b","))
    return None if keys is None else (keys, b"")


def _decimals_with_kinds(block: bytes) -> tuple[array[int], bytes] | None:
    """Keys and writes of a block whose every line is a decimal id, a blank, and r or w; None for any other block."""
    block = block.lower()
    separators = block.translate(None, _DIGITS)
    numbers = block.replace(b" r\n", b",").replace(b" w\n", b",")
    if numbers.translate(None, _DIGITS + b","):
        return None
    keys = _comma_separated(numbers[:-1])
    if keys is None or len(separators) != 3 * len(keys):  # a line contained a comma
        return None
    return keys, separators[1::3].translate(_KIND_TO_WRITE)


def _comma_separated(numbers: bytes) -> array[int] | None:
    """The numbers as keys; None if one is empty, has a leading zero, or has more than 64 bits."""
    try:
        return as_keys(_decode(b"[" + numbers + b"]"))
    except (msgspec.DecodeError, OverflowError):
        return None


def _line_by_line(block: bytes, first: int, context: Context) -> tuple[array[int], bytes]:
    values: list[int] = []
    writes = bytearray()
    for number, line in enumerate(text_of(block, first, context).split("\n"), first):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        value = parse_integer(fields[0])
        if value is None:
            raise context.bad_line(number, fields[0], "is not a page id", ID_ALLOWED)
        kind = KINDS.get(" ".join(fields[1:]).lower()) if len(fields) > 1 else 0
        if kind is None:
            raise context.bad_line(number, " ".join(fields[1:]), "is not a kind of access", KIND_ALLOWED)
        values.append(value)
        writes.append(kind)
    return as_keys(values), bytes(writes)
