"""Sampled memory accesses as `perf script` prints them, after `perf record -d` or `perf mem record`.

    app  1234  12.345678:  1 cpu/mem-stores/P:  7f0012345678 ...     the default with addr among the fields
    12.345678:  7f0012345678                                         -F time,addr
    cpu/mem-loads/P:  7f0012345678                                   -F event,addr
    7f0012345678                                                     -F addr
    app  1234  12.345678: exceptions:page_fault_user: address=0x7f0012345678 ip=0x401136 error_code=0x6

`perf_fields` finds the address of the data. An access is a write if the event's name contains "store", the data source
has OP STORE, or a fault's error code says so. The first address decides the trace's shape: timed, named or bare. Lines
of another shape, such as call chains, and samples without an address of data are skipped and counted.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from usmd.lab.traces.context import Context
from usmd.lab.traces.keys import as_keys
from usmd.lab.traces.lines import line_blocks, text_of
from usmd.lab.traces.perf_fields import EVENT, TIME, Sample, sample_after, sample_of
from usmd.lab.traces.trace import Batch, cut

_BARE = re.compile(r"\s*([0-9a-fA-F]{1,16})\s*")
_TIMED_FIELDS = re.compile(r"\s+(?:(?:[0-9]+\s+)?\S+:(?!\S)|[0-9a-fA-F]{1,16}(?!\S))")


def read_perf(chunks: Iterable[bytes], context: Context) -> Iterator[Batch]:
    """The accesses in the output of perf script; `context.skipped` counts lines without one.

    Times are seconds on perf's clock, or None if lines have none. Blank lines and comments (#) are not counted.
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
    """True if a line has a time and fields after it, or all lines are an address, or an event and an address."""
    if any((time := TIME.search(line)) and _TIMED_FIELDS.match(line, time.end()) for line in lines):
        return True
    return all(map(_BARE.fullmatch, lines)) or all(map(_named, lines))


def _shape(lines: Sequence[str]) -> Callable[[str], Sample | None] | None:
    """The parser that finds an address in the first line that has one."""
    return next((parse for line in lines for parse in (_timed, _bare, _named) if parse(line)), None)


def _timed(line: str) -> Sample | None:
    time = TIME.search(line)
    if time is None:
        return None
    sample = sample_after(line, time.end())
    return None if sample is None else sample._replace(time=float(time[1]))


def _named(line: str) -> Sample | None:
    event = EVENT.search(line)
    return sample_of(event[1], line, event.end()) if event and not TIME.search(line) else None


def _bare(line: str) -> Sample | None:
    match = _BARE.fullmatch(line)
    address = int(match[1], 16) if match else 0
    return Sample(address, write=False) if address else None
