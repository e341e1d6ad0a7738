"""Records of a swap-in or an eviction under way. `State` keeps them by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.frames import NO_SLOT

if TYPE_CHECKING:
    from usmd.core.region import EvictionRecord, Region
    from usmd.core.waiters import Waiter

ANYWHERE: Final = -1
"""In place of the device to which a page is MOVING: any other one will do, because its own is retiring."""


class Filling:
    """A swap-in under way. `region` None: the region is gone, and the end of the read frees frame and slot.

    `flags`: ALONG while it is a guess on which no fault has parked, else 0.
    `writable`: the page comes in dirty, because no fault will report its first write. `yields`: whether faults that
    park on it are answered USM_YIELD; None: the alloc policy was not asked yet.
    """

    __slots__ = ("flags", "reference", "region", "waiters", "writable", "yields")

    def __init__(self, region: Region, reference: int, writable: bool) -> None:
        self.region: Region | None = region
        self.reference = reference
        self.writable = writable
        self.flags = 0
        self.yields: bool | None = None
        self.waiters: list[Waiter] = []

    def park(self, waiter: Waiter) -> None:
        """Add a waiter. The fill itself notifies the evict policy of the first waiter's touch."""
        waiter.told = not self.waiters
        if self.flags and self.region is not None:
            self.flags = 0
            self.region.count_along(used=True)
        self.waiters.append(waiter)


class Evicting:
    """An eviction under way. `ticket`: of its Protect. `reference`: its slot, once a write has begun.

    `device`: the page is MOVING to that device, or ANYWHERE; None: it is not. `refused`: devices that refused the page,
    bit n for device n.
    """

    __slots__ = ("device", "record", "reference", "refused", "region", "ticket")

    def __init__(self, region: Region, ticket: int, record: EvictionRecord, device: int | None = None) -> None:
        self.region = region
        self.ticket = ticket
        self.record = record
        self.device = device
        self.reference = NO_SLOT
        self.refused = 0
