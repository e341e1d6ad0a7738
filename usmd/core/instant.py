"""The core without bytes: what a shell would complete is complete at once. For replays, shadows and experiments.

The same state, policies, reclaim and hints as in the daemon, and the same transitions but for those that wait for a
shell: an eviction ends as it begins, and a page from swap is there when it is asked for. Touches come in runs. A page
that was never written to since it was zero-filled counts as all zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat

from usmd.core import events
from usmd.core.fence import ANYTHING
from usmd.core.frames import DIRTY, KEPT, NO_SLOT, PRESENT, ZERO
from usmd.core.in_flight import Filling
from usmd.core.ladder import FILLED, SWAPPED, count_faults
from usmd.core.machine import Core
from usmd.core.page_life import PageLife
from usmd.core.page_table import ABSENT, CHUNK_BITS, CHUNK_MASK
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Process, Region
from usmd.core.rights import NORMAL
from usmd.core.state import MAX_FRAMES, CoreSettings
from usmd.core.swap_map import DeviceInfo
from usmd.core.view import MakePolicy


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
            taken = self.slots.take(region, key & PAGE_MASK, pfn)
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

    hinted_at_once = MAX_FRAMES

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
        process = region.process
        plain = not (event.times or region.hints.ranges or process.unevictable or process.pinned)
        plain = plain and process.touches is None
        if plain and self.state.future is None and process.policies.single_page and self._high == 0:
            misses = self._plain_touches(region, event.pages, event.writes)
        else:
            misses = self._any_touches(region, event)
        process.counters.accesses += len(event.pages) - misses

    def _plain_touches(self, region: Region, pages: Sequence[int], writes: bytes) -> int:
        """Touches without times, hints and pages beside the missed one; returns how many pages were missed."""
        process, chunks = region.process, region.table.chunks
        policies, forced, frames = process.policies, self.state.forced_victims, self._frames
        all_flags = frames.flags
        on_access = policies.on_access
        exchange, count = self._exchange(process, region)
        misses = 0
        try:
            for page, write in zip(pages, map(bool, writes) if writes else repeat(False), strict=False):
                chunk = chunks[page >> CHUNK_BITS]
                if chunk is not None and (entry := chunk[page & CHUNK_MASK]) > 0:
                    if write and all_flags[entry - 1] & (DIRTY | ZERO) != DIRTY:
                        self.life.dirty(entry - 1)
                    if on_access is not None:
                        try:
                            on_access(entry - 1, write)
                        except ANYTHING as error:  # a policy may raise anything
                            policies.raised("evict", "page_accessed", error)
                        if forced:
                            self.reclaim.evict_forced()
                else:
                    misses += 1
                    if frames.free or exchange is None:
                        self._miss(process, region, page, write=write)
                    else:
                        exchange(page, write)
        finally:  # also when a run is ended from outside
            count()
        return misses

    def _exchange(
        self, process: Process, region: Region
    ) -> tuple[Callable[[int, bool], None] | None, Callable[[], None]]:
        """What most misses in full memory come to, without detours: one page goes, and one takes its frame.

        The first function does the same as `_miss` for a page, and takes that way where there is more to do than usual.
        None: there always is, because evictions are put on record, or no evict policy hears of pages. The second counts
        at the end of a run what the first did.
        """
        policies = process.policies
        on_miss, on_evict, on_fill, first_victim = (
            policies.on_miss, policies.on_evict, policies.on_fill, policies.first_victim,
        )  # fmt: skip
        if process.evictions.maxlen or on_evict is None or on_fill is None:
            return None, lambda: None
        frames, counters = self._frames, process.counters
        states, all_flags, keys, slots = frames.state, frames.flags, frames.page, frames.slot
        table, first_key, region_id, end = region.table, region.first_key, region.region_id, frames.count
        chunks = table.chunks
        take_slot, free_slot = self.life.slots.take, self.life.free_slot
        discards = self.state.discards
        usual, dirty = DIRTY | ZERO | NORMAL, DIRTY | NORMAL
        minor = major = zero_drops = clean_drops = swap_outs = 0

        def exchange(page: int, write: bool) -> None:
            nonlocal minor, major, zero_drops, clean_drops, swap_outs
            if on_miss is not None:
                try:
                    on_miss(first_key + page)
                except ANYTHING as error:  # a policy may raise anything
                    policies.raised("evict", "page_missed", error)
            pfn = first_victim()
            if not 0 <= pfn < end or states[pfn] != PRESENT:
                return self._slow_exchange(process, region, page, pfn, write=write)
            key, flags, reference = keys[pfn], all_flags[pfn], slots[pfn]
            if flags not in (usual, dirty, NORMAL) or key >> PAGE_BITS != region_id:
                return self._slow_exchange(process, region, page, pfn, write=write)
            old = key & PAGE_MASK
            if flags == dirty:
                taken = take_slot(region, old, pfn)
                if taken is None:
                    return self._slow_exchange(process, region, page, pfn, write=write)
                reference = taken
                swap_outs += 1
            elif flags == usual:
                zero_drops += 1
            else:
                clean_drops += 1
            try:
                on_evict(pfn)
            except ANYTHING as error:  # a policy may raise anything
                policies.raised("evict", "page_evicted", error)
            if flags == usual:
                chunks[old >> CHUNK_BITS][old & CHUNK_MASK] = ABSENT  # type: ignore[index]
            else:
                region.swapped += 1
                chunks[old >> CHUNK_BITS][old & CHUNK_MASK] = -reference - 1  # type: ignore[index]
            entry = table[page]
            if entry:
                major += 1
                region.swapped -= 1
                if write:
                    free_slot(-entry - 1)
                    discards.clear()
                slots[pfn] = NO_SLOT if write else -entry - 1
                all_flags[pfn] = dirty if write else NORMAL
            else:
                minor += 1
                slots[pfn] = NO_SLOT
                all_flags[pfn] = dirty if write else usual
            keys[pfn] = first_key + page
            table[page] = pfn + 1
            try:
                on_fill(pfn)
            except ANYTHING as error:  # a policy may raise anything
                policies.raised("evict", "page_filled", error)

        def count() -> None:
            count_faults(region, minor=minor, major=major)
            counters.zero_fills += minor
            counters.swap_ins += major
            counters.zero_drops += zero_drops
            counters.clean_drops += clean_drops
            counters.swap_outs += swap_outs
            counters.evictions += minor + major
            region.evictions += minor + major

        return exchange, count

    def _any_touches(self, region: Region, event: Touches) -> int:
        """Touches of all kinds; returns how many pages were missed."""
        state, process = self.state, region.process
        flags, policies, forced = state.frames.flags, process.policies, state.forced_victims
        table, writes, times = region.table, event.writes, event.times
        misses = 0
        for index, page in enumerate(event.pages):
            state.touch = event.first + index
            write = bool(writes) and writes[index] != 0
            if times:
                state.now = times[index]
                if state.now >= state.hint_expiry:
                    self._hinting.expire()
            entry = table[page]
            if entry > 0:
                pfn = entry - 1
                if write and flags[pfn] & (DIRTY | ZERO) != DIRTY:
                    self.life.dirty(pfn)
                if process.touches is not None:
                    process.touches.extend((region.first_key + page, write))
                if not flags[pfn] & KEPT:
                    policies.page_accessed(pfn, write=write)
                    if forced:
                        self.reclaim.evict_forced()
            else:
                misses += 1
                self._miss(process, region, page, write=write)
        return misses

    def _slow_exchange(self, process: Process, region: Region, page: int, named: int, *, write: bool) -> None:
        """The same by the longer way, when the policy has heard of the miss already, and named a victim."""
        self.reclaim.take(process, named)
        self._miss(process, region, page, write=write, missed=True)

    def _miss(self, process: Process, region: Region, page: int, *, write: bool, missed: bool = False) -> None:
        """A touch of a page that is not present: what the alloc policy says of it, and room for that.

        `missed`: the evict policy has heard of it already.
        """
        frames = self._frames
        found, pfn, plan, _ = self._ladder.resolve(region, page, write, missed)
        if found != FILLED:
            if not frames.free and not self.reclaim.from_process(process, 1):
                process.counters.oom_refusals += 1
                return
            if plan.count != 1:
                self._placement.begin_batch()
            self._placement.place(region, page, plan, writable=write)
            pfn = region.table[page] - 1
        if process.touches is not None:
            self._holds.count_touch(process, pfn, write=write, told=True)
        if write and found != SWAPPED and frames.state[pfn] == PRESENT:
            self.life.dirty(pfn)
        if frames.free < self._high:
            self.reclaim.between_marks()
        if frames.free >= self._high:
            self.reclaim.reclaiming = False
