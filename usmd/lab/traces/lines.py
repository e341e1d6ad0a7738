r"""Text traces as blocks of whole numbered lines, so that a format can process many lines at once.

Text is UTF-8, or as its byte order mark says. A line ends with \n; the format strips a \r before it.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain

from usmd.errors import TraceError
from usmd.lab.traces.context import Context
from usmd.text_files import MARKS

LINE_LIMIT = 1 << 20
"""Most bytes in a line; a file with a longer one is not text."""

_LONGEST_MARK = max(len(mark) for mark, _ in MARKS)
_MARK = codecs.BOM_UTF8


def line_blocks(chunks: Iterable[bytes], context: Context) -> Iterator[tuple[int, bytes]]:
    r"""Pairs of the block's first line number, from 1, and the block: whole lines with \n, which is added to the last.

    Byte order marks are dropped, also at later lines, where files were joined. Raises TraceError for a line longer than
    LINE_LIMIT.
    """
    number = 1
    tail = b""
    for chunk in _as_utf_8(chunks, context):
        end = chunk.rfind(b"\n") + 1
        if end:
            block = _unmarked(tail + chunk[:end])
            tail = chunk[end:]
            yield number, block
            number += block.count(b"\n")
        else:
            tail += chunk
        if len(tail) > LINE_LIMIT:
            value = tail[:100].decode(errors="replace")
            raise context.bad_line(number, value, "begins a line without end", f"at most {LINE_LIMIT:,} bytes a line")
    if tail:
        yield number, _unmarked(tail + b"\n")


def text_of(block: bytes, first: int, context: Context) -> str:
    """The block as text; `first` is the number of its first line.

    Raises TraceError, with the line, if it is not UTF-8.
    """
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        raise not_text(block, error, first, context) from None


def not_text(block: bytes, error: UnicodeDecodeError, first: int, context: Context) -> TraceError:
    """The error for a block that is not UTF-8; shows the beginning of the invalid line."""
    start = block.rfind(b"\n", 0, error.start) + 1
    value = block[start : start + 100].decode(errors="backslashreplace")
    return context.bad_line(first + block.count(b"\n", 0, error.start), value, "is not UTF-8", "UTF-8 text")


def encoding_of(head: bytes) -> tuple[bytes, str]:
    """The byte order mark at the beginning of a text, empty if none, and the encoding."""
    return next((each for each in MARKS if head.startswith(each[0])), (b"", "utf-8"))


def _unmarked(block: bytes) -> bytes:
    if block.isascii() or _MARK not in block:  # isascii is the faster check
        return block
    return (b"\n" + block).replace(b"\n" + _MARK, b"\n")[1:]


def _as_utf_8(chunks: Iterable[bytes], context: Context) -> Iterator[bytes]:
    rest = iter(chunks)
    head = b""
    while len(head) < _LONGEST_MARK and (chunk := next(rest, b"")):
        head += chunk
    mark, encoding = encoding_of(head)
    if encoding == "utf-8":
        yield head
        yield from rest
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in chain([head[len(mark) :]], rest):
            yield decoder.decode(chunk).encode()
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise TraceError(f"{context.path} begins as {encoding.upper()}, and is not: {error}; give UTF-8 text") from None
