"""The core without bytes: what a shell would complete is complete at once. For replays, shadows and experiments.

The same state, policies, reclaim and hints as in the daemon, and the same transitions but for those that wait for a
shell: an eviction ends as it begins, and a page from swap is there when it is asked for. Touches come in runs. A page
that was never written to since it was zero-filled counts as all zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from usmd.core import events
from usmd.core.frames import DIRTY, KEPT, NO_SLOT, PRESENT, ZERO
from usmd.core.guard import ANYTHING, place, shown
from usmd.core.machine import Core
from usmd.core.page_life import Filling, PageLife
from usmd.core.page_table import ABSENT, CHUNK_BITS, CHUNK_MASK
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Process, Region
from usmd.core.state import CoreSettings, MakePolicy
from usmd.core.swap_map import DeviceInfo


class Touches(events.Event, frozen=True):
    """A run of touches of pages of one region, in order.

    `pages`: their numbers, which are in range. `writes`: a byte a touch, 1 for a write; empty: all are reads. `times`:
    a time a touch; empty: all are at the event's. `first`: the number of the first touch since the start.
    """

    process_id: int
    region_id: int
    pages: Sequence[int]
    writes: bytes = b""
    times: Sequence[float] = ()
    first: int = 0


class InstantLife(PageLife):
    """Transitions that need no shell."""

    def zero_fill(self, region: Region, page: int, prefer: int | None) -> int:
        """ABSENT → PRESENT on a free frame, which is returned."""
        state = self._state
        pfn = state.frames.take(prefer)
        self._own(region, page, pfn)
        region.process.counters.zero_fills += 1
        self._become_present(region, page, pfn, DIRTY | ZERO)
        return pfn

    def zero_fill_run(self, region: Region, first: int, count: int, pfn: int) -> None:
        """ABSENT → PRESENT for pages in a row."""
        state = self._state
        super().zero_fill_run(region, first, count, pfn)
        state.zero_fills.clear()
        state.zero_pages.clear()
        for each in range(pfn, pfn + count):
            state.frames.flags[each] |= ZERO

    def swap_in(self, region: Region, page: int, prefer: int | None, *, writable: bool = False) -> Filling | None:
        """SWAPPED → PRESENT on a free frame."""
        frames = self._state.frames
        reference = -region.table[page] - 1
        region.swapped -= 1
        pfn = frames.take(prefer)
        self._own(region, page, pfn)
        region.process.counters.swap_ins += 1
        frames.slot[pfn] = reference
        self._become_present(region, page, pfn, 0)
        if writable:
            self.dirty(pfn)
        return None

    def dirty(self, pfn: int) -> None:
        """A PRESENT page was written to."""
        super().dirty(pfn)
        self._state.frames.flags[pfn] &= ~ZERO
        self._state.discards.clear()

    def evict(self, pfn: int, policy: str, reason: str) -> None:
        """PRESENT → SWAPPED, or ABSENT where it is all zero; the frame is free."""
        state = self._state
        frames = state.frames
        key = frames.page[pfn]
        region = state.regions[key >> PAGE_BITS]
        process = region.process
        counters = process.counters
        reference = frames.slot[pfn]
        if frames.flags[pfn] & ZERO:
            result, entry = "zero", ABSENT
            counters.zero_drops += 1
        elif reference != NO_SLOT:
            result, entry = "dropped", -reference - 1
            counters.clean_drops += 1
        else:
            taken = state.swap.take(self._device_for(region, key & PAGE_MASK, pfn), state.now)
            if taken is None:
                return
            result, entry = "swapped", -taken - 1
            counters.swap_outs += 1
        if process.evictions.maxlen:
            record = EvictionRecord(key, state.now, policy, reason)
            record.result = result
            process.evictions.append(record)
        process.policies.page_evicted(pfn)
        self._count_eviction(region, key & PAGE_MASK)
        self._disown(region, pfn)
        region.table[key & PAGE_MASK] = entry
        if entry != ABSENT:
            region.swapped += 1


class InstantCore(Core):
    """A core for one process and its touches; regions, hints and policies as in any core."""

    def __init__(
        self,
        settings: CoreSettings,
        devices: Sequence[DeviceInfo],
        make_policy: MakePolicy,
        stopwatch: Callable[[], float] = float,
    ) -> None:
        """Start with all frames free."""
        super().__init__(settings, devices, make_policy, stopwatch, InstantLife)
        self._handlers[Touches] = self._touches

    def _touches(self, event: Touches) -> None:
        region = self.state.region(event.process_id, event.region_id)
        if event.writes or event.times or self.state.future is not None or region.hints.ranges:
            misses = self._any_touches(region, event)
        else:
            misses = self._plain_touches(region, event.pages)
        region.process.counters.accesses += len(event.pages) - misses

    def _plain_touches(self, region: Region, pages: Sequence[int]) -> int:
        """Reads, without times and hints; returns how many pages were missed."""
        process, chunks = region.process, region.table.chunks
        policies, given_up = process.policies, self.state.given_up
        on_access = policies.on_access
        misses = 0
        for page in pages:
            chunk = chunks[page >> CHUNK_BITS]
            if chunk is not None and (entry := chunk[page & CHUNK_MASK]) > 0:
                if on_access is not None:
                    try:
                        on_access(entry - 1, False)
                    except ANYTHING as error:  # a policy may raise anything
                        policies.broke("evict", f"page_accessed raised {shown(error)}{place(error)}")
                    if given_up:
                        self._reclaim.given_up()
            else:
                misses += 1
                self._miss(process, region, page, write=False)
        return misses

    def _any_touches(self, region: Region, event: Touches) -> int:
        """Touches of all kinds; returns how many pages were missed."""
        state, process = self.state, region.process
        flags, policies, given_up = state.frames.flags, process.policies, state.given_up
        on_access, table, writes, times = policies.on_access, region.table, event.writes, event.times
        misses = 0
        for index, page in enumerate(event.pages):
            state.touch = event.first + index
            write = bool(writes) and writes[index] != 0
            if times:
                state.now = times[index]
                if state.now >= state.hint_expiry:
                    self._mapping.expire()
            entry = table[page]
            if entry > 0:
                pfn = entry - 1
                if write and flags[pfn] & (DIRTY | ZERO) != DIRTY:
                    self.life.dirty(pfn)
                if on_access is not None and not flags[pfn] & KEPT:
                    try:
                        on_access(pfn, write)
                    except ANYTHING as error:  # a policy may raise anything
                        policies.broke("evict", f"page_accessed raised {shown(error)}{place(error)}")
                    if given_up:
                        self._reclaim.given_up()
            else:
                misses += 1
                self._miss(process, region, page, write=write)
        return misses

    def _miss(self, process: Process, region: Region, page: int, *, write: bool) -> None:
        """A touch of a page that is not present: room for it, and then what the alloc policy says."""
        frames, counters = self._frames, process.counters
        entry = region.table[page]
        counters.faults += 1
        region.faults += 1
        if entry:
            counters.major_faults += 1
            region.major_faults += 1
        else:
            counters.minor_faults += 1
        plan, _ = self.faults.ask(process, region, page, swap=entry != 0, write=write)
        if not frames.free and not self._reclaim.from_process(process, 1):
            counters.oom_refusals += 1
            return
        if plan.count != 1:
            self.faults.place(region, page, plan, writable=write)
        elif entry:
            self.life.swap_in(region, page, plan.frame, writable=write)
        else:
            self.life.zero_fill(region, page, plan.frame)
        if write and not entry:
            pfn = region.table[page] - 1
            if frames.state[pfn] == PRESENT:
                self.life.dirty(pfn)
        if frames.free < self._high:
            self._reclaim.between_marks()
