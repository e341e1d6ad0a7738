"""The steps that every fault takes, explicit, real or replayed: where its page is, and what follows from that.

PRESENT: another fault brought the page in. EVICTING: the page is retaken. FILLING: the fault parks. ABSENT or SWAPPED:
the alloc policy decides what to bring in. Only this module counts faults and notifies policies and hints of them. Each
source of faults does the rest with the outcome: `faults`, `real_faults`, `instant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from usmd.core.allocation import Allocation, Fault
from usmd.core.frames import ALONG, EVICTING
from usmd.core.frames import FILLING as FRAME_FILLING
from usmd.core.page_table import CHUNK_BITS, CHUNK_MASK
from usmd.core.waiters import WaitingPage

if TYPE_CHECKING:
    from usmd.core.hints import HintRange
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.region import Region
    from usmd.core.state import State
    from usmd.core.waiters import Waiter
    from usmd.core.windows import Windows

PRESENT: Final = 0
"""The page was in memory."""
RETAKEN: Final = 1
"""It was on its way out, and stays."""
FILLED: Final = 2
"""It was ABSENT, and is in memory now. Up to this value the fault has its page."""
FILLING: Final = 3
"""It is coming in already: the fault parks on that."""
ABSENT: Final = 4
"""It needs a frame."""
SWAPPED: Final = 5
"""It needs a frame and a read."""

Outcome = tuple[int, int, Allocation, bool]
"""One of the above; the frame, or -1; the pages to bring in; whether to answer USM_YIELD."""
NO_PLAN: Final = Allocation(0, 0)
NO_FRAME: Final = -1


def count_faults(region: Region, *, minor: int, major: int) -> None:
    """Count many faults of a replay, as `Ladder.resolve` counts each."""
    counters = region.process.counters
    region.faults += minor + major
    counters.faults += minor + major
    counters.minor_faults += minor
    region.major_faults += major
    counters.major_faults += major


class Ladder:
    """Resolves faults on pages."""

    __slots__ = (
        "_flags", "_frames", "_guarantees", "_life", "_limit", "_placement", "_states", "_waiting", "_windows",
        "_zero_fill",
    )  # fmt: skip

    def __init__(self, state: State, life: PageLife, placement: Placement, windows: Windows | None = None) -> None:
        """`windows`: brings in the rest of a plan of more than `max_fault_pages`; None: each comes in at once."""
        self._frames = state.frames
        self._states = state.frames.state
        self._flags = state.frames.flags
        self._limit = state.settings.max_fault_pages
        self._guarantees = state.guarantees
        self._life = life
        self._zero_fill = life.zero_fill
        self._placement = placement
        self._windows = windows
        self._waiting = placement.waiting

    def resolve(self, region: Region, page: int, write: bool, missed: bool = False) -> Outcome:
        """Resolve a fault on a page, up to where the sources of faults differ.

        `missed`: the evict policy was notified of the miss already.
        """
        chunk = region.table.chunks[page >> CHUNK_BITS]
        entry: int = 0 if chunk is None else chunk[page & CHUNK_MASK]
        process = region.process
        counters = process.counters
        counters.faults += 1
        region.faults += 1
        if entry > 0:
            pfn = entry - 1
            now_is = self._states[pfn]
            if now_is == FRAME_FILLING:
                counters.major_faults += 1
                region.major_faults += 1
                counters.parked_faults += 1
                return FILLING, pfn, NO_PLAN, self._yields(region, page, pfn, write=write)
            counters.minor_faults += 1
            if self._flags[pfn] & ALONG:
                self._life.used(pfn)
            if now_is == EVICTING:
                self._life.retake(pfn)
                return RETAKEN, pfn, NO_PLAN, False
            return PRESENT, pfn, NO_PLAN, False
        if entry:
            counters.major_faults += 1
            region.major_faults += 1
        else:
            counters.minor_faults += 1
        policies = process.policies
        if policies.on_miss is not None and not missed:
            policies.page_missed(region.first_key + page)
        hint = _hint_of(region, page) if region.hints.ranges else None
        plan, yields = policies.allocate(Fault(region.region_id, page, region.page_count, write, entry != 0, hint))
        if plan.count != 1:
            plan = self._clip(plan, region, page, hint)
        if entry:
            return SWAPPED, NO_FRAME, plan, yields
        free = self._frames.free
        if (
            (free > self._guarantees.few or (free > 1 and self._placement.room(process, swap=False)))
            and process.resident < process.absent_max
            and not self._waiting
        ):
            if plan.count == 1:
                zero_fill = self._zero_fill
                return FILLED, zero_fill(region, page, plan.frame), plan, yields
            if plan.frame is None and self._placement.place_run(region, page, plan):
                return FILLED, region.table[page] - 1, plan, yields
        return ABSENT, NO_FRAME, plan, yields

    def fill_alone(self, region: Region, pages: Sequence[int]) -> Sequence[int]:
        """Resolve a batch of faults on pages as `resolve`: as many, from the first on, as are FILLED and come in alone.

        Returns their frames. None are if a policy, a hint or a recording has to hear of each fault.
        """
        process = region.process
        policies = process.policies
        free = self._frames.free - self._guarantees.few
        if region.hints.ranges or policies.on_miss is not None or process.touches is not None or self._waiting:
            return ()
        found = list(pages[: max(min(free, process.absent_max - process.resident), 0)])
        if not found or min(found) < 0 or max(found) >= region.page_count:
            return ()
        chunks = region.table.chunks
        absent = 0
        for page in found:
            chunk = chunks[page >> CHUNK_BITS]
            if chunk is not None and chunk[page & CHUNK_MASK] != 0:
                break
            absent += 1
        del found[absent:]
        if len(set(found)) < absent:
            return ()  # the second fault on a page finds it present
        count = policies.come_alone(region.region_id, found) if absent else 0
        if not count:
            return ()
        counters = process.counters
        counters.faults += count
        counters.minor_faults += count
        region.faults += count
        return self._life.zero_fill_pages(region, found[:count])

    def _yields(self, region: Region, page: int, pfn: int, *, write: bool) -> bool:
        """Whether a fault that parks yields: as the fault did that began the fill.

        If no fault began it, asks the alloc policy, once for all faults.
        """
        hint = _hint_of(region, page) if region.hints.ranges else None
        filling = self._life.filling[pfn]
        if filling.yields is None:
            fault = Fault(region.region_id, page, region.page_count, write, True, hint)
            filling.yields = region.process.policies.allocate(fault)[1]
        return filling.yields

    def bring_in(self, waiter: Waiter, outcome: Outcome, *, writable: bool) -> bool:
        """Bring in the page of an outcome above FILLED; False if it is present at once, else the waiter waits.

        `writable`: as for `PageLife.swap_in`, for this page and those beside it.
        """
        found, pfn, plan, yields = outcome
        if found == FILLING:
            self._life.filling[pfn].park(waiter)
        elif (
            self._waiting
            or not self._placement.may_have(waiter.region, waiter.page)
            or not self._placement.room(waiter.region.process, swap=found == SWAPPED)
        ):
            self._placement.wait(WaitingPage(waiter, plan, yields=yields, writable=writable))
        else:
            return self._placement.serve(waiter, plan, yields=yields, writable=writable)
        return True

    def _clip(self, plan: Allocation, region: Region, page: int, hint: HintRange | None) -> Allocation:
        """The part of a plan that comes in at once: within the region and within the hint's range.

        A plan of more than `max_fault_pages` is cut at multiples of that. The part with the faulting page comes in at
        once, the others in later events.
        """
        limit = self._limit
        if plan.stride != 1:
            return clip_stride(plan, page, (0, region.page_count) if hint is None else (hint.first, hint.end), limit)
        first, end = max(plan.first, 0), min(plan.first + plan.count, region.page_count)
        if hint is not None:
            first, end = max(first, hint.first), min(end, hint.end)
        if end - first > limit and self._windows is not None:
            part = page // limit * limit
            part_first, part_end = max(first, part), min(end, part + limit)
            self._windows.begin(region, first, end, part_first, part_end)
            first, end = part_first, part_end
        return Allocation(first, end - first, plan.frame)


def clip_stride(plan: Allocation, page: int, within: tuple[int, int], limit: int) -> Allocation:
    """As `Ladder._clip` for a plan with a stride, of which at most `limit` pages come in, those around the page."""
    stride = plan.stride
    before = min((page - plan.first) // stride, (page - within[0]) // stride)
    behind = min(plan.count - 1 - (page - plan.first) // stride, (within[1] - 1 - page) // stride)
    before = min(before, max(limit - 1 - behind, (limit - 1) // 2))
    behind = min(behind, limit - 1 - before)
    return Allocation(page - before * stride, before + behind + 1, plan.frame, stride)


def _hint_of(region: Region, page: int) -> HintRange | None:
    """The hint in force on a page; counts the fault for it."""
    hint = region.hints.find(page)
    if hint is not None:
        hint.effects.faults += 1
    return hint
