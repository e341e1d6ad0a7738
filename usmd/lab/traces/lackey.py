"""Memory accesses as valgrind's lackey prints them (`valgrind --tool=lackey --trace-mem=yes`).

    I  04000000,3      an instruction of 3 bytes at this address
     L 1ffe,8          a load
     S 1ffe,8          a store
     M 1ffe,8          a load and a store at the same place, which is one write here

Lines of valgrind itself, which begin with == or --, are skipped. An access that crosses a page boundary becomes one
access to each page. There are no times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import repeat
from operator import add

from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import PAGES_LIMIT, touched
from usmd.lab.traces.lines import line_blocks, text_of
from usmd.lab.traces.trace import Batch

LINE = re.compile(r"^(?:I | [LSM]) [0-9a-fA-F]{1,16},[0-9]{1,12}\r?$", re.MULTILINE)
ALLOWED = (
    "lackey's I, L, S and M lines with a hex address and a decimal size, and lines that begin with ==; "
    "give valgrind --log-file to keep the program's own output apart"
)

_ONLY_ACCESSES = re.compile(r"(?>(?:I | [LSM]) [0-9a-fA-F]{1,16},[0-9]{1,12}\r?\n)*+")
_WRITES = {"I": 0, "L": 0, "S": 1, "M": 1}
_ADDRESSES = 1 << 64


def read_lackey(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses of a lackey trace. Raises TraceError for a line that is neither an access nor valgrind's own."""
    for first, block in line_blocks(chunks, context):
        text = text_of(block, first, context)
        if not _ONLY_ACCESSES.fullmatch(text):
            _check(text, first, context)
            text = "\n".join(LINE.findall(text))
        kinds, addresses, sizes = _columns(text)
        pages = [address // context.page_size for address in addresses]
        last = [(end - 1) // context.page_size for end in map(add, addresses, sizes)]
        if pages != last:
            if max(sizes) > _longest(context) or max(map(add, addresses, sizes)) > _ADDRESSES:
                _check_sizes(text_of(block, first, context), first, context)
            last = list(map(max, pages, last))  # an access of size 0 touches one page too
        yield from touched(pages, last, kinds)


def ours(line: str) -> bool:
    """True if the line is blank or valgrind's own."""
    return line.startswith(("==", "--")) or not line.strip()


def _columns(text: str) -> tuple[bytes, list[int], list[int]]:
    """Writes, addresses and sizes of lines that are all accesses."""
    words = text.replace(",", " ").split()
    sizes = words[2::3]
    size_of = {size: int(size) for size in set(sizes)}
    writes = bytes(map(_WRITES.__getitem__, words[::3]))
    return writes, list(map(int, words[1::3], repeat(16))), list(map(size_of.__getitem__, sizes))


def _longest(context: Context) -> int:
    return (PAGES_LIMIT - 1) * context.page_size


def _check(text: str, first: int, context: Context) -> None:
    for number, line in enumerate(text.split("\n"), first):
        if not LINE.fullmatch(line) and not ours(line):
            raise context.bad_line(number, line, "is not an access", ALLOWED)


def _check_sizes(text: str, first: int, context: Context) -> None:
    """Raise TraceError for the first access that is too long or ends beyond 64 bits."""
    for number, line in enumerate(text.split("\n"), first):
        if not LINE.fullmatch(line):
            continue
        _, (address,), (size,) = _columns(line)
        if address + size > _ADDRESSES or size > _longest(context):
            allowed = f"an access within 64 bits of addresses and at most {PAGES_LIMIT - 1:,} pages long"
            raise context.bad_line(number, line, "is too long", allowed)
