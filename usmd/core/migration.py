"""Migration of a page from one swap device to another: `Migration.begin` is the way in.

SWAPPED → FILLING → EVICTING → SWAPPED on the other device. The page keeps its slot until it is written to the new one.
A fault in between finds it as it would find any page that comes in or goes, and parks or retakes; when the read, the
write or the room fails, the page is where it was. The evict policy hears of such a page only if it is retaken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import EVICTING, FILLING, NO_PAGE, PRIORITY_MASK, PRIORITY_SHIFT
from usmd.core.in_flight import Evicting
from usmd.core.region import PAGE_MASK, EvictionRecord
from usmd.core.rights import NORMAL

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Region
    from usmd.core.state import State
    from usmd.errors import UsmdError


class Migration:
    """Moves pages between swap devices. `arriving`: device by frame, of pages whose read is under way."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.arriving: dict[int, int] = state.arriving

    def begin(self, region: Region, page: int, device: int) -> None:
        """SWAPPED → FILLING on a free frame, on the way to another device."""
        if self._life.swap_in(region, page, None) is not None:
            self.arriving[region.table[page] - 1] = device

    def arrived(self, pfn: int, error: UsmdError | None) -> None:
        """The read of a page ended: FILLING → EVICTING, unless it failed or the page shall stay in memory by now."""
        state = self._state
        device = self.arriving.pop(pfn)
        key = state.frames.page[pfn]
        region = self._life.filling[pfn].region
        if error is not None or region is None or key == NO_PAGE or self._life.filling[pfn].waiters:
            self._life.filled(pfn, error)
            return
        found = region.hints.find(key & PAGE_MASK)
        if found is not None and found.hint.deny:
            self._life.filled(pfn, None)
            return
        frames = state.frames
        frames.slot[pfn] = self._life.filling.pop(pfn).reference
        frames.flags[pfn] = NORMAL if found is None else found.hint.priority << PRIORITY_SHIFT & PRIORITY_MASK
        policy = region.process.policies.specifications["cond"]
        record = EvictionRecord(key, state.now, policy, f"demoted to swap device {state.swap.devices[device].name}")
        self._life.begin_eviction(pfn, Evicting(region, state.next_ticket, record, device))

    def under_way(self, pfn: int) -> bool:
        """Whether the page in a frame comes in, or migrates: it has not returned from swap yet."""
        now_is = self._state.frames.state[pfn]
        return now_is == FILLING or (now_is == EVICTING and self._life.evicting[pfn].device is not None)
