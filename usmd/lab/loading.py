"""A trace in memory, ready for any number of replays: page numbers, writes and times as plain arrays.

Page numbers begin near 0 and keep the order of the trace's ids, so that a range of ids is a range of pages. If ids are
addresses or page numbers, neighbours stay neighbours; if they are scattered over 64 bits (keys of objects), they are
packed. An access takes 4 bytes, 5 with writes, and 8 more with times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable

import msgspec

from usmd.lab.traces.reading import OpenTrace
from usmd.lab.traces.trace import Batch

BLOCK_BITS = 9
"""Page numbers are assigned in blocks of 512, the largest huge page."""
SPARE = 64
"""Most page numbers per used page that may be spent to keep neighbours together."""
MAX_PAGES = 1 << 31


class Numbering(msgspec.Struct, frozen=True):
    """Maps ids to page numbers: `firsts[i]` is the lowest id of a group of `1 << bits` neighbours, ascending."""

    firsts: array[int]
    bits: int

    @property
    def pages(self) -> int:
        """Number of page numbers."""
        return len(self.firsts) << self.bits

    def identity(self, page: int) -> int:
        """The id of a page."""
        return self.firsts[page >> self.bits] + (page & ((1 << self.bits) - 1))

    def page_from(self, identity: int) -> int:
        """The first page whose id is `identity` or more."""
        group = bisect_left(self.firsts, ((identity >> self.bits) << self.bits) + 1) - 1
        if group >= 0 and identity < self.firsts[group] + (1 << self.bits):
            return (group << self.bits) + identity - self.firsts[group]
        return (group + 1) << self.bits


class Trace(msgspec.Struct, frozen=True):
    """A trace of `len(pages)` accesses to `distinct` of `page_count` pages.

    `pages`: array('I') of page numbers. `writes`: one byte an access, 1 for a write; empty if all are reads. `times`:
    array('d') of non-decreasing seconds from 0, or None. `numbering` maps the trace's ids to page numbers.
    """

    name: str
    format: str
    pages: array[int]
    page_count: int
    distinct: int
    writes: bytes
    times: array[float] | None
    numbering: Numbering

    def __len__(self) -> int:
        return len(self.pages)


def load(source: OpenTrace, progress: Callable[[], None] = lambda: None) -> Trace:
    """Read a whole trace; `progress` is called after each batch. Raises TraceError if it cannot be read."""

    def batches() -> Iterable[Batch]:
        for batch in source:
            yield batch
            progress()

    return gather(batches(), source.name, lambda: source.format)


def gather(batches: Iterable[Batch], name: str, form: Callable[[], str]) -> Trace:
    """Join batches to one trace. `form` returns the trace's format, once all are read."""
    keys = array("q")
    writes = bytearray()
    times = array("d")
    timed = True
    for batch in batches:
        if batch.writes and not any(writes):
            writes = bytearray(len(keys))
        if batch.writes:
            writes += batch.writes
        elif writes:
            writes += bytes(len(batch.keys))
        keys.extend(batch.keys)
        timed = timed and batch.times is not None
        if timed and batch.times is not None:
            times.extend(batch.times)
    distinct = set(keys)
    numbering = number(distinct)
    return Trace(
        name=name,
        format=form(),
        pages=_page_numbers(keys, distinct, numbering),
        page_count=numbering.pages,
        distinct=len(distinct),
        writes=bytes(writes),
        times=_from_zero(times) if timed else None,
        numbering=numbering,
    )


def number(ids: set[int]) -> Numbering:
    """Page numbers for these ids: in blocks if that spends few numbers, else without gaps."""
    blocks = {identity >> BLOCK_BITS for identity in ids}
    lowest, highest = min(blocks, default=0), max(blocks, default=0)
    room = min(SPARE * len(ids) + (1 << BLOCK_BITS), MAX_PAGES) >> BLOCK_BITS
    if highest - lowest < room:
        kept: Iterable[int] = range(lowest, highest + 1)
    elif len(blocks) <= room:
        kept = sorted(blocks)
    else:
        return Numbering(array("q", sorted(ids)), 0)
    return Numbering(array("q", [block << BLOCK_BITS for block in kept]), BLOCK_BITS)


def _page_numbers(keys: array[int], distinct: set[int], numbering: Numbering) -> array[int]:
    page_of = {identity: numbering.page_from(identity) for identity in distinct}
    return array("I", map(page_of.__getitem__, keys))


def _from_zero(times: array[float]) -> array[float]:
    """Seconds from the first, made non-decreasing (some traces have times out of order)."""
    latest = start = times[0] if times else 0.0
    found = array("d")
    for time in times:
        latest = max(latest, time)
        found.append(latest - start)
    return found
