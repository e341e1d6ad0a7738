r"""Text traces as blocks of whole lines, so that a format looks at many lines at once and still can number each.

Covers cutting, counting and UTF-8. A line ends with \n; a \r before it is the format's to strip. Does not cover what
a line means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from usmd.errors import TraceError
from usmd.lab.traces.context import Context

LINE_LIMIT = 1 << 20
"""Most bytes in a line; a longer one is no text."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(chunks: Iterable[bytes], context: Context) -> Iterator[tuple[int, bytes]]:
    r"""Number of its first line, from 1, and the block: whole lines, each with its \n, which the last one gets too.

    A byte order mark at the very beginning is dropped. Raises TraceError for a line longer than LINE_LIMIT.
    """
    number = 1
    tail = b""
    for chunk in _unmarked(chunks):
        end = chunk.rfind(b"\n") + 1
        if end:
            block = tail + chunk[:end]
            tail = chunk[end:]
            yield number, block
            number += block.count(b"\n")
        else:
            tail += chunk
        if len(tail) > LINE_LIMIT:
            value = tail[:100].decode(errors="replace")
            raise context.bad_line(number, value, "begins a line without end", f"at most {LINE_LIMIT:,} bytes a line")
    if tail:
        yield number, tail + b"\n"


def text_of(block: bytes, first: int, context: Context) -> str:
    """The block as text; raises TraceError, with the line, for what is not UTF-8. `first` numbers its first line."""
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        raise not_text(block, error, first, context) from None


def not_text(block: bytes, error: UnicodeDecodeError, first: int, context: Context) -> TraceError:
    """The error for a block that is not UTF-8, shown from the beginning of the line that is wrong."""
    start = block.rfind(b"\n", 0, error.start) + 1
    value = block[start : start + 100].decode(errors="backslashreplace")
    return context.bad_line(first + block.count(b"\n", 0, error.start), value, "is not UTF-8", "UTF-8 text")


def _unmarked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    head = b""
    started = False
    for chunk in chunks:
        if started:
            yield chunk
            continue
        head += chunk
        if len(head) >= len(_BYTE_ORDER_MARK):
            started = True
            yield head.removeprefix(_BYTE_ORDER_MARK)
    if not started:
        yield head
