"""The queues of all swap devices, by number: each command's pages go to the queues of their slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from usmd.core import commands
from usmd.core.swap_map import SLOT_BITS, SLOT_MASK, SwapMap
from usmd.server.device_queue import DeviceQueue
from usmd.swap.base import SwapDevice

LEAST_CHANGE: Final = 0.01
"""Of the share of a device that is held, for the core to hear of it."""
_T = TypeVar("_T")


class DeviceQueues:
    """Queues that `make` makes for devices. `failed` gets a command that one of them could not take, and why.

    `live`: all of them, by number.
    """

    def __init__(
        self, make: Callable[[SwapDevice], DeviceQueue], failed: Callable[[commands.Command, Exception], object]
    ) -> None:
        self._make = make
        self._failed = failed
        self._by_number: dict[int, DeviceQueue] = {}
        self.live: list[DeviceQueue] = []
        self._shares: dict[int, float] = {}
        """What `shares` returned last, by number."""

    def add(self, device: SwapDevice) -> None:
        """Make the queue of a device, before the core hears of it."""
        self._by_number[device.number] = self._make(device)
        self._changed()

    def of(self, number: int) -> DeviceQueue:
        """The queue of a device."""
        return self._by_number[number]

    def remove(self, number: int) -> None:
        """Forget a device, of which the core has no slot, and which is closed."""
        del self._by_number[number]
        self._shares.pop(number, None)
        self._changed()

    def _changed(self) -> None:
        self.live[:] = [self._by_number[number] for number in sorted(self._by_number)]

    @property
    def capacity(self) -> int:
        """Bytes that the devices may hold."""
        return sum(queue.device.usage(0).capacity for queue in self.live)

    def shares(self, swap: SwapMap) -> list[tuple[int, float]]:
        """(device, share of its bytes that it holds), where that has changed by a hundredth since the last call.

        Only of devices whose bytes are not those of their used slots, as one that compresses.
        """
        changed: list[tuple[int, float]] = []
        for queue in self.live:
            device = queue.device
            if type(device).usage is SwapDevice.usage:
                continue
            slots = swap.devices[device.number]
            usage = device.usage(slots.slots - slots.free)
            share = min(usage.held / usage.capacity, 1.0) if usage.capacity else 1.0
            if abs(share - self._shares.get(device.number, -1.0)) >= LEAST_CHANGE:
                self._shares[device.number] = share
                changed.append((device.number, share))
        return changed

    def write(self, command: commands.WriteSlots) -> None:
        """Begin writes. Those that a queue cannot take have failed; other devices' pages are under way."""
        for queue, pages in self._divided(command.pages, lambda page: page.slot):
            try:
                queue.write(pages)
            except Exception as error:  # noqa: BLE001 - logged and reported
                self._failed(commands.WriteSlots(pages), error)

    def read(self, command: commands.ReadSlots) -> None:
        """Begin reads, as `write`."""
        for queue, pages in self._divided(command.pages, lambda page: page.slot):
            try:
                queue.read(pages)
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(commands.ReadSlots(pages), error)

    def discard(self, command: commands.DiscardSlots) -> None:
        """Empty slots."""
        for queue, references in self._divided(command.slots, lambda reference: reference):
            queue.device.discard([reference & SLOT_MASK for reference in references])

    def regions_gone(self, region_ids: Sequence[int]) -> None:
        """Nothing waits for reads of these regions any more."""
        for queue in self.live:
            queue.regions_gone(region_ids)

    def look(self, now: float) -> None:
        """Give up late jobs."""
        for queue in self.live:
            queue.look(now)

    async def close(self) -> bool:
        """Wait for the devices, and close them; returns whether a late job of one still uses memory."""
        for queue in list(self.live):
            await queue.close()
        return any(queue.hangs for queue in self.live)

    def _divided(
        self, items: Sequence[_T], reference_of: Callable[[_T], int]
    ) -> Iterable[tuple[DeviceQueue, Sequence[_T]]]:
        """Items grouped by the device of their slot reference, in their order."""
        if len(self.live) == 1:
            return ((self.live[0], items),)
        found: dict[int, list[_T]] = {}
        for item in items:
            found.setdefault(reference_of(item) >> SLOT_BITS, []).append(item)
        return [(self._by_number[number], each) for number, each in found.items()]
