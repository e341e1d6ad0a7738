"""The core without bytes, for replays, shadows and experiments: nothing waits for a shell.

State, policies, reclaim and hints are those of the daemon. So are the transitions, except that an eviction ends when it
begins, and a page from swap is present at once. Touches come in runs. A page counts as all zero until its first write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from mypy_extensions import mypyc_attr

from usmd.core.fence import ANYTHING
from usmd.core.frames import (
    DIRTY,
    END_OF,
    ENDS_CLEAN,
    ENDS_WRITTEN,
    ENDS_ZERO,
    KEPT,
    NO_SLOT,
    PRESENT,
    RESULTS,
    ZERO,
)
from usmd.core.in_flight import Filling
from usmd.core.ladder import FILLED, SWAPPED, count_faults
from usmd.core.machine import Core
from usmd.core.page_life import PageLife
from usmd.core.page_table import ABSENT, CHUNK_BITS, CHUNK_MASK
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Process, Region
from usmd.core.rights import NORMAL
from usmd.core.settings import MAX_FRAMES, CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.view import MakePolicy

NEW, WRITTEN, FROM_SWAP = DIRTY | ZERO | NORMAL, DIRTY | NORMAL, NORMAL
"""Flags of pages without a hint: never written to, written to, and the same as in their slot."""
UNUSUAL = 3
USUAL_END = bytes(END_OF[flags] if flags in (NEW, WRITTEN, FROM_SWAP) else UNUSUAL for flags in range(256))
"""End of an eviction by the page's flags: UNUSUAL unless they are one of the three above."""


@mypyc_attr(allow_interpreted_subclasses=True)
class InstantLife(PageLife):
    """Transitions that need no shell."""

    def zero_fill(self, region: Region, page: int, prefer: int | None) -> int:
        """ABSENT → PRESENT on a free frame; returns the frame."""
        pfn = self._state.frames.take(prefer)
        self._enter(region, page, pfn, DIRTY | ZERO)
        return pfn

    def zero_fill_run(self, region: Region, first: int, count: int, pfn: int) -> None:
        """ABSENT → PRESENT for consecutive pages."""
        state = self._state
        super().zero_fill_run(region, first, count, pfn)
        state.zero_runs.clear()
        for each in range(pfn, pfn + count):
            state.frames.flags[each] |= ZERO

    def came_along(self, region: Region, page: int) -> None:
        """Not noted: a replay counts misses."""

    def run_came_along(self, region: Region, first: int, count: int, besides: int) -> None:
        """Not noted."""

    def swap_in(
        self, region: Region, page: int, prefer: int | None, *, writable: bool = False, moves: bool = False
    ) -> Filling | None:
        """SWAPPED → PRESENT on a free frame."""
        del moves
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

    def entry_after(self, end: int, region: Region, page: int, pfn: int) -> int | None:
        """The page table entry after an eviction with this end; None if there is no slot for the page."""
        if end == ENDS_ZERO:
            return ABSENT
        taken = self._state.frames.slot[pfn] if end == ENDS_CLEAN else self.slots.take(region, page, pfn)
        return None if taken is None else -taken - 1

    def evict(self, pfn: int, policy: str, reason: str) -> None:
        """PRESENT → SWAPPED, or ABSENT if the page is all zero. If there is no slot for it, nothing changes."""
        state = self._state
        frames = state.frames
        key = frames.page[pfn]
        region = state.regions[key >> PAGE_BITS]
        process = region.process
        counters = process.counters
        end = END_OF[frames.flags[pfn]]
        entry = self.entry_after(end, region, key & PAGE_MASK, pfn)
        if entry is None:
            return
        if end == ENDS_WRITTEN:
            state.budgets.charge(region, 1)
        counters.count_end(end)
        if process.evictions.maxlen:
            record = EvictionRecord(key, state.now, policy, reason)
            record.result = RESULTS[end]
            process.evictions.append(record)
        process.policies.page_evicted(pfn)
        self._count_eviction(region, key & PAGE_MASK, pfn)
        self._disown(region, pfn)
        region.table[key & PAGE_MASK] = entry
        if entry != ABSENT:
            region.swapped += 1


class InstantCore(Core):
    """A core without a shell, which handles Touches as well."""

    hinted_at_once = MAX_FRAMES
    windows_in_parts = False

    def __init__(
        self,
        settings: CoreSettings,
        devices: Sequence[DeviceInfo],
        make_policy: MakePolicy,
        stopwatch: Callable[[], float] = float,
        life: type[InstantLife] = InstantLife,
    ) -> None:
        """Start with all frames free."""
        super().__init__(settings, devices, make_policy, stopwatch, life)
        self._handlers[Touches] = self._touches

    def _touches(self, event: Touches) -> None:
        region = self.state.region(event.process_id, event.region_id)
        process = region.process
        plain = not (event.times or region.hints.ranges or process.unevictable or process.pinned)
        plain = plain and process.touches is None
        if plain and process.policies.single_page and self._high == 0:
            pages = event.pages if self.state.future is None else self._numbered(event)
            misses = self._plain_touches(region, pages, event.writes)
        else:
            misses = self._any_touches(region, event)
        process.counters.accesses += len(event.pages) - misses

    def _numbered(self, event: Touches) -> Iterator[int]:
        """The pages of a run; at each the state has the number of its touch, from which policies look ahead."""
        state = self.state
        for number, page in enumerate(event.pages, event.first):
            state.touch = number
            yield page

    def _plain_touches(self, region: Region, pages: Iterable[int], writes: bytes) -> int:
        """Handle touches without times, hints or pages beside the missed one; returns how many pages were missed.

        A policy that hears runs is notified of hits before the next miss. Most misses in full memory go a short way,
        on which one page goes and another takes its frame. It has the same effect as `_miss`, which handles unusual
        ones. It does not exist if evictions are put on record, a process has a swap_max, or there is no evict policy
        that knows all pages. It calls the policy without its fence, but for `first_victim`, which marks the call and
        names nothing if the policy hung before.
        """
        process, state, frames = region.process, self.state, self._frames
        policies, forced, discards = process.policies, state.forced_victims, state.discards
        on_access = policies.on_access
        in_runs = policies.on_accesses is not None and state.future is None
        on_miss, on_evict, on_fill = policies.on_miss, policies.on_evict, policies.on_fill
        first_victim, raised = policies.first_victim, policies.raised
        unusual = process.evictions.maxlen or state.budgets.limited or policies.hands_over
        states, flags, keys, slots, count = frames.state, frames.flags, frames.page, frames.slot, frames.count
        table, first_key = region.table, region.first_key
        chunks, usual_end, listed, leave_list = table.chunks, USUAL_END, state.links.owner, state.links.release
        life = cast("InstantLife", self.life)
        kinds = iter(writes) if writes else None
        write = False
        run: list[int] = []
        add_to_run = run.append
        misses = minor = major = freed = 0
        ends = [0, 0, 0]
        try:
            for page in pages:
                if kinds is not None:
                    write = next(kinds) != 0
                chunk = chunks[page >> CHUNK_BITS]
                entry: int = ABSENT if chunk is None else chunk[page & CHUNK_MASK]
                if entry > 0:
                    if write and flags[entry - 1] & (DIRTY | ZERO) != DIRTY:
                        life.dirty(entry - 1)
                    if in_runs:
                        add_to_run(entry - 1)
                    elif on_access is not None:
                        try:
                            on_access(entry - 1, write)
                        except ANYTHING as error:  # a policy may raise anything
                            raised("evict", "page_accessed", error)
                        if forced:
                            self.reclaim.evict_forced()
                    continue
                misses += 1
                if run:
                    policies.pages_accessed(run)
                    run.clear()
                if frames.free or unusual or on_evict is None or on_fill is None:
                    self._miss(process, region, page, write=write)
                    continue
                if on_miss is not None:
                    try:
                        on_miss(first_key + page)
                    except ANYTHING as error:  # a policy may raise anything
                        raised("evict", "page_missed", error)
                        on_miss = policies.on_miss
                pfn = first_victim()
                left, end, old = 1, UNUSUAL, 0
                if 0 <= pfn < count and states[pfn] == PRESENT and (old := keys[pfn] - first_key) >> PAGE_BITS == 0:
                    end = usual_end[flags[pfn]]
                    if end == ENDS_ZERO:
                        left = ABSENT
                    elif end != UNUSUAL and (taken := life.entry_after(end, region, old, pfn)) is not None:
                        left = taken
                if left > 0:  # unusual; the policy was notified of the miss, and has named a victim
                    self.reclaim.take(process, pfn)
                    self._miss(process, region, page, write=write, missed=True)
                    continue
                ends[end] += 1
                fill = on_fill
                try:
                    on_evict(pfn)
                except ANYTHING as error:  # a policy may raise anything
                    raised("evict", "page_evicted", error)
                    fill = policies.page_filled  # which does not call a policy that hung
                chunks[old >> CHUNK_BITS][old & CHUNK_MASK] = left  # type: ignore[index]
                if left != ABSENT:
                    region.swapped += 1
                if entry:
                    major += 1
                    region.swapped -= 1
                    if write:
                        freed += 1
                        life.free_slot(-entry - 1)
                        discards.clear()
                    slots[pfn] = NO_SLOT if write else -entry - 1
                    flags[pfn] = WRITTEN if write else FROM_SWAP
                else:
                    minor += 1
                    if write or end != ENDS_ZERO:  # else both are as they were
                        slots[pfn] = NO_SLOT
                        flags[pfn] = WRITTEN if write else NEW
                keys[pfn] = first_key + page
                if chunk is None:
                    table[page] = pfn + 1
                else:
                    chunk[page & CHUNK_MASK] = pfn + 1
                if listed[pfn]:
                    leave_list(pfn)
                try:
                    fill(pfn)
                except ANYTHING as error:  # a policy may raise anything
                    raised("evict", "page_filled", error)
            if run:
                policies.pages_accessed(run)
        finally:  # also if EndsRun ends the run
            counters = process.counters
            count_faults(region, minor=minor, major=major)
            counters.zero_fills += minor
            counters.swap_ins += major
            for end, times in enumerate(ends):
                counters.count_end(end, times)
            state.budgets.charge(region, ends[ENDS_WRITTEN] - freed)
            counters.evictions += minor + major
            region.evictions += minor + major
        return misses

    def _any_touches(self, region: Region, event: Touches) -> int:
        """Handle touches of all kinds; returns how many pages were missed."""
        state, process = self.state, region.process
        flags, policies, forced = state.frames.flags, process.policies, state.forced_victims
        table, writes, times = region.table, event.writes, event.times
        misses = 0
        for index, page in enumerate(event.pages):
            state.touch = event.first + index
            write = bool(writes) and writes[index] != 0
            if times:
                state.now = times[index]
                if state.now >= state.hint_ends.next:
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

    def _miss(self, process: Process, region: Region, page: int, *, write: bool, missed: bool = False) -> None:
        """Handle a touch of a missing page: ask the alloc policy, make room, bring in.

        `missed`: the evict policy was notified of the miss already.
        """
        frames = self._frames
        found, pfn, plan, _ = self._ladder.resolve(region, page, write, missed)
        if found != FILLED:
            while not (self._placement.room(process, swap=found == SWAPPED) if self._high else frames.free):
                if not self.reclaim.from_process(process, 1):
                    process.counters.oom_refusals += 1
                    return
                if frames.free < self._high:
                    self.reclaim.between_marks()
            if plan.count != 1:
                self._placement.guesses_left = MAX_FRAMES
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
