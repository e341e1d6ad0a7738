"""Swap back in when memory is free again, after USM's conditional swap-in."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


class SwapBack(ConditionalPolicy):
    """While more than the share `free` of all frames is free, pages come back, the most recently swapped ones first.

    `batch` pages in a turn, a tenth of a second. Of the pages in swap it knows the last `remember`, at about 200 bytes
    each. Beside `trim` its `free` must be more than that one's `high`, or pages go and come for ever.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, free: float = 0.2, batch: int = 64, remember: int = 1 << 18) -> None:
        if not 0 <= free <= 1 or batch < 1 or remember < 1:
            raise InvalidArgument(
                f"swap_back(free={free:g},batch={batch},remember={remember}); allowed are free from 0 to 1, and batch "
                "and remember from 1"
            )
        super().__init__(memory)
        self.mark = free * memory.frame_count
        self.batch = batch
        self.remember = remember
        self.swapped: OrderedDict[int, None] = OrderedDict()
        """Pages in swap; the last one went last."""

    def page_swapped(self, page: int, device: int) -> None:
        """It is the most recent one; one that was only moved to another device stays where it was in the order."""
        del device
        self.swapped.setdefault(page)
        if len(self.swapped) > self.remember:
            self.swapped.popitem(last=False)

    def page_returned(self, page: int) -> None:
        """No more of it."""
        self.swapped.pop(page, None)

    def turn(self) -> Requests | None:
        """As many pages as there are frames above the mark."""
        room = min(self.batch, int(self.memory.free_frames - self.mark))
        return Requests(swap_in=tuple(islice(reversed(self.swapped), room))) if room > 0 and self.swapped else None
