"""Trims between two marks, after USM's conditional swap-out."""

from __future__ import annotations

from math import ceil

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Trim(ConditionalPolicy):
    """When less than the share `low` of all frames is free, pages are evicted until the share `high` is.

    That is before the watermarks act. Each process gives its part of the missing frames, in proportion to the frames
    that it has.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, low: float = 0.05, high: float = 0.10) -> None:
        if not 0 <= low <= high <= 1:
            raise InvalidArgument(f"trim(low={low:g},high={high:g}); allowed is 0 <= low <= high <= 1")
        super().__init__(memory)
        self.low = low * memory.frame_count
        self.high = high * memory.frame_count
        self.trimming = False

    def turn(self) -> Requests | None:
        """Its part of the frames missing up to `high`, once fewer than `low` are free. Leaving frames count as free."""
        memory = self.memory
        coming = memory.free_frames + memory.leaving_frames
        if coming < self.low:
            self.trimming = True
        elif coming >= self.high:
            self.trimming = False
        used = memory.frame_count - memory.free_frames
        if not self.trimming or used == 0:
            return None
        return Requests(trim=ceil((self.high - coming) * memory.resident_pages / used))
