"""Which pages come in with a fault, and on which frames: the faulting one, and those beside it as far as there is room.

Nothing is evicted for a guess: pages beside the faulting one take frames that are to spare.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from usmd.core.frames import EVICTING, FILLING

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation
    from usmd.core.in_flight import Filling
    from usmd.core.page_life import PageLife
    from usmd.core.region import Region
    from usmd.core.state import State
    from usmd.core.waiters import Waiter, WaitingPage

MAX_GUESSES: Final = 1024
"""Pages that come along with the faults of one batch (FHP), which bounds the time that a batch takes."""


class Placement:
    """Gives frames to pages that come in."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.waiting: deque[WaitingPage] = deque()
        """Pages that wait for a free frame, in the order of their faults."""
        self.over_budget: dict[int, deque[WaitingPage]] = {}
        """By process: pages that wait because it has as many in memory as it may, in the order of their faults."""
        self._guesses_left = MAX_GUESSES

    def wait(self, page: WaitingPage) -> None:
        """Have a page wait for a frame, or for its process to have room for it."""
        process = page.waiter.region.process
        if self.may_have(page.waiter.region, page.waiter.page):
            self.waiting.append(page)
        else:
            self.over_budget.setdefault(process.process_id, deque()).append(page)

    def may_have(self, region: Region, page: int) -> bool:
        """Whether the process of a page that has no frame has room for it in its budget of memory."""
        return self._state.budgets.room(region.process, swap=region.table[page] < 0) > 0

    def begin_batch(self) -> None:
        """Faults that come now may bring in pages beside them, as many as one batch may."""
        self._guesses_left = MAX_GUESSES

    def room(self, *, swap: bool) -> bool:
        """Whether there is a frame that a page may take now; `swap`: it comes from swap."""
        free = self._state.frames.free
        return free > 1 or (free == 1 and (swap or not self._reserve()))

    def serve(self, waiter: Waiter, plan: Allocation, *, yields: bool, writable: bool) -> bool:
        """Place a faulting page for which there is room; False when it is there at once, else the waiter waits."""
        filling = self.place(waiter.region, waiter.page, plan, writable=writable, beside=writable)
        if filling is None:
            return False
        filling.yields = yields
        filling.park(waiter)
        return True

    def join(self, waiter: Waiter, pfn: int) -> None:
        """The page of a waiter got a frame while it waited for one."""
        now_is = self._state.frames.state[pfn]
        if now_is == FILLING:
            self._life.filling[pfn].park(waiter)
            return
        if now_is == EVICTING:
            self._life.retake(pfn)
        else:
            waiter.told = False
        waiter.came(None)

    def place(
        self, region: Region, page: int, plan: Allocation, *, writable: bool, beside: bool = False
    ) -> Filling | None:
        """Give the faulting page a free frame, and then the pages beside it as far as frames are to spare.

        `writable`: as for `PageLife.swap_in`, of the faulting page; `beside`: of those beside it.
        """
        guesses = plan.count - 1
        if guesses <= 0:
            return self._bring_in(region, page, plan.frame, writable=writable)
        frames = self._state.frames
        prefer = plan.frame
        spare = frames.free - 1 - max(self._state.settings.low, self._reserve()) - len(self.waiting)
        spare = min(spare, self._guesses_left, self._state.budgets.room(region.process, swap=False) - 1)
        run: int | None = None
        if spare > 0 and prefer is None:
            run = frames.find_run(plan.count)
            prefer = None if run is None else run + page - plan.first
        filling = self._bring_in(region, page, prefer, writable=writable)
        if run is not None and spare >= guesses and self._beside(region, page, plan, run):
            return filling
        counters = region.process.counters
        for other in range(plan.first, plan.first + plan.count):
            if other == page or region.table[other] > 0:
                continue
            if spare <= 0:
                break
            self._bring_in(region, other, None if run is None else run + other - plan.first, writable=beside)
            counters.read_ahead += 1
            self._guesses_left -= 1
            spare -= 1
            if beside:
                region.write_order.opened(other)
        return filling

    def _beside(self, region: Region, page: int, plan: Allocation, run: int) -> bool:
        """Bring in the pages beside the faulting one all at once, if they are ABSENT and may all be treated alike."""
        first, end = plan.first, plan.first + plan.count
        if region.hints.ranges:
            hint = region.hints.find(first)
            if hint is None or hint.hint.deny or hint.end < end:
                return False
        parts = [(start, stop - start) for start, stop in ((first, page), (page + 1, end)) if start < stop]
        if not all(region.table.absent(start, count) for start, count in parts):
            return False
        for start, count in parts:
            self._life.zero_fill_run(region, start, count, run + start - first)
        region.process.counters.read_ahead += plan.count - 1
        self._guesses_left -= plan.count - 1
        return True

    def _bring_in(self, region: Region, page: int, prefer: int | None, *, writable: bool = False) -> Filling | None:
        if region.table[page] == 0:
            self._life.zero_fill(region, page, prefer)
            return None
        return self._life.swap_in(region, page, prefer, writable=writable)

    def spare(self, mark: int) -> int:
        """Free frames above a mark, for pages that nobody waits for; none while others wait for memory."""
        return 0 if self.waiting else self._state.frames.free - max(mark, self._reserve())

    def _reserve(self) -> int:
        """Frames that only pages from swap may take: one of several, once swap takes no more pages of all or of some.

        A page that came from swap can always go again, to the slot that it still has. So with one frame for such pages
        all that was stored can be read, also when memory and swap are full.
        """
        swap = self._state.swap
        if self._state.frames.count == 1:
            return 0
        if self._state.budgets.full:
            return 1
        return 1 if swap.free < swap.slots and swap.writable(self._state.now) == 0 else 0
