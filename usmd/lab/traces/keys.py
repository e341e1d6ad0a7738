"""Ids and addresses as text and as numbers, and the pages that an access touches."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress

from xxhash import xxh3_64_intdigest

from usmd.lab.traces.trace import BATCH_LIMIT, Batch, cut

PAGES_LIMIT = 65_536
"""Most pages that one access may touch; a larger size is taken for damage."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,16}")


def as_keys(values: Sequence[int]) -> array[int]:
    """The ids as array('q'), those of 2^63 and more as two's complement. Raises OverflowError beyond 64 bits."""
    for typecode in "qQ":
        with suppress(OverflowError):
            return array("q", array(typecode, values).tobytes())
    return array("q", [value - (1 << 64) if 1 << 63 <= value < 1 << 64 else value for value in values])


def parse_integer(text: str) -> int | None:
    """The 64-bit number that `text` is in decimal or 0x hex; None if it is not one."""
    if not text or text[0] not in "-0123456789":
        return None
    if _INTEGER.fullmatch(text):
        value = int(text)
        return value if -(1 << 63) <= value < 1 << 64 else None
    return int(text, 16) if _HEX.fullmatch(text) else None


def hashed(text: str) -> int:
    """A key of 63 bits for an id that is not a number."""
    return xxh3_64_intdigest(text.encode()) >> 1


def touched(
    first: Sequence[int], last: Sequence[int], writes: bytes, times: array[float] | None = None
) -> Iterator[Batch]:
    """Batches in which access n touches pages first[n] to last[n], in ascending order, one access per page.

    `writes` may be empty, for reads only. Nothing is checked; callers keep last - first below PAGES_LIMIT.
    """
    if first == last:
        yield from cut(as_keys(first), writes, times)
        return
    keys: list[int] = []
    kinds = bytearray()
    moments = None if times is None else array("d")
    done = 0
    for n in [n for n, (start, end) in enumerate(zip(first, last, strict=True)) if start != end]:
        pages = range(first[n], last[n] + 1)
        keys += first[done:n]
        keys += pages
        kinds += writes[done:n] + writes[n : n + 1] * len(pages)
        if times is not None and moments is not None:
            moments.extend(times[done:n])
            moments.extend([times[n]] * len(pages))
        done = n + 1
        if len(keys) >= BATCH_LIMIT:
            yield from cut(as_keys(keys), bytes(kinds), moments)
            keys, kinds, moments = [], bytearray(), None if moments is None else array("d")
    keys += first[done:]
    kinds += writes[done:]
    if times is not None and moments is not None:
        moments.extend(times[done:])
    yield from cut(as_keys(keys), bytes(kinds), moments)
