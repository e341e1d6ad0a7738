"""Records of what is under way with a frame: a swap-in, or an eviction. `State` keeps them, by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import NO_SLOT

if TYPE_CHECKING:
    from usmd.core.region import EvictionRecord, Region
    from usmd.core.waiters import Waiter


class Filling:
    """A swap-in under way. `region` is None once the region has gone: the frame and the slot are freed at the end.

    `writable`: the page comes in for a write, which nobody will report again. `yields`: whether faults that park on it
    are answered USM_YIELD; None: no fault has asked.
    """

    __slots__ = ("reference", "region", "waiters", "writable", "yields")

    def __init__(self, region: Region, reference: int, *, writable: bool) -> None:
        self.region: Region | None = region
        self.reference = reference
        self.writable = writable
        self.yields: bool | None = None
        self.waiters: list[Waiter] = []

    def park(self, waiter: Waiter) -> None:
        """Have a waiter hear of the end; the touch of the first is the fill, of which the evict policy hears."""
        waiter.told = not self.waiters
        self.waiters.append(waiter)


class Evicting:
    """An eviction under way: the ticket of its Protect, and the slot once a write began.

    `device`: the page is MOVING to that device, and this is the second half. `refused`: devices that refused the page,
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
