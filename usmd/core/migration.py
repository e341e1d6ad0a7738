"""Migration of a page from one swap device to another: SWAPPED → MOVING → SWAPPED on the other device.

A page whose device is retiring moves ANYWHERE: to any other device, or to memory if none takes it.

The frame of a MOVING page is FILLING, then EVICTING. The page keeps its slot until it is written to the new one. So a
fault parks on it or retakes it, as any page that comes in or goes. If the read or the write fails, or there is no slot,
the page stays where it was. The evict policy is notified of such a page only if it is retaken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from usmd.core.frames import FILLING, NO_PAGE, PRIORITY_MASK, PRIORITY_SHIFT
from usmd.core.in_flight import ANYWHERE, Evicting
from usmd.core.region import PAGE_MASK, EvictionRecord
from usmd.core.rights import NORMAL
from usmd.core.swap_map import SLOT_BITS
from usmd.errors import Unmapped

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Region
    from usmd.core.state import State
    from usmd.errors import UsmdError

RETIREMENT: Final = "retirement"
"""In place of the policy, in the record of a page whose device is retiring."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Migration:
    """Moves pages between swap devices. `arriving`: frame → device, for pages whose read is under way."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.arriving: dict[int, int] = state.arriving

    def begin(self, region: Region, page: int, device: int) -> None:
        """SWAPPED → MOVING on a free frame, towards another device, or ANYWHERE."""
        if self._life.swap_in(region, page, None, moves=True) is not None:
            self.arriving[region.table[page] - 1] = device

    def arrived(self, pfn: int, error: UsmdError | None) -> None:
        """The read of a MOVING page ended. Its write follows, unless the read failed or the page must stay."""
        state = self._state
        device = self.arriving.pop(pfn)
        key = state.frames.page[pfn]
        region = self._life.filling[pfn].region
        if device == ANYWHERE:
            source = state.swap.devices[self._life.filling[pfn].reference >> SLOT_BITS]
            source.left(None if isinstance(error, Unmapped) else error)
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
        if device == ANYWHERE:
            policy, reason = RETIREMENT, "its swap device is being retired"
        else:
            policy = region.process.policies.specifications["cond"]
            reason = f"demoted to swap device {state.swap.devices[device].name}"
        record = EvictionRecord(key, state.now, policy, reason)
        self._life.begin_eviction(pfn, Evicting(region, state.next_ticket, record, device))

    def under_way(self, pfn: int) -> bool:
        """Whether the page in a frame is FILLING or MOVING, so that it has not returned from swap yet."""
        return self._state.frames.state[pfn] == FILLING or self._life.moves(pfn)
