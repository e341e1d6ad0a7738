"""The ladder that every fault goes down, explicit, real or replayed: where its page is, and what follows from that.

PRESENT: another fault brought it in. EVICTING: retaken. FILLING: the fault parks. ABSENT or SWAPPED: the alloc policy
says what to bring in. Here alone faults are counted, and policies and hints hear of them. What the source of a fault
does with the outcome is its own: `faults`, `real_faults`, `instant`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.allocation import Allocation, Fault
from usmd.core.frames import EVICTING
from usmd.core.frames import FILLING as FRAME_FILLING
from usmd.core.page_table import CHUNK_BITS, CHUNK_MASK
from usmd.core.waiters import WaitingPage

if TYPE_CHECKING:
    from usmd.core.hint_ranges import HintRange
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.region import Region
    from usmd.core.state import State
    from usmd.core.waiters import Waiter

PRESENT: Final = 0
"""The page was in memory."""
RETAKEN: Final = 1
"""It was on its way out, and stays."""
FILLED: Final = 2
"""It was ABSENT, and is in memory now. This and what is less: the fault has its page."""
FILLING: Final = 3
"""It comes in already: the fault parks on that."""
ABSENT: Final = 4
"""It needs a frame."""
SWAPPED: Final = 5
"""It needs a frame and a read."""

Outcome = tuple[int, int, Allocation, bool]
"""One of the above; the frame, or -1; what to bring in; whether the alloc policy wants USM_YIELD answered."""
NO_PLAN: Final = Allocation(0, 0)
NO_FRAME: Final = -1


def count_faults(region: Region, *, minor: int, major: int) -> None:
    """Count faults that a replay resolved many of in a row, as `Ladder.resolve` counts each."""
    counters = region.process.counters
    region.faults += minor + major
    counters.faults += minor + major
    counters.minor_faults += minor
    region.major_faults += major
    counters.major_faults += major


class Ladder:
    """Resolves faults on pages."""

    __slots__ = ("_frames", "_life", "_limit", "_placement", "_states", "_waiting", "_zero_fill")

    def __init__(self, state: State, life: PageLife, placement: Placement) -> None:
        self._frames = state.frames
        self._states = state.frames.state
        self._limit = state.settings.max_fault_pages
        self._life = life
        self._zero_fill = life.zero_fill
        self._placement = placement
        self._waiting = placement.waiting

    def resolve(self, region: Region, page: int, write: bool, missed: bool = False) -> Outcome:
        """Take a fault on a page as far as all sources go alike.

        `missed`: the evict policy has heard already that the page was missed.
        """
        chunk = region.table.chunks[page >> CHUNK_BITS]
        entry = 0 if chunk is None else chunk[page & CHUNK_MASK]
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
        room = self._frames.free > 1 and not self._waiting
        if plan.count == 1 and room and process.resident < process.absent_max:
            return FILLED, self._zero_fill(region, page, plan.frame), plan, yields
        return ABSENT, NO_FRAME, plan, yields

    def _yields(self, region: Region, page: int, pfn: int, *, write: bool) -> bool:
        """Whether a fault that parks yields: as the one did that brought the page in.

        Where there was none, the alloc policy is asked, once.
        """
        hint = _hint_of(region, page) if region.hints.ranges else None
        filling = self._life.filling[pfn]
        if filling.yields is None:
            fault = Fault(region.region_id, page, region.page_count, write, True, hint)
            filling.yields = region.process.policies.allocate(fault)[1]
        return filling.yields

    def bring_in(self, waiter: Waiter, outcome: Outcome, *, writable: bool) -> bool:
        """Have the page of an outcome above FILLED come in; False when it is there at once, else the waiter waits.

        `writable`: as for `PageLife.swap_in`, of this page and of those beside it.
        """
        found, pfn, plan, yields = outcome
        if found == FILLING:
            self._life.filling[pfn].park(waiter)
        elif (
            self._waiting
            or not self._placement.may_have(waiter.region, waiter.page)
            or not self._placement.room(swap=found == SWAPPED)
        ):
            self._placement.wait(WaitingPage(waiter, plan, yields=yields, writable=writable))
        else:
            return self._placement.serve(waiter, plan, yields=yields, writable=writable)
        return True

    def _clip(self, plan: Allocation, region: Region, page: int, hint: HintRange | None) -> Allocation:
        """The part of a plan that one fault may bring in.

        It does not leave the region or the hint's range. A plan of more pages than a fault may bring is cut into parts
        of as many, and the fault brings in the one that it is in, whichever others are there already.
        """
        first, end = max(plan.first, 0), min(plan.first + plan.count, region.page_count)
        if hint is not None:
            first, end = max(first, hint.first), min(end, hint.end)
        first += (page - first) // self._limit * self._limit
        return Allocation(first, min(self._limit, end - first), plan.frame)


def _hint_of(region: Region, page: int) -> HintRange | None:
    """The hint in force on a page, which hears of the fault."""
    hint = region.hints.find(page)
    if hint is not None:
        hint.effects.faults += 1
    return hint
