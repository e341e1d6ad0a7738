"""Swap devices that come and go while the core runs.

A device that is retiring takes no page. Deferred work goes over all page tables, in parts: a page in swap moves
ANYWHERE (see `Migration`), and one in memory gives its slot up. What was on its way meanwhile is found by the next
pass. Once no slot is in use, the shell closes the device. Fruitless passes end the retirement if
pages cannot be read, or if there is no room for them: they stay where they are, and the device takes pages again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from usmd.core.commands import RetirementEnded
from usmd.core.frames import NO_SLOT, PRESENT
from usmd.core.in_flight import ANYWHERE
from usmd.core.settings import DeviceInfo
from usmd.core.swap_map import ACTIVE, EMPTIED, RETIRING, SLOT_BITS, DeviceMap
from usmd.core.victims import LOW_WATERMARK
from usmd.core.work import Kind, Progress, Work, one_by_one
from usmd.errors import InvalidArgument, LimitExceeded, SwapIOError, UsmdError
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.events import AddDevice, CancelRetirement, DeviceClosed, RetireDevice
    from usmd.core.migration import Migration
    from usmd.core.page_life import PageLife
    from usmd.core.pages_left import Steps
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process, Region
    from usmd.core.state import State

MOST_MOVING = 64
"""Pages that are MOVING at a time: enough to keep two devices at work."""
MAX_UNREAD = 128
"""Pages in a row that cannot be read after which a retirement ends."""
PASS_SECONDS: Final = 0.1
"""Least time between two passes; twice as long after each that was fruitless, up to LONGEST_PAUSE."""
LONGEST_PAUSE: Final = 3.2
FRUITLESS: Final = 3
"""Passes in a row without a page that left, after which it is asked why."""
BLOCKED_SECONDS: Final = 1.0
"""Time that a pass waits for a frame for one page, before it goes on with the others."""
_ENTRIES: Final = 8
"""Pages looked up at a time, which bounds a step to some hundred entries of a table."""


class Retirement:
    """Adds devices, and empties those that are retiring. `of`: their numbers, and the pages that each had then."""

    def __init__(
        self, state: State, life: PageLife, migration: Migration, placement: Placement, reclaim: Reclaim
    ) -> None:
        self._state = state
        self._swap = state.swap
        self._life = life
        self._migration = migration
        self._placement = placement
        self._reclaim = reclaim
        self.of: dict[int, int] = {}
        self._under_way = False
        self._begun = 0
        """Pages that began to move in this pass."""

    def add(self, event: AddDevice) -> None:
        """A device takes pages from now on. Raises InvalidArgument."""
        self._swap.add(event.number, DeviceInfo(event.name, event.slots))

    def check(self, numbers: Collection[int], in_memory: int, more: int = 0) -> None:
        """Raise LimitExceeded unless other devices and memory have room for all pages of these devices.

        `in_memory`: pages of theirs that are in memory too, and so need no room. `more`: slots about to be added.
        """
        state, devices = self._state, self._swap.devices
        own = [devices[number] for number in numbers]
        pages = max(sum(each.slots - each.free for each in own) - in_memory, 0)
        slots = sum(each.free for each in devices if each.in_time() and each.number not in numbers)
        room = max(slots + more - self._life.unwritten, 0) + max(state.frames.free - state.settings.high, 0)
        if pages > room:
            names = ", ".join(each.name for each in own)
            raise LimitExceeded(
                f"swap device {names}: {self._size(pages)} are to be moved away, the other devices and memory have "
                f"room for {self._size(room)}, so {self._size(pages - room)} are lacking; add a device first, or end "
                "sessions"
            )

    def begin(self, event: RetireDevice) -> None:
        """Begin to move the pages of a device away. Raises InvalidArgument if it is not one that takes pages."""
        device = self._device(event.number, ACTIVE, "in use")
        device.status = RETIRING
        device.left(None)
        device.error = ""
        self.of[event.number] = device.slots - device.free
        if not self._under_way:
            self._under_way = True
            self._state.work.add(Work(Kind.RETIRE, steps=self._passes()))

    def cancel(self, event: CancelRetirement) -> None:
        """End a retirement. Raises InvalidArgument if the device is not retiring."""
        self._device(event.number, RETIRING, "retiring").status = ACTIVE
        del self.of[event.number]

    def closed(self, event: DeviceClosed) -> None:
        """The number of a device is free. Raises InvalidArgument if it was not emptied."""
        self._device(event.number, EMPTIED, "empty and closing")
        self._swap.remove(event.number)
        for process in self._state.processes.values():
            if process.swap_device == event.number:
                process.swap_device = None

    def _device(self, number: int, status: int, what: str) -> DeviceMap:
        if not 0 <= number < len(self._swap.devices) or self._swap.devices[number].status != status:
            raise InvalidArgument(f"swap device {number} is not {what}")
        return self._swap.devices[number]

    def _size(self, pages: int) -> str:
        return f"{pages} pages ({format_size(pages * self._state.settings.page_size)})"

    # The work

    def part(self, work: Work, most: int) -> tuple[int, Progress]:
        """Do a part; devices without a page are done with, whatever became of their pages."""
        self._end_empty()
        done = one_by_one(work, most)
        self._end_empty()
        return done

    def _end_empty(self) -> None:
        for number in list(self.of):
            device = self._swap.devices[number]
            if device.free == device.slots:
                self._end(device, None)

    def _end(self, device: DeviceMap, error: UsmdError | None) -> None:
        device.status = EMPTIED if error is None else ACTIVE
        del self.of[device.number]
        self._state.last.append(RetirementEnded(device.number, error))

    def _left(self) -> int:
        """Pages that the devices still have."""
        devices = self._swap.devices
        return sum(devices[number].slots - devices[number].free for number in self.of)

    def _passes(self) -> Steps:
        state, nowhere = self._state, 0
        while self.of:
            before, begun, self._begun = self._left(), state.now, 0
            yield from self._pass()
            while self.of and self._in_flight() and state.now < begun + LONGEST_PAUSE:
                yield False
            nowhere = nowhere + 1 if self._left() >= before else 0
            if nowhere >= FRUITLESS and not self._in_flight():
                self._give_up()
            pause = min(PASS_SECONDS * 2**nowhere, LONGEST_PAUSE)
            while self.of and state.now < begun + pause:
                yield False
        self._under_way = False

    def _in_flight(self) -> int:
        """Pages that are MOVING."""
        return len(self._state.arriving) + self._life.moving

    def _pass(self) -> Steps:
        for process in list(self._state.processes.values()):
            for region in list(process.regions.values()):
                next_page = 0
                while next_page < region.page_count and region.gone is None and self.of:
                    entries, next_page = region.table.part(next_page, region.page_count, _ENTRIES)
                    for page, _ in entries:
                        yield from self._leave(region, page)
                    yield True

    def _leave(self, region: Region, page: int) -> Steps:
        """Begin to move a page, if it is on such a device; nothing if it cannot be moved now."""
        entry = region.table[page]
        if entry > 0:
            frames, pfn = self._state.frames, entry - 1
            if frames.state[pfn] == PRESENT and frames.slot[pfn] != NO_SLOT and self._is_leaving(frames.slot[pfn]):
                self._life.give_up_slot(pfn)
                yield True
            return
        until = self._state.now + BLOCKED_SECONDS
        while region.gone is None and region.table[page] == entry < 0 and self._is_leaving(-entry - 1):
            device = self._swap.devices[(-entry - 1) >> SLOT_BITS]
            if device.unread >= MAX_UNREAD:
                self._end(device, SwapIOError(f"{MAX_UNREAD} pages in a row cannot be read: {device.error}"))
            elif not self._has_room():
                return
            elif self._has_frame(region.process):
                self._migration.begin(region, page, ANYWHERE)
                self._begun += 1
                yield True
            elif self._state.now >= until and not self._in_flight():
                return
            else:
                yield False

    def _is_leaving(self, reference: int) -> bool:
        return reference >> SLOT_BITS in self.of

    def _has_room(self) -> bool:
        """Whether a page could go to another device, or stay in memory."""
        state = self._state
        slots = self._swap.writable(state.now) - self._life.unwritten - len(state.arriving)
        return slots > 0 or state.frames.free - len(state.arriving) > state.settings.high

    def _has_frame(self, process: Process) -> bool:
        """Whether a page of a process may move now; if it is for a frame that it may not, one is made free."""
        state, life = self._state, self._life
        if self._in_flight() >= MOST_MOVING:
            return False
        if self._placement.spare(state.settings.low // 2) <= 0:
            if not (self._placement.waiting or life.evicting or state.arriving):
                self._reclaim.slots.use(None, swap=True)
                self._reclaim.evict(1, LOW_WATERMARK)
            return False
        if state.budgets.room(process, swap=True) <= 0:
            if process.lent:
                return False
            state.budgets.lend(process)
        return True

    def _give_up(self) -> None:
        """Passes were fruitless: end the retirements that are so for a reason that stays."""
        for number in list(self.of):
            device = self._swap.devices[number]
            if device.unread:
                self._end(device, SwapIOError(device.error))
        if not self.of or self._swap.recovering(self._state.now):
            return
        try:
            self.check(list(self.of), 0)
        except LimitExceeded as lacking:
            error = lacking
        else:
            if not self._begun:
                return  # such as for want of a frame, which may be free later
            error = LimitExceeded("no other device takes its pages, and memory has no room; add a device first")
        for number in list(self.of):
            self._end(self._swap.devices[number], error)
