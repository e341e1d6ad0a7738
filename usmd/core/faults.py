"""Faults: from a touch of absent pages to frames, USM_YIELD, or a typed failure.

Life of a fault on a page: present already → done; being evicted → retaken; being filled → parks on it; else the alloc
policy says what to bring in. Without a free frame the fault waits while victims are evicted, and when nothing can be
evicted the oom policy decides. A fault waits in order of arrival, so that none is starved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from usmd.core.chores import Chore
from usmd.core.commands import Allocated, Failed, Yielded
from usmd.core.events import FaultRequest
from usmd.core.frames import DIRTY, EVICTING, FILLING, KEPT, PINNED, PRESENT
from usmd.core.page_life import Filling, Waiter
from usmd.core.page_table import CHUNK_BITS, CHUNK_MASK
from usmd.core.policy import Allocation, Fault
from usmd.core.region import Region
from usmd.core.write_order import AHEAD
from usmd.errors import InvalidArgument, NotFound, OutOfMemory, OutOfRange, Unmapped, UsmdError

if TYPE_CHECKING:
    from usmd.core.events import PageFault
    from usmd.core.hint_ranges import HintRange
    from usmd.core.page_life import PageLife
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process
    from usmd.core.state import State


MAX_GUESSES: Final = 1024
"""Pages that come along with the faults of one batch (FHP), which bounds the time that a batch takes."""


class Pending:
    """A fault that is not answered yet: how many of its pages are missing, and its yield token (0: did not yield).

    `real`: a thread waits for it in the kernel, and goes on by what is done to the page.
    """

    __slots__ = (
        "failed", "fault_id", "faults", "first", "missing", "page_count", "real", "region", "reply_to", "write",
        "yield_token",
    )  # fmt: skip

    def __init__(self, faults: Faults, region: Region, request: FaultRequest, *, real: bool, reply_to: int = 0) -> None:
        self.faults = faults
        self.region = region
        self.real = real
        self.fault_id = request.fault_id
        self.reply_to = reply_to
        self.first = request.first_page
        self.page_count = request.page_count
        self.write = request.write
        self.missing = 0
        """Pages that are neither present nor failed."""
        self.yield_token = 0
        self.failed = False

    def wait_for(self, page: int) -> Waiter:
        """Count a page as missing; what is returned must be called once when it is present or has failed."""
        self.missing += 1
        self.region.process.missing += 1

        def done(error: UsmdError | None) -> None:
            self.missing -= 1
            if not self.failed:
                self.region.process.missing -= 1
            if error is not None:
                self.faults.fail(self, page, error)
                return
            self.faults.hold(self.region, page, real=self.real, write=self.write)
            if self.missing == 0 and not self.failed:
                self.faults.complete(self)

        return done


class MemoryWaiter:
    """A page that waits for a free frame."""

    __slots__ = ("done", "page", "pending", "plan", "writable", "write")

    def __init__(self, pending: Pending, page: int, plan: Allocation, *, write: bool, writable: bool) -> None:
        self.done = pending.wait_for(page)
        self.pending = pending
        self.page = page
        self.plan = plan
        self.write = write
        self.writable = writable
        """Its window comes in writable."""


class Faults:
    """Handles batches of faults and the pages that wait for memory."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.reclaim: Reclaim
        self.waiting: deque[MemoryWaiter] = deque()
        self._next_token = 1
        self._guesses_left = MAX_GUESSES
        self.victim_of_oom: int | None = None
        """Process that the oom policy chose; the machine ends it and clears this."""

    def begin_batch(self) -> None:
        """Faults that come now may bring in pages beside them, as many as one batch may."""
        self._guesses_left = MAX_GUESSES

    def handle(self, process: Process, requests: Sequence[FaultRequest], reply_to: int = 0) -> None:
        """A batch of faults; each gets one outcome, now or later, and USM_YIELD before it if the policy says so.

        The outcomes go to the stream `reply_to` of the process.
        """
        state = self._state
        self.begin_batch()
        for request in requests:
            region = process.regions.get(request.region_id)
            if region is None:
                missing = NotFound(f"no region {request.region_id} in this session")
                state.outcome(process.process_id, Failed(request.fault_id, missing, request.first_page), reply_to)
            elif request.page_count == 1 and 0 <= request.first_page < region.page_count:
                self._one_page(process, region, request, reply_to)
            else:
                wrong = self._check(region, request)
                if wrong is None:
                    self._pages(process, region, request, reply_to=reply_to)
                else:
                    state.outcome(process.process_id, Failed(request.fault_id, wrong, request.first_page), reply_to)

    def page_faults(self, process: Process, faults: Sequence[PageFault]) -> None:
        """Real page faults; each ends by what is done to its page: filled, restored, or poisoned."""
        state = self._state
        frames, recent = state.frames, state.recent
        self.begin_batch()
        for fault in faults:
            region = process.regions.get(fault.region_id)
            page = fault.page
            if region is None or not 0 <= page < region.page_count:
                continue  # gone meanwhile; the shell has told whoever waits
            chunk = region.table.chunks[page >> CHUNK_BITS]
            entry = 0 if chunk is None else chunk[page & CHUNK_MASK]
            answer: tuple[Allocation, bool] | None = None
            if entry == 0 and frames.free > 1 and not self.waiting:
                answer = self.ask(process, region, page, swap=False, write=fault.write)
                if answer[0].count == 1:
                    pfn = self._life.zero_fill(region, page, answer[0].frame)
                    self._count_minor(process, region)
                    if process.touches is not None:
                        process.touches.extend((region.first_key + page, 3 if fault.write else 2))
                    recent.append(pfn)
                    continue
            elif entry > 0 and frames.state[entry - 1] != FILLING:
                self._count_minor(process, region)
                if not fault.protected:
                    leaving = frames.state[entry - 1] == EVICTING
                    self._count_touch(process, entry - 1, write=fault.write, told=leaving)
                self._touched(region, entry - 1, fault)
                continue
            elif entry > 0:
                self._park(process, region, fault, self._life.filling[entry - 1])
                continue
            request = FaultRequest(0, region.region_id, page, 1, fault.write or fault.protected)
            self._pages(process, region, request, answer, real=True)

    def _park(self, process: Process, region: Region, fault: PageFault, filling: Filling) -> None:
        """A real fault on a page that comes in; the client may have seen it come before the core hears of that."""
        page = fault.page
        region.faults += 1
        region.major_faults += 1
        process.counters.faults += 1
        process.counters.major_faults += 1
        process.counters.parked_faults += 1
        pending = Pending(self, region, FaultRequest(0, region.region_id, page, 1, fault.write), real=True)
        done = pending.wait_for(page)

        def came(error: UsmdError | None) -> None:
            done(error)
            pfn = region.table[page] - 1
            if error is None and pfn >= 0 and self._state.frames.state[pfn] == PRESENT:
                self._touched(region, pfn, fault)

        filling.waiters.append(came)

    def _touched(self, region: Region, pfn: int, fault: PageFault) -> None:
        """A real fault on a page that has its bytes: on its way out, or not to be written to without our hearing."""
        life, state, process = self._life, self._state, region.process
        if state.frames.state[pfn] == EVICTING:
            life.retake(pfn)
        if fault.protected:
            process.counters.protect_faults += 1
            if process.touches is not None:
                process.touches.extend((state.frames.page[pfn], 1))
            if not state.frames.flags[pfn] & KEPT:
                process.policies.page_accessed(pfn, write=True)
            life.dirty(pfn)
            life.restore(pfn)
            if region.write_order.written(fault.page):
                self._open_ahead(region, fault.page + 1)
        else:
            state.wakes.append(state.frames.page[pfn])
        state.recent.append(pfn)

    def _open_ahead(self, region: Region, page: int) -> None:
        """The region is written in order: the clean pages from `page` on become writable without a fault each."""
        frames, table = self._state.frames, region.table
        for ahead in range(page, min(page + AHEAD, region.page_count)):
            pfn = table[ahead] - 1
            if pfn < 0 or frames.state[pfn] != PRESENT:
                break
            if not frames.flags[pfn] & DIRTY:
                self._life.dirty(pfn)
                self._life.restore(pfn)
            region.write_order.opened(ahead)

    def _count_minor(self, process: Process, region: Region) -> None:
        region.faults += 1
        process.counters.faults += 1
        process.counters.minor_faults += 1

    def _check(self, region: Region, request: FaultRequest) -> UsmdError | None:
        limit = self._state.settings.max_fault_pages
        if not 1 <= request.page_count <= limit:
            return InvalidArgument(f"a fault on {request.page_count} pages; allowed are 1 to {limit}")
        if request.first_page < 0 or request.first_page + request.page_count > region.page_count:
            return OutOfRange(
                f"a fault on pages {request.first_page} to {request.first_page + request.page_count - 1} of region "
                f"{region.region_id}, which has pages 0 to {region.page_count - 1}"
            )
        return None

    def _one_page(self, process: Process, region: Region, request: FaultRequest, reply_to: int) -> None:
        """The two usual cases without detours: present already, or one page to be filled with zeros at once."""
        page = request.first_page
        chunk = region.table.chunks[page >> CHUNK_BITS]
        entry = 0 if chunk is None else chunk[page & CHUNK_MASK]
        frames = self._state.frames
        if entry == 0 and frames.free > 1 and not self.waiting:
            answer = self.ask(process, region, page, swap=False, write=request.write)
            if answer[0].count != 1 or answer[1]:
                self._pages(process, region, request, answer, reply_to=reply_to)
                return
            pfn = self._life.zero_fill(region, page, answer[0].frame)
            self.hold_frame(process, pfn, write=request.write)
        elif entry > 0 and frames.state[entry - 1] == PRESENT:
            pfn = entry - 1
            self.hold_frame(process, pfn, write=request.write, told=False)
        else:
            self._pages(process, region, request, reply_to=reply_to)
            return
        self._count_minor(process, region)
        self._state.outcome(process.process_id, Allocated(request.fault_id, ((page, pfn, 1),)), reply_to)

    def ask(self, process: Process, region: Region, page: int, *, swap: bool, write: bool) -> tuple[Allocation, bool]:
        """What the alloc policy says to a fault on a page without a frame, after clipping, and whether it yields."""
        if process.policies.on_miss is not None and region.table[page] <= 0:
            process.policies.page_missed(region.first_key + page)
        hint = None
        if region.hints.ranges:
            hint = region.hints.find(page)
            if hint is not None:
                hint.effects.faults += 1
        answer = process.policies.allocate(Fault(region.region_id, page, region.page_count, write, swap, hint))
        if answer[0].count == 1:
            return answer
        return self._clip(answer[0], region, page, hint), answer[1]

    def _pages(
        self,
        process: Process,
        region: Region,
        request: FaultRequest,
        answer: tuple[Allocation, bool] | None = None,
        *,
        real: bool = False,
        reply_to: int = 0,
    ) -> None:
        """All pages of a fault; `answer` is what the policy said to its only page, if it was asked already."""
        pending = Pending(self, region, request, real=real, reply_to=reply_to)
        yields = False
        low, high = request.first_page, request.first_page + request.page_count
        for page in range(request.first_page, request.first_page + request.page_count):
            plan = self._page(process, region, page, pending, answer, write=request.write)
            if plan is not None:
                yields = yields or plan[1]
                low, high = min(low, plan[0].first), max(high, plan[0].first + plan[0].count)
        if real:
            return
        if yields and pending.missing:
            pending.yield_token = self._next_token
            self._next_token += 1
            process.counters.yields += 1
            self._state.outcome(process.process_id, Yielded(request.fault_id, pending.yield_token), reply_to)
        elif pending.missing == 0 and not pending.failed:
            runs = self.runs(region, max(low, 0), min(high, region.page_count))
            self._state.outcome(process.process_id, Allocated(request.fault_id, runs), reply_to)

    def _page(
        self,
        process: Process,
        region: Region,
        page: int,
        pending: Pending,
        answer: tuple[Allocation, bool] | None,
        *,
        write: bool,
    ) -> tuple[Allocation, bool] | None:
        """One page of a fault; returns what the policy answered if it was asked."""
        state = self._state
        counters = process.counters
        region.faults += 1
        counters.faults += 1
        entry = region.table[page]
        if entry > 0:
            pfn = entry - 1
            now_is = state.frames.state[pfn]
            if now_is != FILLING:
                if now_is == EVICTING:
                    self._life.retake(pfn)
                counters.minor_faults += 1
                self.hold_frame(process, pfn, write=write, told=now_is == EVICTING)
                return None
        swap = entry != 0
        if swap:
            counters.major_faults += 1
            region.major_faults += 1
        else:
            counters.minor_faults += 1
        plan, yields = answer or self.ask(process, region, page, swap=swap, write=write)
        if entry > 0:
            counters.parked_faults += 1
            self._life.filling[entry - 1].waiters.append(pending.wait_for(page))
            return plan, yields
        writable = pending.real and (self._comes_writable(region, page, write=write) if swap else write)
        if self.waiting or not self._room(swap=swap):
            self.waiting.append(MemoryWaiter(pending, page, plan, write=write, writable=writable))
        else:
            filling = self.place(region, page, plan, writable=writable, beside=writable)
            if filling is None:
                self.hold(region, page, real=pending.real, write=write)
            else:
                filling.waiters.append(pending.wait_for(page))
        return plan, yields

    @staticmethod
    def _comes_writable(region: Region, page: int, *, write: bool) -> bool:
        """Whether the window of a real fault on a swapped page comes in writable: for a write, or in their order."""
        order = region.write_order
        if write:
            order.written(page)
        elif not order.foresees(page):
            return False
        order.opened(page)
        return True

    def _clip(self, plan: Allocation, region: Region, page: int, hint: HintRange | None) -> Allocation:
        """The part of a plan that one fault may bring in.

        It does not leave the region or the hint's range. A plan of more pages than a fault may bring is cut into parts
        of as many, and the fault brings in the one that it is in, whichever others are there already.
        """
        first, end = max(plan.first, 0), min(plan.first + plan.count, region.page_count)
        if hint is not None:
            first, end = max(first, hint.first), min(end, hint.end)
        limit = self._state.settings.max_fault_pages
        first += (page - first) // limit * limit
        return Allocation(first, min(limit, end - first), plan.frame)

    def place(
        self, region: Region, page: int, plan: Allocation, *, writable: bool, beside: bool = False
    ) -> Filling | None:
        """Give the faulting page a free frame, and then the pages beside it as far as frames are to spare.

        `writable`: as for `PageLife.swap_in`, of the faulting page; `beside`: of those beside it.
        """
        frames = self._state.frames
        prefer = plan.frame
        spare = frames.free - 1 - max(self._state.settings.low, self._reserve()) - len(self.waiting)
        spare = min(spare, self._guesses_left)
        guesses = plan.count - 1
        run: int | None = None
        if guesses > 0 and spare > 0 and prefer is None:
            run = frames.find_run(plan.count)
            prefer = None if run is None else run + page - plan.first
        filling = self._bring_in(region, page, prefer, writable=writable)
        if run is not None and spare >= guesses and self._beside(region, page, plan, run):
            spare = 0  # all are there
        if guesses > 0 and spare > 0:
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

    def prefetch(self, region: Region, first: int, end: int) -> Chore:
        """Bring pages in for WILLNEED, as far as frames are to spare; nobody waits and nothing is evicted."""
        state = self._state
        for page in range(first, end):
            spare = state.frames.free - max(state.settings.low, self._reserve())
            if spare <= 0 or self.waiting or region.region_id not in state.regions:
                return
            if region.table[page] <= 0:
                self._bring_in(region, page, None)
                region.process.counters.read_ahead += 1
            yield True

    # Waiting for memory

    def spare(self, mark: int) -> int:
        """Free frames above a mark, for pages that nobody waits for; none while others wait for memory."""
        return 0 if self.waiting else self._state.frames.free - max(mark, self._reserve())

    def _reserve(self) -> int:
        """Frames that only pages from swap may take: one of several, once swap takes no more pages.

        A page that came from swap can always go again, to the slot that it still has. So with one frame for such pages
        all that was stored can be read, also when memory and swap are full.
        """
        swap = self._state.swap
        needed = self._state.frames.count > 1 and swap.free < swap.slots and swap.writable(self._state.now) == 0
        return 1 if needed else 0

    def _room(self, *, swap: bool) -> bool:
        """Whether a page may take a frame now; `swap`: it comes from swap."""
        free = self._state.frames.free
        return free > 1 or (free == 1 and (swap or not self._reserve()))

    def serve_waiting(self) -> None:
        """Give frames to the pages that wait, in order; evict for them, or ask the oom policy when nothing can go."""
        life = self._life
        nothing_goes = False
        while self.waiting:
            waiter = self.waiting[0]
            region, page, pending = waiter.pending.region, waiter.page, waiter.pending
            entry = region.table[page]
            if pending.failed:
                self.waiting.popleft()
                waiter.done(None)
            elif entry > 0:
                self.waiting.popleft()
                self._join(entry - 1, waiter)
            elif self._room(swap=entry < 0):
                self.waiting.popleft()
                filling = self.place(region, page, waiter.plan, writable=waiter.writable, beside=waiter.writable)
                if filling is None:
                    waiter.done(None)
                else:
                    filling.waiters.append(waiter.done)
            elif len(life.evicting) >= len(self.waiting) or (
                not nothing_goes and self.reclaim.for_faults(len(self.waiting) - len(life.evicting))
            ):
                return
            elif (
                life.evicting
                or life.filling
                or life.writing
                or self._state.dying
                or self._state.swap.recovering(self._state.now)
                or self.reclaim.stuck
            ):
                return  # frames or slots will be free, and this goes on
            else:
                nothing_goes = True  # a refusal frees nothing, so the next page need not look again
                if not self._out_of_memory(waiter):
                    return

    def _join(self, pfn: int, waiter: MemoryWaiter) -> None:
        """The page got a frame while it waited for one."""
        state = self._state.frames.state[pfn]
        if state == FILLING:
            self._life.filling[pfn].waiters.append(waiter.done)
            return
        if state == EVICTING:
            self._life.retake(pfn)
        waiter.done(None)

    def _out_of_memory(self, waiter: MemoryWaiter) -> bool:
        """Ask the oom policy: refuse and go on with the next page (True), or have a process ended first (False)."""
        process = waiter.pending.region.process
        region, page = waiter.pending.region, waiter.page
        hint = region.hints.find(page)
        fault = Fault(region.region_id, page, region.page_count, waiter.write, region.table[page] < 0, hint)
        victim = process.policies.out_of_memory(fault)
        if victim is not None:
            process.counters.oom_kills += 1
            self.victim_of_oom = victim
            return False
        process.counters.oom_refusals += 1
        self.waiting.popleft()
        frames = self._state.frames
        kept = f", or kept for pages from swap ({frames.free} free)," if frames.free else ""
        waiter.done(
            OutOfMemory(
                f"no frame for page {waiter.page} of region {waiter.pending.region.region_id}: all {frames.count} are "
                f"in use{kept} and none can be evicted ({self._state.denied} denied, "
                f"{self._state.locked} pinned, {len(self._state.pins)} held for a moment, "
                f"{self._state.swap.free} of {self._state.swap.slots} swap slots free)"
            ),
        )
        return True

    def unmapped(self, regions: Collection[Region]) -> None:
        """The regions go: their pages that wait for memory fail."""
        ids = {region.region_id for region in regions}
        gone = [waiter for waiter in self.waiting if waiter.pending.region.region_id in ids]
        if gone:
            kept = [waiter for waiter in self.waiting if waiter.pending.region.region_id not in ids]
            self.waiting.clear()
            self.waiting.extend(kept)
            for waiter in gone:
                waiter.done(Unmapped(f"region {waiter.pending.region.region_id} was unmapped"))

    # Answers

    def complete(self, pending: Pending) -> None:
        """All pages of a fault came in; a real one went on by that."""
        if pending.real:
            return
        runs = self.runs(pending.region, pending.first, pending.first + pending.page_count)
        outcome = Allocated(pending.fault_id, runs, pending.yield_token)
        self._state.outcome(pending.region.process.process_id, outcome, pending.reply_to)

    def fail(self, pending: Pending, page: int, error: UsmdError) -> None:
        """A page of a fault failed, and the fault with it; told once."""
        if not pending.failed:
            pending.failed = True
            pending.region.process.missing -= pending.missing  # it is answered, whatever its other pages do
            if pending.real:
                self._poison(pending.region, page, error)
                return
            outcome = Failed(pending.fault_id, error, page, pending.yield_token)
            self._state.outcome(pending.region.process.process_id, outcome, pending.reply_to)

    def _poison(self, region: Region, page: int, error: UsmdError) -> None:
        """A real fault cannot be served: an error for whoever waits, in the one form that the kernel has."""
        process = region.process
        process.counters.poisoned += 1
        self._state.poisons[region.first_key + page] = error.reason
        self._state.notice(
            "page_poisoned",
            process.process_id,
            f"page {page} of region {region.region_id} of {process.name}: a touch of it is SIGBUS now, because {error}",
            {"region_id": str(region.region_id), "page": str(page), "reason": error.reason},
        )

    def runs(self, region: Region, first: int, end: int) -> tuple[tuple[int, int, int], ...]:
        """The present pages of a range as (first page, first frame, pages)."""
        table, state = region.table, self._state.frames.state
        found: list[tuple[int, int, int]] = []
        start = start_frame = length = 0
        for page in range(first, end):
            pfn = table[page] - 1
            if pfn < 0 or state[pfn] != PRESENT:
                continue
            if length and page == start + length and pfn == start_frame + length:
                length += 1
                continue
            if length:
                found.append((start, start_frame, length))
            start, start_frame, length = page, pfn, 1
        if length:
            found.append((start, start_frame, length))
        return tuple(found)

    def _count_touch(self, process: Process, pfn: int, *, write: bool, told: bool) -> None:
        """Count a fault's touch of a page that has its bytes; `told`: the evict policy has just heard of the page."""
        frames = self._state.frames
        if process.touches is not None:
            process.touches.extend((frames.page[pfn], 3 if write else 2))
        if not told and not frames.flags[pfn] & KEPT:
            process.policies.page_accessed(pfn, write=write)

    def hold(self, region: Region, page: int, *, real: bool, write: bool) -> None:
        """Hold a page that was faulted in until it is touched, so that the access after the fault finds it.

        A `real` fault's thread has been woken, and needs its frame a moment longer only where its instruction touches
        several pages.
        """
        pfn = region.table[page] - 1
        if pfn < 0:
            return
        if real:
            self._state.recent.append(pfn)
            self._count_touch(region.process, pfn, write=write, told=True)
        else:
            self.hold_frame(region.process, pfn, write=write)

    def hold_frame(self, process: Process, pfn: int, *, write: bool, told: bool = True) -> None:
        """Hold a PRESENT frame within the budget; the oldest hold gives way to the newest.

        The access that a hold is for ends it and is not counted: the touch is counted here, where a hold begins.
        `told`: the evict policy has heard of this fault by `page_filled`.
        """
        state = self._state
        settings = state.settings
        if settings.hold_budget == 0 or state.frames.state[pfn] != PRESENT:
            return
        pins, flags = state.pins, state.frames.flags
        if flags[pfn] & PINNED:
            pins.move_to_end(pfn)
        else:
            if len(pins) >= settings.hold_budget:
                oldest, _ = pins.popitem(last=False)
                flags[oldest] &= ~PINNED
            flags[pfn] |= PINNED
            self._count_touch(process, pfn, write=write, told=told)
        pins[pfn] = state.now + settings.hold_seconds
