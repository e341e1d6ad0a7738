"""The steps of a page's transitions: each updates one count or record, or queues one command."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from usmd.core.commands import SlotPage
from usmd.core.frames import (
    ALONG,
    DIRTY,
    ENDS_CLEAN,
    FILLING,
    HELD,
    KEPT,
    NO_PAGE,
    NO_SLOT,
    PRESENT,
    RESULTS,
    UNEVICTABLE,
)
from usmd.core.page_table import ABSENT, CHUNK_BITS, CHUNK_MASK
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Region
from usmd.core.rights import NORMAL, Rights
from usmd.core.swap_map import SLOT_BITS, DeviceMap
from usmd.errors import UsmdError

if TYPE_CHECKING:
    from usmd.core.in_flight import Evicting
    from usmd.core.state import State


@mypyc_attr(allow_interpreted_subclasses=True)
class PageSteps(Rights):
    """The base of `PageLife`, which alone calls the steps that change the state of a page."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        frames = state.frames
        self._states, self._flags, self._pages, self._filled = frames.state, frames.flags, frames.page, frames.filled
        self.evicting = state.evicting
        self.unwritten = 0
        """Evictions under way that have no slot yet, and may need one."""
        self.moving = 0
        """Evictions under way of pages that are MOVING."""

    def free_slot(self, reference: int) -> None:
        """Free a slot, by reference."""
        self._state.swap.give_back(reference)
        self._state.discards.append(reference)

    def restore(self, pfn: int) -> None:
        """Wake the threads that wait for a PRESENT page; they may write to it if it is dirty."""
        frames = self._state.frames
        self._state.restores[frames.page[pfn]] = bool(frames.flags[pfn] & DIRTY)

    def dirty(self, pfn: int) -> None:
        """A PRESENT page was, or may now be, written to: free its slot."""
        frames = self._state.frames
        frames.flags[pfn] |= DIRTY
        reference = frames.slot[pfn]
        if reference != NO_SLOT:
            frames.slot[pfn] = NO_SLOT
            self.free_slot(reference)
            self._state.budgets.charge(self._state.regions[frames.page[pfn] >> PAGE_BITS], -1)

    def give_up_slot(self, pfn: int) -> None:
        """Free the slot of a PRESENT page, whose device is retiring: its bytes are in memory alone from now on."""
        self.dirty(pfn)
        self.restore(pfn)

    def came_along(self, region: Region, page: int) -> None:
        """A page has a frame because of a fault on another page, or of WILLNEED: no touch of it is known yet."""
        state, pfn = self._state, region.table[page] - 1
        region.along += 1
        if state.frames.state[pfn] == FILLING:
            state.filling[pfn].flags = ALONG
        else:
            state.frames.flags[pfn] |= ALONG

    def run_came_along(self, region: Region, first: int, count: int, besides: int) -> None:
        """As `came_along` for PRESENT pages with one hint, or none, on any frames, but for the page `besides`."""
        flags, table = self._state.frames.flags, region.table
        pfn = table[first] - 1
        if table[first + count - 1] == pfn + count:  # one run of frames
            flags[pfn : pfn + count] = bytes((flags[pfn] | ALONG,)) * count
        else:
            for page in range(first, first + count):
                flags[table[page] - 1] |= ALONG
        region.along += count
        if first <= besides < first + count:
            flags[table[besides] - 1] &= ~ALONG
            region.along -= 1

    def used(self, pfn: int) -> None:
        """A page that came along is touched."""
        frames = self._state.frames
        frames.flags[pfn] &= ~ALONG
        self._state.regions[frames.page[pfn] >> PAGE_BITS].count_along(used=True)

    def _own(self, region: Region, page: int, pfn: int) -> int:
        """Put a page into a frame; returns its key."""
        key = self._state.frames.page[pfn] = region.first_key + page
        region.table[page] = pfn + 1
        region.resident += 1
        region.process.resident += 1
        sampling = region.process.sampling
        if sampling is not None and sampling.came(pfn):
            self._state.wants_samples(region.process)
        return key

    def _enter(self, region: Region, page: int, pfn: int, dirty: int) -> None:
        """ABSENT → PRESENT: `_own` and `_become_present` in one call, for the hot path."""
        state, process = self._state, region.process
        self._pages[pfn] = region.first_key + page
        chunk = region.table.chunks[page >> CHUNK_BITS]
        if chunk is None:
            region.table[page] = pfn + 1
        else:
            chunk[page & CHUNK_MASK] = pfn + 1
        region.resident += 1
        process.resident += 1
        process.counters.zero_fills += 1
        sampling = process.sampling
        if sampling is not None and sampling.came(pfn):
            state.wants_samples(process)
        self._filled[pfn] = state.now
        self._states[pfn] = PRESENT
        rights = self._rights(region, page) if region.hints.ranges else NORMAL
        self._flags[pfn] = dirty | rights
        if not rights & UNEVICTABLE:
            process.policies.page_filled(pfn)

    def _run_entered(self, region: Region, found: range, rights: int) -> None:
        """Dirty pages with these rights have come into a run of frames. The caller then notifies the evict policy."""
        state, process, count = self._state, region.process, len(found)
        frames = state.frames
        frames.filled[found.start : found.stop] = array("f", [state.now]) * count
        frames.flags[found.start : found.stop] = bytes((DIRTY | rights,)) * count
        region.resident += count
        process.resident += count
        process.counters.zero_fills += count
        if process.sampling is not None and process.sampling.run_came(found):
            state.wants_samples(process)

    def _disown(self, region: Region, pfn: int, *, give_back: bool = True) -> None:
        state = self._state
        if state.frames.flags[pfn] & (KEPT | HELD):
            self._end_rights(region, pfn)
        sampling = region.process.sampling
        if sampling is not None:
            sampling.mapped.discard(pfn)
        region.resident -= 1
        if region.unmapped is None and region.process.ended is None:
            region.process.resident -= 1
        else:
            state.dying_frames -= 1
        if give_back:
            state.frames.give_back(pfn)
        else:
            state.frames.page[pfn] = NO_PAGE

    def _become_present(self, region: Region, page: int, pfn: int, dirty: int) -> None:
        frames = self._state.frames
        rights = self._rights(region, page) if region.hints.ranges else NORMAL
        frames.flags[pfn] = dirty | rights
        frames.filled[pfn] = self._state.now
        frames.state[pfn] = PRESENT
        if not rights & UNEVICTABLE:
            region.process.policies.page_filled(pfn)

    def _drop(self, pfn: int, region: Region, record: EvictionRecord) -> None:
        """PRESENT → SWAPPED, for a clean page."""
        process, page = region.process, record.page & PAGE_MASK
        record.result = RESULTS[ENDS_CLEAN]
        process.evictions.append(record)
        process.policies.page_evicted(pfn)
        process.counters.count_end(ENDS_CLEAN)
        self._count_eviction(region, page, pfn)
        self._state.releases.append(record.page)
        reference = self._state.frames.slot[pfn]
        self._disown(region, pfn)
        self._in_swap(region, page, reference)

    def _in_swap(self, region: Region, page: int, reference: int) -> None:
        region.table[page] = -reference - 1
        region.swapped += 1
        if region.process.policies.on_swapped is not None:
            region.process.policies.page_swapped(region.first_key + page, reference >> SLOT_BITS)

    def _returned(self, region: Region, page: int) -> None:
        """Notify the conditional policy that a page is no longer in swap, or cannot be read from there."""
        if region.process.policies.on_returned is not None:
            region.process.policies.page_returned(region.first_key + page)

    def _count_eviction(self, region: Region, page: int, pfn: int, *, zero: bool = False) -> None:
        """`zero`: its bytes were all zero. A page that came along was used if bytes of it are new."""
        flags = self._state.frames.flags[pfn]
        if flags & ALONG:
            region.count_along(used=flags & DIRTY > 0 and not zero)
        region.evictions += 1
        region.process.counters.evictions += 1
        if region.hints.ranges:
            found = region.hints.find(page)
            if found is not None:
                found.effects.evictions += 1

    def _slot_page(
        self, reference: int, pfn: int, region: Region, page: int, writable: bool = False, moves: bool = False
    ) -> SlotPage:
        generation = self._state.swap.generation(reference)
        return SlotPage(reference, pfn, region.process.process_id, region.first_key + page, generation, writable, moves)

    def _read_failed(self, region: Region, page: int, error: UsmdError) -> None:
        region.process.counters.swap_read_errors += 1
        self._state.notice(
            "swap_error",
            region.process.process_id,
            f"page {page} of region {region.region_id} cannot be read from swap: {error}",
            {"region_id": str(region.region_id), "page": str(page), "operation": "read"},
        )

    def _write_failed(self, device: DeviceMap, error: UsmdError) -> None:
        """Let a device rest after a failed write; reported once a rest."""
        state = self._state
        if device.rests_until <= state.now:
            device.failures += 1
            state.notice(
                "swap_error",
                0,
                f"swap device {device.name} cannot be written: {error}; pages stay in memory meanwhile",
                {"device": device.name, "operation": "write", "failures": str(device.failures)},
            )
        device.rests_until = state.now + state.settings.write_backoff

    def _end_eviction(self, pfn: int, result: str, *, in_swap: bool = False) -> Evicting:
        evicting = self.evicting.pop(pfn)
        evicting.region.process.leaving -= 1
        evicting.record.result = result
        if evicting.reference == NO_SLOT:
            self.unwritten -= 1
        self.moving -= evicting.device is not None
        if evicting.device is not None and not in_swap:
            self._returned(evicting.region, self._state.frames.page[pfn] & PAGE_MASK)
        return evicting

    def _gone(self, pfn: int, entry: int, result: str) -> None:
        state = self._state
        evicting = self._end_eviction(pfn, result, in_swap=entry != ABSENT)
        region = evicting.region
        key = state.frames.page[pfn]
        page = key & PAGE_MASK
        state.releases.append(key)
        if evicting.device is None:
            self._count_eviction(region, page, pfn, zero=entry == ABSENT)
        self._disown(region, pfn)
        if entry == ABSENT:
            state.budgets.charge(region, -1)
            region.table.clear(page)
        else:
            self._in_swap(region, page, -entry - 1)

    def _restore(self, pfn: int, result: str) -> None:
        evicting = self._end_eviction(pfn, result)
        if self._state.frames.slot[pfn] == NO_SLOT:
            self._state.budgets.charge(evicting.region, -1)
        self._state.frames.state[pfn] = PRESENT
        self.restore(pfn)
        evicting.region.process.policies.page_filled(pfn)
