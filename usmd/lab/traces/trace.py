"""What every trace becomes: batches of accesses as plain arrays, at most 65,536 accesses each.

Covers the batch and how runs of accesses are cut into batches. Does not cover any format (one module each) or the
numbers themselves (keys).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import msgspec

BATCH_LIMIT = 65_536


class Batch(msgspec.Struct):
    """Some accesses in the order they happened; all sequences that are not empty or None have the same length."""

    keys: array[int]
    """array('q') of page or object ids; an id of 2^63 or more appears as its two's complement, so none are mixed up."""
    writes: bytes = b""
    """One byte an access, 1 for a write and 0 for a read; empty when all are reads."""
    times: array[float] | None = None
    """array('d') of seconds, on whichever clock the trace has; None where the format tells no times."""


def cut(keys: array[int], writes: bytes = b"", times: array[float] | None = None) -> Iterator[Batch]:
    """The accesses as batches of at most BATCH_LIMIT; none when there are no accesses.

    `writes` may be empty, for reads only; `times` may be None. Where a batch has no write, its `writes` is empty.
    """
    for start in range(0, len(keys), BATCH_LIMIT):
        span = slice(start, start + BATCH_LIMIT)
        some = writes[span]
        yield Batch(keys[span], some if 1 in some else b"", None if times is None else times[span])
