"""Chooses the swap device of a page, here alone: by its hint, else by its evict policy, else by its process.

The slot on the device is `DeviceMap.take`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.in_flight import ANYWHERE
from usmd.core.swap_map import SLOT_BITS

if TYPE_CHECKING:
    from usmd.core.hints import Hint
    from usmd.core.region import Region
    from usmd.core.state import State


class Slots:
    """Chooses swap devices for pages, and takes slots on them."""

    __slots__ = ("_state", "_swap")

    def __init__(self, state: State) -> None:
        self._state = state
        self._swap = state.swap

    def take(self, region: Region, page: int, pfn: int, *, refused: int = 0, device: int | None = None) -> int | None:
        """Take a slot for a page in a frame; returns its reference, or None if there is no slot.

        `refused`: devices that refused the page, bit n for device n. `device`: the page migrates to this device, and
        may not take a slot of another one; ANYWHERE: it may.
        """
        if device is None or device == ANYWHERE:
            wanted = self._wanted(region, page, pfn, asks=device is None)
            return self._swap.take(wanted, self._state.now, refused)
        return None if refused >> device & 1 else self._swap.take_from(device, self._state.now)

    def _wanted(self, region: Region, page: int, pfn: int, *, asks: bool) -> int | None:
        """The preferred device. If it has no room, the first device with room takes the page.

        `asks`: ask the evict policy, which does not know of a page that is MOVING.
        """
        hint = _hint(region, page) if region.hints.ranges else None
        if hint is not None and hint.swap_device is not None:
            return self._swap.number_of(hint.swap_device)
        number = region.process.policies.swap_device(pfn) if asks else None
        return region.process.swap_device if number is None else number

    def promotes(self, region: Region, page: int) -> bool:
        """Whether a page in swap that a fault brings in is to be stored again when it goes, on the device for it.

        That is for its conditional policy to say; a page whose hint names a device stays there.
        """
        process = region.process
        if not process.policies.promotes:
            return False
        hint = _hint(region, page) if region.hints.ranges else None
        if hint is not None and hint.swap_device is not None:
            return False
        now, wanted, device = self._state.now, process.swap_device, (-region.table[page] - 1) >> SLOT_BITS
        if wanted is not None:
            return wanted != device and self._swap.devices[wanted].takes(now)
        first = self._swap.first(now)
        return first is not None and first < device

    def may_migrate(self, region: Region, page: int, device: int) -> bool:
        """Whether no hint keeps the page in memory, or on another device."""
        hint = _hint(region, page)
        if hint is None:
            return True
        return not hint.deny and (hint.swap_device is None or self._swap.number_of(hint.swap_device) == device)


def _hint(region: Region, page: int) -> Hint | None:
    """The hint in force on a page."""
    found = region.hints.find(page)
    return None if found is None else found.hint
