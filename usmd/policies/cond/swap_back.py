"""Swaps pages in when memory is free again, after USM's conditional swap-in."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class SwapBack(ConditionalPolicy):
    """While more than the share `free` of all frames is free, pages are brought back, the last swapped ones first.

    Each turn (0.1 s) brings back at most `batch` pages. The policy remembers the last `remember` pages in swap, in
    about 200 bytes each. Together with `trim`, `free` must be greater than trim's `high`, else pages move in and out
    for ever.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, free: float = 0.2, batch: int = 64, remember: int = 262_144) -> None:
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
        """Pages in swap, the last swapped one last."""

    def page_swapped(self, page: int, device: int) -> None:
        """Remember the page as the last swapped one; a page that only moved to another device keeps its place."""
        del device
        self.swapped.setdefault(page)
        if len(self.swapped) > self.remember:
            self.swapped.popitem(last=False)

    def page_returned(self, page: int) -> None:
        """Forget the page."""
        self.swapped.pop(page, None)

    def turn(self) -> Requests | None:
        """As many pages as there are free frames above the mark."""
        room = min(self.batch, int(self.memory.free_frames - self.mark))
        return Requests(swap_in=tuple(islice(reversed(self.swapped), room))) if room > 0 and self.swapped else None
