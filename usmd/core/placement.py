"""Places the pages that come in with a fault: the faulting one, and the pages beside it while frames are to spare.

Nothing is evicted for a guess, which is a page beside the faulting one. Guesses take frames above the low watermark,
and while evictions are under way up to half of the frames below it, instead of those that will be free.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from usmd.core.frames import EVICTING, FILLING

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation
    from usmd.core.in_flight import Filling
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process, Region
    from usmd.core.state import State
    from usmd.core.waiters import Waiter, WaitingPage

MAX_GUESSES: Final = 1024
"""Guesses that one batch of faults may bring in, which bounds the time that a batch takes."""

AHEAD_SHARE: Final = 8
"""Reclaim keeps free, for the next guesses, at most one in this many of the frames above the high watermark."""


class Placement:
    """Gives frames to pages that come in."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self._guarantees = state.guarantees
        self.waiting: OrderedDict[WaitingPage, None] = OrderedDict()
        """Pages that wait for a free frame, in the order of their faults."""
        self.waiting_of = state.waiting_of
        """Process number → those of the process."""
        self.over_budget: dict[int, deque[WaitingPage]] = {}
        """Process number → pages that wait because its budget has no room, in the order of their faults."""
        self.guesses_left = MAX_GUESSES
        """Pages that the batch of faults being handled may still bring in beside theirs; set when one begins."""
        self._most_ahead = 0
        self.configured()

    def configured(self) -> None:
        """The watermarks are new."""
        settings = self._state.settings
        self._most_ahead = (settings.frames - settings.high) // AHEAD_SHARE if settings.high else 0

    def wait(self, page: WaitingPage) -> None:
        """Queue a page: for a frame, or for room in the budget of its process."""
        process = page.waiter.region.process
        if self.may_have(page.waiter.region, page.waiter.page):
            self.wait_for_memory(page)
        else:
            self._state.more_to_do = True
            self.over_budget.setdefault(process.process_id, deque()).append(page)

    def wait_for_memory(self, page: WaitingPage) -> None:
        """Queue a page for a frame."""
        self._state.more_to_do = True
        self.waiting[page] = None
        self.waiting_of.setdefault(page.waiter.region.process.process_id, {})[page] = None

    def take(self, page: WaitingPage) -> None:
        """Take a page out of the queue for a frame."""
        del self.waiting[page], self.waiting_of[page.waiter.region.process.process_id][page]

    def may_have(self, region: Region, page: int) -> bool:
        """Whether the budget of memory of its process has room for a page that has no frame."""
        return self._state.budgets.room(region.process, swap=region.table[page] < 0) > 0

    def room(self, process: Process, *, swap: bool) -> bool:
        """Whether a page of a process may take a frame now. `swap`: the page comes from swap."""
        free = self._state.frames.free
        if free > self._guarantees.few:
            return True
        return free > 0 and (swap or free > self.kept(process))

    def kept(self, process: Process) -> int:
        """Free frames that a new page of a process may not take, see `_reserve` and `Guarantees`."""
        kept, reserve = self._guarantees.kept, self._reserve()
        if kept == 0:
            return reserve
        slots = self._state.swap.room() - self._life.unwritten
        if self._guarantees.found(slots) or slots >= kept:
            return reserve
        return max(self._guarantees.left_by(process) - slots, reserve)

    def serve(self, waiter: Waiter, plan: Allocation, *, yields: bool, writable: bool) -> bool:
        """Place a faulting page, which there is room for; False if it is present at once, else the waiter waits."""
        filling = self.place(waiter.region, waiter.page, plan, writable=writable, beside=writable)
        if filling is None:
            return False
        filling.yields = yields
        filling.park(waiter)
        return True

    def join(self, waiter: Waiter, pfn: int) -> None:
        """The waiter's page got a frame by another fault: park on the fill, or end the wait."""
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
        """Give the faulting page a free frame, and then the pages beside it while frames are to spare.

        `writable`: as for `PageLife.swap_in`, for the faulting page; `beside`: for those beside it.
        """
        guesses = plan.count - 1
        if guesses <= 0:
            if self._state.ahead:
                self._state.ahead -= 1
            return self._bring_in(region, page, plan.frame, writable=writable)
        if plan.frame is None and self.place_run(region, page, plan):
            return None
        frames = self._state.frames
        prefer = plan.frame
        spare = self._spare_beside(region, guesses)
        stride = plan.stride
        run: int | None = None
        if spare > 0 and prefer is None and stride == 1:
            run = frames.find_run(plan.count)
            prefer = None if run is None else run + page - plan.first
        filling = self._bring_in(region, page, prefer, writable=writable)
        counters, life, table = region.process.counters, self._life, region.table
        for other in range(plan.first, plan.first + plan.count * stride, stride):
            entry = table[other]
            if entry > 0:
                continue  # also the faulting page
            if spare <= 0:
                break
            prefer = None if run is None else run + other - plan.first
            if entry:
                life.swap_in(region, other, prefer, writable=beside)
            else:
                life.zero_fill(region, other, prefer)
            life.came_along(region, other)
            counters.read_ahead += 1
            self.guesses_left -= 1
            spare -= 1
            if beside:
                region.write_order.opened(other)
        return filling

    def _spare_beside(self, region: Region, guesses: int) -> int:
        """Frames for pages beside a faulting one, after that has taken its own."""
        state, free = self._state, self._state.frames.free - 1
        careful = free <= self._guarantees.few + guesses
        reserve = self.kept(region.process) if careful else self._reserve()
        spare = free - max(state.settings.low, reserve) - len(self.waiting)
        leaving = len(self._life.evicting)
        if leaving and spare < guesses:
            # Else a scan that is faster than the writes would take the frames below the mark one fault at a time.
            spare = max(spare, min(spare + leaving, free // 2 - reserve))
        return min(spare, self.guesses_left, state.budgets.room(region.process, swap=False) - 1)

    def place_run(self, region: Region, page: int, plan: Allocation) -> bool:
        """Place a faulting page and those beside it at once, if there are frames and all are alike; see `zero_run`."""
        count = plan.count
        self._state.ahead = max(self._state.ahead, min(count, self._most_ahead))
        if plan.stride != 1 or self._spare_beside(region, count - 1) < count - 1:
            return False
        if not self.zero_run(region, plan.first, count):
            return False
        self._life.run_came_along(region, plan.first, count, page)
        region.process.counters.read_ahead += count - 1
        self.guesses_left -= count - 1
        return True

    def zero_run(self, region: Region, first: int, count: int) -> bool:
        """Fill pages with zeros in ascending order, on neighbouring frames if there are any; `count` frames are free.

        Only if all are ABSENT and have one hint without DENY; else returns False, and nothing has changed.
        """
        if region.hints.ranges and not region.hints.alike(first, first + count):
            return False
        if not region.table.absent(first, count):
            return False
        run = self._state.frames.find_run(count)
        if run is not None:
            self._life.zero_fill_run(region, first, count, run)
            return True
        for page in range(first, first + count):
            self._life.zero_fill(region, page, None)
        return True

    def _bring_in(self, region: Region, page: int, prefer: int | None, *, writable: bool = False) -> Filling | None:
        if region.table[page] == 0:
            self._life.zero_fill(region, page, prefer)
            return None
        # A page that comes in dirty gives up its slot.
        writable = writable or self._life.slots.promotes(region, page)
        return self._life.swap_in(region, page, prefer, writable=writable)

    def spare(self, mark: int, process: Process | None = None) -> int:
        """Free frames above a mark, for pages without a waiter; 0 while pages wait for memory.

        `process`: the one whose pages come in; None: they all come from swap.
        """
        if self.waiting:
            return 0
        return self._state.frames.free - max(mark, self._reserve() if process is None else self.kept(process))

    def _reserve(self) -> int:
        """Frames that only pages from swap may take: 1 if swap takes no more pages or a process is at its `swap_max`.

        A page from swap can always be evicted again, to the slot that it still has. So one frame suffices to read all
        stored pages while memory and swap are full. A memory of a single frame reserves none.

        A device may report only when it is written to that it is full or refuses a page, and no frame may be free by
        then. So if background reclaim keeps frames free, one is reserved as long as anything is in swap.
        """
        state, swap = self._state, self._state.swap
        if state.frames.count == 1:
            return 0
        if state.budgets.full:
            return 1
        if swap.free == swap.slots:
            return 0
        return 1 if state.settings.low or swap.writable(state.now) <= self._guarantees.kept else 0
