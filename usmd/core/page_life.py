"""The life of a page: its transitions between ABSENT, FILLING, PRESENT, EVICTING, MOVING and SWAPPED.

`transitions` is a table of all, with those of `migration`. `ladder`, `placement`, `reclaim`, `background_reclaim`,
`hinting`, `pins` and `release` decide when one happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from usmd.core.columns import count_up_wide, put_wide
from usmd.core.frames import (
    ALONG,
    DIRTY,
    END_OF,
    ENDS_CLEAN,
    ENDS_ZERO,
    EVICTING,
    FILLING,
    HELD,
    KEPT,
    NO_SLOT,
    PINNED,
    PRESENT,
    PRIORITY_MASK,
    PRIORITY_SHIFT,
    RESULTS,
    UNEVICTABLE,
    ZERO,
)
from usmd.core.in_flight import ANYWHERE, Evicting, Filling
from usmd.core.page_steps import PageSteps
from usmd.core.page_table import ABSENT
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Region
from usmd.core.rights import NORMAL
from usmd.core.slots import Slots
from usmd.core.swap_map import SLOT_BITS, SLOT_MASK
from usmd.errors import NoRoom, Refused, Unmapped, UsmdError

if TYPE_CHECKING:
    from usmd.core.state import State


@mypyc_attr(allow_interpreted_subclasses=True)
class PageLife(PageSteps):
    """Performs transitions on the state and queues the commands that make them true."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.slots = Slots(state)
        self.filling = state.filling
        self.writing: dict[int, int | None] = {}
        """Slot reference → frame whose write is under way; None: free the slot when it ends."""

    # Into memory

    def zero_fill(self, region: Region, page: int, prefer: int | None) -> int:
        """ABSENT → PRESENT on a free frame; returns the frame."""
        state = self._state
        pfn = state.frames.take(prefer)
        state.zero_fills.append(pfn)
        state.zero_pages.append(region.first_key + page)
        self._enter(region, page, pfn, DIRTY)
        return pfn

    def zero_fill_pages(self, region: Region, pages: list[int]) -> Sequence[int]:
        """ABSENT → PRESENT for pages of a region without hints, on neighbouring frames if there are any.

        Returns the frames, in the order of the pages; there are as many free ones.
        """
        state, frames, first_key = self._state, self._state.frames, region.first_key
        pfn = frames.find_run(len(pages))
        if pfn is None:
            return [self.zero_fill(region, page, None) for page in pages]
        found = range(pfn, pfn + len(pages))
        keys = [first_key + page for page in pages]
        frames.take_run(pfn, len(pages), PRESENT)
        put_wide(frames.page, pfn, keys)
        region.table.set_pages(pages, pfn + 1)
        self._run_entered(region, found, NORMAL)
        state.zero_runs.append((found, keys))
        region.process.policies.pages_filled(found)
        return found

    def zero_fill_run(self, region: Region, first: int, count: int, pfn: int) -> None:
        """ABSENT → PRESENT for consecutive pages on consecutive free frames. All have the same hint, without DENY."""
        state = self._state
        frames, process = state.frames, region.process
        key, end = region.first_key + first, pfn + count
        frames.take_run(pfn, count, PRESENT)
        count_up_wide(frames.page, pfn, end, key)
        region.table.set_run(first, count, pfn + 1)
        self._run_entered(region, range(pfn, end), self._rights(region, first) if region.hints.ranges else NORMAL)
        state.zero_runs.append((range(pfn, end), range(key, key + count)))
        process.policies.pages_filled(range(pfn, end))

    def swap_in(
        self, region: Region, page: int, prefer: int | None, *, writable: bool = False, moves: bool = False
    ) -> Filling | None:
        """SWAPPED → FILLING on a free frame. `writable`: for a real write, so the page comes in dirty.

        `moves`: only on its way to another device.
        """
        state = self._state
        reference = -region.table[page] - 1
        region.swapped -= 1
        pfn = state.frames.take(prefer)
        self._own(region, page, pfn)
        region.process.counters.swap_ins += 1
        state.reads.append(self._slot_page(reference, pfn, region, page, writable, moves))
        filling = self.filling[pfn] = Filling(region, reference, writable)
        return filling

    def filled(self, pfn: int, error: UsmdError | None) -> None:
        """A swap-in ended: FILLING → PRESENT; if it failed, → SWAPPED, and the waiters get the error."""
        state = self._state
        frames = state.frames
        filling = self.filling.pop(pfn)
        region = filling.region
        if region is not None and (region.unmapped is not None or region.process.ended is not None):
            self._detach(filling, pfn, region, region.gone)
            region = None
        if region is None:
            frames.give_back(pfn)
            self.free_slot(filling.reference)
            return
        page = frames.page[pfn] & PAGE_MASK
        if error is None:
            frames.slot[pfn] = filling.reference
            self._become_present(region, page, pfn, filling.flags)
            if filling.writable:
                self.dirty(pfn)
            elif state.budgets.full:
                state.budgets.came_in_clean(region.process, pfn)
            if region.process.policies.on_returned is not None:
                self._returned(region, page)
        else:
            self._returned(region, page)
            self._disown(region, pfn)
            region.table[page] = -filling.reference - 1
            region.swapped += 1
            if not isinstance(error, Unmapped):  # the client unmapped it: not a failure of the device
                self._read_failed(region, page, error)
        waiters = filling.waiters
        if len(waiters) == 1:  # the usual case
            waiters[0].came(error)
        elif waiters:
            state.waits.end(waiters, error)

    # Out of memory

    def evict(self, pfn: int, policy: str, reason: str) -> None:
        """PRESENT → EVICTING, for an evictable frame. `protected` decides how the eviction ends.

        A clean page is SWAPPED at once: it is write-protected already, so its bytes are those in its slot. If a thread
        has still to be woken for it, it is EVICTING first, because the wake must come before its bytes leave.
        """
        state = self._state
        frames = state.frames
        key = frames.page[pfn]
        region = state.regions[key >> PAGE_BITS]
        if frames.flags[pfn] & HELD:
            self.end_hold(pfn)
        record = EvictionRecord(key, state.now, policy, reason)
        if not frames.flags[pfn] & DIRTY and key not in state.restores and key not in state.wakes:
            self._drop(pfn, region, record)
            return
        if frames.slot[pfn] == NO_SLOT:
            state.budgets.charge(region, 1)
        region.process.policies.page_evicted(pfn)
        self.begin_eviction(pfn, Evicting(region, state.next_ticket, record))

    def moves(self, pfn: int) -> bool:
        """Whether the page in a frame is MOVING, on its way from one swap device to another."""
        evicting = self.evicting.get(pfn)
        return pfn in self._state.arriving or (evicting is not None and evicting.device is not None)

    def begin_eviction(self, pfn: int, evicting: Evicting) -> None:
        """Begin an eviction, or the second half of a migration: make the frame's bytes stable."""
        state = self._state
        state.frames.state[pfn] = EVICTING
        evicting.region.process.evictions.append(evicting.record)
        self.evicting[pfn] = evicting
        evicting.region.process.leaving += 1
        self.unwritten += 1
        self.moving += evicting.device is not None
        state.protects.append(pfn)
        state.protect_pages.append(state.frames.page[pfn])

    def protected(self, ticket: int, pfn: int, zero: bool | None) -> None:
        """The bytes of a frame under eviction are stable: drop them, or begin their write. Ignores a retaken frame.

        `zero`: whether they are all zero; None: they cannot be made stable now, so the page stays.
        """
        evicting = self.evicting.get(pfn)
        if evicting is None or evicting.ticket != ticket or evicting.reference != NO_SLOT:
            return
        state = self._state
        frames = state.frames
        region = evicting.region
        reference = frames.slot[pfn]
        end = END_OF[frames.flags[pfn] | ZERO if zero else frames.flags[pfn]]
        if region.unmapped is not None or region.process.ended is not None:
            self.discard(region, frames.page[pfn] & PAGE_MASK, pfn + 1)
        elif zero is None:
            self._restore(pfn, "cannot be protected")
        elif end == ENDS_ZERO:
            if reference != NO_SLOT:
                self.free_slot(reference)
            region.process.counters.count_end(end)
            self._gone(pfn, ABSENT, RESULTS[end])
        elif end == ENDS_CLEAN and evicting.device is None:
            region.process.counters.count_end(end)
            self._gone(pfn, -reference - 1, RESULTS[end])
        elif not self._write(evicting, pfn):
            self._not_written(pfn, "no swap slot")

    def _write(self, evicting: Evicting, pfn: int) -> bool:
        """Begin to write a frame to a slot; False if there is no slot for it."""
        region, page = evicting.region, self._state.frames.page[pfn] & PAGE_MASK
        reference = self.slots.take(region, page, pfn, refused=evicting.refused, device=evicting.device)
        if reference is None:
            return False
        evicting.reference = reference
        self.unwritten -= 1
        self.writing[reference] = pfn
        self._state.writes.append(self._slot_page(reference, pfn, region, page))
        return True

    def _not_written(self, pfn: int, result: str, *, failed: bool = False) -> bool:
        """An eviction ends without a write: the page stays in memory (True), or in its old slot (False).

        `failed`: a write failed. Else no device takes the page: if its own is retiring, it stays in memory if it may.
        """
        frames = self._state.frames
        reference = frames.slot[pfn]
        if reference == NO_SLOT:
            self._restore(pfn, result)
            return True
        evicting = self.evicting[pfn]
        process = evicting.region.process
        spare = frames.free > self._state.settings.high and process.resident <= process.memory_max
        if evicting.device == ANYWHERE and spare and not failed:
            self._restore(pfn, "back in memory")
            self.give_up_slot(pfn)
            return True
        self._gone(pfn, -reference - 1, result)
        return False

    def written(self, reference: int, error: UsmdError | None) -> int | None:
        """A write ended: EVICTING → SWAPPED, or PRESENT if it failed; MOVING → SWAPPED, in the old slot if it failed.

        A page that the device refused is written to the next one. Returns the frame of a page that stays in memory
        because every device refused it, else None.
        """
        state = self._state
        pfn = self.writing.pop(reference)
        if pfn is not None:
            region = self.evicting[pfn].region
            if region.unmapped is not None or region.process.ended is not None:
                self.discard(region, state.frames.page[pfn] & PAGE_MASK, pfn + 1)
                del self.writing[reference]
                pfn = None
        if error is not None:
            if isinstance(error, Refused):
                return self._refused(reference, pfn, error)
            self._write_failed(state.swap.devices[reference >> SLOT_BITS], error)
        if pfn is None:
            self.free_slot(reference)
            return None
        process = self.evicting[pfn].region.process
        before = state.frames.slot[pfn]
        if error is None:
            process.counters.swap_outs += 1
            state.swap.devices[reference >> SLOT_BITS].failures = 0
            if before == NO_SLOT:
                result = "swapped"
            elif self.evicting[pfn].device == ANYWHERE:
                result = "moved"
            else:
                result = "demoted"
                process.counters.demotions += 1
            if before != NO_SLOT:
                self.free_slot(before)
            self._gone(pfn, -reference - 1, result)
        else:
            process.counters.swap_write_errors += 1
            self.free_slot(reference)
            self._not_written(pfn, "write failed", failed=True)
        return None

    def _refused(self, reference: int, pfn: int | None, error: Refused) -> int | None:
        """The device refused the page: write it to the next device. Returns as `written` does."""
        state = self._state
        number = reference >> SLOT_BITS
        device = state.swap.devices[number]
        device.refused(reference & SLOT_MASK)
        device.full = device.full or isinstance(error, NoRoom)
        if pfn is None:
            return None
        evicting = self.evicting[pfn]
        evicting.refused |= 1 << number
        evicting.reference = NO_SLOT
        self.unwritten += 1
        stays = not self._write(evicting, pfn) and self._not_written(pfn, "refused")
        return pfn if stays else None

    def retake(self, pfn: int) -> None:
        """EVICTING or MOVING → PRESENT: cancel the eviction, as the bytes are still in the frame (USM's *retaken*)."""
        evicting = self.evicting[pfn]
        if evicting.reference != NO_SLOT:
            self.writing[evicting.reference] = None
        elif evicting.ticket == self._state.next_ticket:  # its Protect is still queued, and must not follow this
            index = self._state.protects.index(pfn)
            del self._state.protects[index], self._state.protect_pages[index]
        evicting.region.process.counters.retaken += 1
        self._restore(pfn, "retaken")

    def discard(self, region: Region, page: int, entry: int) -> None:
        """A page whose region is gone, or whose bytes its process gave up, → ABSENT. `entry`: its page table entry.

        Frees its frame and slot. If a swap-in or a write is under way, they become free when that ends.
        """
        frames = self._state.frames
        pfn = entry - 1
        if entry < 0:
            region.swapped -= 1
            self.free_slot(-entry - 1)
            self._returned(region, page)
        elif frames.state[pfn] == FILLING:
            self._detach(self.filling[pfn], pfn, region, region.gone)
            return
        elif frames.state[pfn] == EVICTING:
            evicting = self._end_eviction(pfn, "unmapped")
            if evicting.reference != NO_SLOT:
                self.writing[evicting.reference] = None
        elif not frames.flags[pfn] & KEPT:
            region.process.policies.page_left(pfn)
        if entry > 0:
            if frames.slot[pfn] != NO_SLOT:
                self.free_slot(frames.slot[pfn])
            self._disown(region, pfn)
        region.table[page] = ABSENT

    def _detach(self, filling: Filling, pfn: int, region: Region, reason: UsmdError | None) -> None:
        """Detach a swap-in from its region, which is gone; its waiters get the reason."""
        page = self._state.frames.page[pfn] & PAGE_MASK
        waiters, filling.waiters, filling.region = filling.waiters, [], None
        self._returned(region, page)
        self._disown(region, pfn, give_back=False)
        region.table[page] = ABSENT
        self._state.waits.end(waiters, reason)

    def settle(self, pfn: int) -> bool:
        """Bring a page in line with the hint in force on it, if deferred work has not done so yet.

        Returns whether that changed its rights.
        """
        key = self._state.frames.page[pfn]
        region, page = self._state.regions[key >> PAGE_BITS], key & PAGE_MASK
        tasks = [each for each in region.unsettled if each.covers(page)]
        if not tasks:
            return False
        before = self._state.frames.flags[pfn]
        over_budget = not self.apply_hint(region, page, pfn)
        for each in tasks:
            each.settled.add(page)
            each.over_budget += over_budget
        return self._state.frames.flags[pfn] != before

    def apply_hint(self, region: Region, page: int, pfn: int) -> bool:
        """Bring a page with a frame in line with the hint in force; False if it asks for DENY beyond the budget."""
        frames = self._state.frames
        if frames.state[pfn] == FILLING:
            return True
        found = region.hints.find(page)
        wants_deny = found is not None and found.hint.deny
        if wants_deny and frames.state[pfn] == EVICTING:
            self.retake(pfn)
        before = frames.flags[pfn]
        self._end_unevictable(region, before)
        rights = self._rights(region, page)
        policies = region.process.policies
        after = before & (DIRTY | HELD | PINNED | ZERO | ALONG) | rights
        known = frames.state[pfn] == PRESENT and not before & KEPT
        if known and after & KEPT:
            policies.page_left(pfn)
        frames.flags[pfn] = after
        if known and not after & KEPT:
            policies.hint_changed(pfn, (before & PRIORITY_MASK) >> PRIORITY_SHIFT)
        elif frames.state[pfn] == PRESENT and before & KEPT and not after & KEPT:
            policies.page_filled(pfn)
        return bool(rights & UNEVICTABLE) or not wants_deny
