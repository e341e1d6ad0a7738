"""Sampled memory accesses as `perf script` prints them, after `perf record -d` or `perf mem record`.

    app  1234  12.345678:  1 cpu/mem-stores/P:  7f0012345678 ...     the default with addr among the fields
    12.345678:  7f0012345678                                         -F time,addr
    cpu/mem-loads/P:  7f0012345678                                   -F event,addr
    7f0012345678                                                     -F addr

The address is the first bare hexadecimal word after the event's name, or after the time where no event is named. It is
a write where the event's name has "store" in it, or the data source says OP STORE. Which of three shapes (timed, named,
bare) a trace has is decided by its first address; lines of another shape, such as call chains, and samples without an
address, are passed over and counted. A sample has none where perf prints 0, and where the word is the instruction's,
because only a symbol and its file in parentheses follow.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import as_keys
from usmd.lab.traces.lines import line_blocks, text_of
from usmd.lab.traces.trace import Batch, cut

_TIME = re.compile(r"(?<!\S)([0-9]{1,12}\.[0-9]{1,12}):(?!\S)")
_EVENT = re.compile(r"\S+:(?!\S)")
_HEX = re.compile(r"(?<!\S)[0-9a-fA-F]{1,16}(?!\S)")
_BARE = re.compile(r"\s*([0-9a-fA-F]{1,16})\s*")
_NAMED_AND_NOTHING_ELSE = re.compile(r"\s*\S+:\s+[0-9a-fA-F]{1,16}\s*")


class Sample(NamedTuple):
    """One line that tells of an access."""

    address: int
    write: bool
    time: float = 0.0


def read_perf(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses in the output of perf script; `context.skipped` counts lines that tell of none.

    Times are seconds on perf's clock, None where lines have none. Blank lines and those that begin with # do not count.
    """
    parse = None
    for first, block in line_blocks(chunks, context):
        lines = [line for line in text_of(block, first, context).split("\n") if line and not line.isspace()]
        lines = [line for line in lines if not line.startswith("#")]
        parse = parse or _shape(lines)
        samples = [sample for line in lines if (sample := parse(line)) is not None] if parse else []
        context.skipped += len(lines) - len(samples)
        times = array("d", [sample.time for sample in samples]) if parse is _timed else None
        keys = as_keys([sample.address // context.page_size for sample in samples])
        yield from cut(keys, bytes(sample.write for sample in samples), times)


def recognised(lines: Sequence[str]) -> bool:
    """Whether some of `lines` has a time and an address, be it an instruction's, or all have only address or event."""
    if any((time := _TIME.search(line)) and _HEX.search(line, time.end()) for line in lines):
        return True
    return all(map(_BARE.fullmatch, lines)) or all(map(_NAMED_AND_NOTHING_ELSE.fullmatch, lines))


def _shape(lines: Sequence[str]) -> Callable[[str], Sample | None] | None:
    """The parser of the first line that any of them finds an address in."""
    return next((parse for line in lines for parse in (_timed, _bare, _named) if parse(line)), None)


def _timed(line: str) -> Sample | None:
    time = _TIME.search(line)
    if time is None:
        return None
    sample = _after(line, time.end())
    return None if sample is None else sample._replace(time=float(time[1]))


def _named(line: str) -> Sample | None:
    return _after(line, 0) if _EVENT.search(line) and not _TIME.search(line) else None


def _bare(line: str) -> Sample | None:
    match = _BARE.fullmatch(line)
    address = int(match[1], 16) if match else 0
    return Sample(address, write=False) if address else None


def _after(line: str, start: int) -> Sample | None:
    """The sample in what follows `start`: an event's name and an address, or an address alone."""
    event = _EVENT.search(line, start)
    word = _HEX.search(line, event.end() if event else start)
    address = int(word[0], 16) if word else 0
    if word is None or not address or _is_instruction(line, word.end()):
        return None
    name = line[start : event.end()].lower() if event else ""
    return Sample(address, write="store" in name or "|OP STORE" in line)


def _is_instruction(line: str, end: int) -> bool:
    """Whether the word before `end` is the instruction's address: a data address never is the last one there."""
    return line.rstrip().endswith(")") and not _HEX.search(line, end)
