"""Maps of the used swap slots, one per device, and the generations of their bytes.

A slot reference is one integer, `device << 40 | slot`, so an entry of a page table can hold it or a frame number.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from usmd.core.settings import DeviceInfo
from usmd.errors import InvalidArgument, InvalidHint, UsmdError

SLOT_BITS: Final = 40
SLOT_MASK: Final = (1 << SLOT_BITS) - 1
MAX_DEVICES: Final = 32
MAX_FAILURES: Final = 3
"""Failures in a row after which faults no longer wait for a device."""

ACTIVE: Final = 0
"""A device takes pages. The other states are true, so that one look tells."""
RETIRING: Final = 1
"""It takes no page, and those that it has are moved away."""
EMPTIED: Final = 2
"""It has no page any more, and the shell closes it."""
GONE: Final = 3
"""There is no device of this number."""
STATUSES: Final = ("active", "retiring", "closing", "gone")
"""The states for operators."""


class DeviceMap:
    """Slots of one device: one byte and a generation of 16 bits each. A search begins where the last one ended."""

    __slots__ = (
        "_cursor", "error", "failures", "free", "full", "generation", "held", "name", "number", "rests_until", "slots",
        "status", "stored_at", "unread", "used",
    )  # fmt: skip

    def __init__(self, number: int, info: DeviceInfo) -> None:
        self.number = number
        self.name = info.name
        self.slots = info.slots
        self.free = info.slots
        self.used = bytearray(info.slots)
        self.generation = array("H", [0]) * info.slots
        self.stored_at: array[float] | None = None
        """When the last page took each slot, in seconds, once a policy has asked for it: 4 bytes a slot."""
        self.held: float | None = None
        """Share of its bytes that the device holds, if that is not the share of its slots."""
        self.rests_until = 0.0
        """Time until which the device takes no writes, because one failed."""
        self.full = False
        """Whether the device had no room for a page, and no slot was freed since. It may have free slots."""
        self.failures = 0
        """Rests since the last write that succeeded."""
        self.status = ACTIVE
        self.unread = 0
        """Pages in a row that could not be read to be moved away."""
        self.error = ""
        """Why the last of them could not."""
        self._cursor = 0

    @property
    def share(self) -> float:
        """How full it is, from 0 to 1."""
        if self.full or not self.slots:
            return 1.0
        return 1 - self.free / self.slots if self.held is None else self.held

    def takes(self, now: float) -> bool:
        """Whether a page may be written to the device now."""
        return self.free > 0 and not self.full and not self.status and self.rests_until <= now

    def in_time(self) -> bool:
        """Whether a page may be written to the device now or after a rest, if a slot is free."""
        return not self.full and not self.status and self.failures < MAX_FAILURES

    def take(self, now: float) -> int:
        """Take a free slot, if possible next to the last one, with a new generation; returns its reference.

        The caller checks that `free` is not 0.
        """
        slot = self.used.find(0, self._cursor)
        if slot < 0:
            slot = self.used.find(0)
        self.used[slot] = 1
        self.free -= 1
        self._cursor = slot + 1
        self.generation[slot] = (self.generation[slot] + 1) & 0xFFFF
        if self.stored_at is not None:
            self.stored_at[slot] = now
        return self.number << SLOT_BITS | slot

    def left(self, error: UsmdError | None) -> None:
        """A page was read to be moved away, or could not be."""
        if error is None:
            self.unread = 0
        else:
            self.unread += 1
            self.error = str(error)

    def give_back(self, slot: int) -> None:
        """Make a slot free, which makes room for another page."""
        self.used[slot] = 0
        self.free += 1
        self.full = False

    def refused(self, slot: int) -> None:
        """Make a slot free whose page the device refused: `full` stays, because this makes no room."""
        self.used[slot] = 0
        self.free += 1


class SwapMap:
    """The devices, by number."""

    __slots__ = ("devices",)

    def __init__(self, devices: Sequence[DeviceInfo]) -> None:
        self.devices = [DeviceMap(number, info) for number, info in enumerate(devices)]
        """Those that are gone included, without slots."""

    def add(self, number: int, info: DeviceInfo) -> None:
        """Add a device, under a number that is free. Raises InvalidArgument."""
        if not 0 <= number < MAX_DEVICES or (number < len(self.devices) and self.devices[number].status != GONE):
            raise InvalidArgument(f"swap device {info.name}: the number {number} is not free")
        if self.number_of(info.name) is not None:
            raise InvalidArgument(f"swap device {info.name!r} exists already; give another name")
        for skipped in range(len(self.devices), number):
            self.devices.append(_gone(skipped, ""))
        self.devices[number : number + 1] = [DeviceMap(number, info)]

    def remove(self, number: int) -> None:
        """An empty device is closed: its number is free."""
        self.devices[number] = _gone(number, self.devices[number].name)

    @property
    def slots(self) -> int:
        """Slots of all devices."""
        return sum(device.slots for device in self.devices)

    @property
    def free(self) -> int:
        """Free slots of all devices."""
        return sum(device.free for device in self.devices)

    def writable(self, now: float) -> int:
        """Free slots of the devices that take writes now."""
        free = 0
        for device in self.devices:
            if device.rests_until <= now and not device.full and not device.status:
                free += device.free
        return free

    def room(self) -> int:
        """Free slots of the devices that take writes now or after a rest."""
        return sum(each.free for each in self.devices if each.in_time())

    def recovering(self, now: float) -> bool:
        """Whether a device with free slots rests, and has failed fewer than MAX_FAILURES times in a row."""
        return any(each.free and each.rests_until > now and each.in_time() for each in self.devices)

    def take(self, preferred: int | None, now: float, forbidden: int = 0) -> int | None:
        """Take a slot on the preferred device, else on the first one that takes a page; None if there is none.

        `forbidden`: devices not to use, bit n for device n.
        """
        if preferred is not None and 0 <= preferred < len(self.devices) and not forbidden >> preferred & 1:
            taken = self.take_from(preferred, now)
            if taken is not None:
                return taken
        for device in self.devices:
            if device.takes(now) and not forbidden >> device.number & 1:
                return device.take(now)
        return None

    def take_from(self, number: int, now: float) -> int | None:
        """Take a slot on this device; None if it takes no page now."""
        device = self.devices[number]
        return device.take(now) if device.takes(now) else None

    def give_back(self, reference: int) -> None:
        """Make a slot free, by reference."""
        self.devices[reference >> SLOT_BITS].give_back(reference & SLOT_MASK)

    def generation(self, reference: int) -> int:
        """Generation of the bytes in a slot, by reference."""
        return self.devices[reference >> SLOT_BITS].generation[reference & SLOT_MASK]

    def stored_at(self, reference: int, now: float) -> float:
        """When the page in a slot was stored, by reference. What the device had at the first call counts as of then."""
        device = self.devices[reference >> SLOT_BITS]
        if device.stored_at is None:
            device.stored_at = array("f", [now]) * device.slots
        return device.stored_at[reference & SLOT_MASK]

    def first(self, now: float) -> int | None:
        """Number of the first device that takes a page now; None if there is none."""
        for device in self.devices:
            if device.takes(now):
                return device.number
        return None

    def named(self, name: str) -> int:
        """Number of the device that has this name or number; raises InvalidHint."""
        number = self.number_of(name)
        if number is None:
            raise InvalidHint(f"swap device {name!r} does not exist; allowed are {self.in_words()}")
        return number

    def in_words(self) -> str:
        """The devices that there are, for an error message."""
        return ", ".join(f"{each.number} ({each.name})" for each in self.devices if each.status != GONE) or "none"

    def number_of(self, name: str) -> int | None:
        """Number of the device that has this name or number, or None."""
        for device in self.devices:
            if device.status != GONE and name in (device.name, str(device.number)):
                return device.number
        return None


def _gone(number: int, name: str) -> DeviceMap:
    """In place of a device that there is not."""
    gone = DeviceMap(number, DeviceInfo(name, 0))
    gone.status = GONE
    return gone
