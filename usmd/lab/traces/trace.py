"""The common form of all traces: batches of accesses as plain arrays, at most 65,536 accesses each."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import msgspec

BATCH_LIMIT = 65_536


class Batch(msgspec.Struct):
    """Accesses in their order; all sequences that are not empty or None have the same length."""

    keys: array[int]
    """array('q') of page or object ids; an id of 2^63 or more appears as its two's complement, so ids stay distinct."""
    writes: bytes = b""
    """One byte an access, 1 for a write and 0 for a read; empty if all are reads."""
    times: array[float] | None = None
    """array('d') of seconds, on the trace's own clock; None if the format has no times."""


def cut(keys: array[int], writes: bytes = b"", times: array[float] | None = None) -> Iterator[Batch]:
    """The accesses as batches of at most BATCH_LIMIT; none if there are no accesses.

    `writes` may be empty, for reads only; `times` may be None. If a batch has no write, its `writes` is empty.
    """
    for start in range(0, len(keys), BATCH_LIMIT):
        span = slice(start, start + BATCH_LIMIT)
        some = writes[span]
        yield Batch(keys[span], some if 1 in some else b"", None if times is None else times[span])
