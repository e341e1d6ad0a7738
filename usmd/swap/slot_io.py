"""One entry of a batch: a slot, the page's owner, and its bytes."""

from __future__ import annotations

from typing import NamedTuple


class SlotIO(NamedTuple):
    """One page to write to a slot or to read from it.

    `page` is a 64-bit key that is unique in the daemon; `process`, `page` and `generation` are each 0 to 2**64 - 1.
    `buffer` is writable, contiguous and exactly one page long: the source of a write, the target of a read.
    """

    slot: int
    process: int
    page: int
    generation: int
    buffer: memoryview
