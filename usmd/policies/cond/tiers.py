"""Swap devices as tiers in their order, after the kernel's zswap, whose shrinker writes the oldest pages to disk."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from math import ceil

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests
from usmd.core.view import MemoryView, TierView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Tiers(ConditionalPolicy):
    """When more than the share `high` of a swap device is full, its oldest pages go to the next one, until `low` is.

    With `after` above 0, so do pages that have been on a device for as many seconds.

    What is evicted goes to the first device with room, so the devices are tiers in the order of the configuration:
    fast ones first. The last one is never lowered. With `promote`, a page that a fault brings in from a later device is
    stored on the first again when it is evicted. Each process gives its part of what must go. Each turn (0.1 s) moves
    at most `batch` pages, within memory.demotion_rate. The policy remembers each page in swap, in about 200 bytes.
    """

    heeds = NO_HINTS

    def __init__(
        self,
        memory: MemoryView,
        high: float = 0.9,
        low: float = 0.8,
        after: float = 0.0,
        batch: int = 256,
        promote: bool = True,
    ) -> None:
        if not 0 <= low <= high <= 1 or after < 0 or batch < 1:
            raise InvalidArgument(
                f"tiers(high={high:g},low={low:g},after={after:g},batch={batch}); allowed are 0 <= low <= high <= 1, "
                "after from 0, and batch from 1"
            )
        super().__init__(memory)
        self.high = high
        self.low = low
        self.after = after
        self.batch = batch
        self.promote = promote
        self.pages: dict[int, OrderedDict[int, None]] = {}
        """Pages by device; the one stored first is first."""
        self.lowering: set[int] = set()
        """Devices that were above the high mark, and are not at the low one yet."""
        self.asked: list[tuple[int, int]] = []
        """Device and page of each move that the last turn requested."""

    @property
    def promotes(self) -> bool:
        """As `promote` says."""
        return self.promote

    def page_swapped(self, page: int, device: int) -> None:
        """The page is the last one that was stored on the device."""
        self.page_returned(page)
        self.pages.setdefault(device, OrderedDict())[page] = None

    def page_returned(self, page: int) -> None:
        """Forget the page."""
        for pages in self.pages.values():
            pages.pop(page, None)

    def turn(self) -> Requests | None:
        """The oldest pages of each device that is to give some; the lowest device first, which makes room below."""
        for device, page in self.asked:  # it stayed, for example because a hint keeps it there: others' turn
            if page in self.pages[device]:
                self.pages[device].move_to_end(page)
        self.asked.clear()
        room = min(self.batch, self.memory.movable_pages)
        moves: list[tuple[int, int]] = []
        tiers = self.memory.swap_tiers()
        for index in range(len(tiers) - 2, -1, -1):
            tier, below = tiers[index], self._below(tiers[index + 1 :])
            pages = self.pages.get(tier.number)
            if pages and below is not None and room > len(moves):
                self._choose(moves, pages, tier, below, room)
        return Requests(demote=moves) if moves else None

    def _below(self, tiers: list[TierView]) -> int | None:
        """The number of the first device below that is not to give pages itself; None if there is none."""
        for tier in tiers:
            if tier.takes and (tier.share < self.high or tier is tiers[-1]):
                return tier.number
        return None

    def _choose(
        self, moves: list[tuple[int, int]], pages: OrderedDict[int, None], tier: TierView, below: int, room: int
    ) -> None:
        """Add moves of a device's oldest pages, up to `room` in all."""
        if tier.share > self.high:
            self.lowering.add(tier.number)
        elif tier.share <= self.low:
            self.lowering.discard(tier.number)
        excess = 0
        if tier.number in self.lowering:
            excess = ceil(len(pages) * (tier.share - self.low) / tier.share)
        for count, page in enumerate(islice(pages, room - len(moves))):
            if count >= excess and not self._is_old(page):
                return
            moves.append((page, below))
            self.asked.append((tier.number, page))

    def _is_old(self, page: int) -> bool:
        since = self.memory.stored_since(page) if self.after > 0 else None
        return since is not None and self.memory.now - since >= self.after
