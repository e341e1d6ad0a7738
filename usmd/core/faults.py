"""Faults that a client submits on a stream. Each gets one outcome, and before it USM_YIELD if the policy yields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.commands import Allocated, Failed, PagesAllocated, Yielded
from usmd.core.events import FaultRequest
from usmd.core.events import Faults as FaultsEvent
from usmd.core.frames import PRESENT as FRAME_PRESENT
from usmd.core.ladder import FILLED, PRESENT, Outcome
from usmd.core.placement import MAX_GUESSES
from usmd.core.waiters import Waiter
from usmd.errors import InvalidArgument, NotFound, OutOfRange, UsmdError

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation
    from usmd.core.events import PageBatch
    from usmd.core.holds import Holds
    from usmd.core.ladder import Ladder
    from usmd.core.placement import Placement
    from usmd.core.region import Process, Region
    from usmd.core.state import State


class StreamFault:
    """An unanswered fault of a stream.

    `missing`: its pages that are neither present nor failed. `yield_token` 0: it did not yield.
    """

    __slots__ = ("failed", "fault_id", "first", "missing", "page_count", "region", "reply_to", "write", "yield_token")

    def __init__(self, region: Region, request: FaultRequest, reply_to: int) -> None:
        self.region = region
        self.fault_id = request.fault_id
        self.reply_to = reply_to
        self.first = request.first_page
        self.page_count = request.page_count
        self.write = request.write
        self.missing = 0
        self.yield_token = 0
        self.failed = False


class StreamWaiter(Waiter):
    """Waits for one missing page of a stream's fault."""

    __slots__ = ("_faults", "fault")

    def __init__(self, faults: Faults, fault: StreamFault, page: int) -> None:
        super().__init__(fault.region, page, write=fault.write)
        self._faults = faults
        self.fault = fault

    @property
    def failed(self) -> bool:
        """Whether another page of the fault failed."""
        return self.fault.failed

    def came(self, error: UsmdError | None) -> None:
        """Answer the fault if this was its last missing page, or the first to fail."""
        self._faults.came(self, error)


class Faults:
    """Handles batches of faults of streams."""

    def __init__(self, state: State, ladder: Ladder, placement: Placement, holds: Holds) -> None:
        self._state = state
        self._resolve = ladder.resolve
        self._ladder = ladder
        self._placement = placement
        self._hold = holds.begin
        self._begin_holds = holds.begin_new

    def handle(self, event: FaultsEvent) -> None:
        """Handle a batch of faults. Raises NotFound if there is no such process."""
        state, reply_to = self._state, event.reply_to
        process = state.processes.get(event.process_id)
        if process is None:
            process = state.process(event.process_id)  # raises NotFound
        resolve, hold, regions = self._resolve, self._hold, process.regions
        outcomes = state.outcomes(event.process_id, reply_to)
        self._placement.guesses_left = MAX_GUESSES
        for request in event.faults:
            region = regions.get(request.region_id)
            page = request.first_page
            if region is None:
                missing = NotFound(f"no region {request.region_id} in this session")
                outcomes.append(Failed(request.fault_id, missing, page))
            elif request.page_count == 1 and 0 <= page < region.page_count:
                write = request.write
                outcome = resolve(region, page, write)
                found, pfn, plan, _ = outcome
                if found <= FILLED:
                    hold(process, pfn, write, found != PRESENT)
                    runs = ((page, pfn, 1),) if plan.count <= 1 else self.runs(region, *_row(plan, page))
                    outcomes.append(Allocated(request.fault_id, runs))
                else:
                    self._one_page(StreamFault(region, request, reply_to), outcome)
            else:
                wrong = self._check(region, request)
                if wrong is None:
                    self._pages(process, StreamFault(region, request, reply_to))
                else:
                    outcomes.append(Failed(request.fault_id, wrong, page))

    def handle_pages(self, event: PageBatch) -> None:
        """Handle a batch of faults on single pages of a region. Raises NotFound if there is no such process."""
        state = self._state
        process = state.processes.get(event.process_id)
        if process is None:
            process = state.process(event.process_id)  # raises NotFound
        region_id, first_id, pages, write = event.region_id, event.first_id, event.pages, event.write
        region = process.regions.get(region_id)
        done = 0
        if region is not None:
            frames = self._ladder.fill_alone(region, pages)
            done = len(frames)
            if done:
                self._begin_holds(process, frames)
                state.outcomes(event.process_id, event.reply_to).append(PagesAllocated(first_id, frames))
        if done < len(pages):
            rest = [FaultRequest(first_id + i, region_id, pages[i], 1, write) for i in range(done, len(pages))]
            self.handle(FaultsEvent(event.process_id, rest, event.reply_to))

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

    def _one_page(self, fault: StreamFault, outcome: Outcome) -> None:
        """Handle a fault on one page, which is missing."""
        page = fault.first
        _, _, plan, yields = outcome
        self._bring_in(fault, page, outcome)
        first, end = _row(plan, page)
        self._answer(fault, min(page, first), max(page + 1, end), yields=yields)

    def _pages(self, process: Process, fault: StreamFault) -> None:
        """Handle a fault on several pages, in order, because each may bring in the next ones."""
        region, write = fault.region, fault.write
        low, high = fault.first, fault.first + fault.page_count
        yields = False
        for page in range(fault.first, fault.first + fault.page_count):  # mypyc would read a changed `high` again
            outcome = self._resolve(region, page, write)
            found, pfn, plan, page_yields = outcome
            if found <= FILLED:
                self._hold(process, pfn, write, found != PRESENT)
            else:
                self._bring_in(fault, page, outcome)
            if plan.count:
                first, end = _row(plan, page)
                low, high = min(low, first), max(high, end)
            yields = yields or page_yields
        self._answer(fault, low, high, yields=yields)

    def _bring_in(self, fault: StreamFault, page: int, outcome: Outcome) -> None:
        """Bring in a missing page, and wait for it unless it is present at once."""
        region = fault.region
        if self._ladder.bring_in(StreamWaiter(self, fault, page), outcome, writable=False):
            fault.missing += 1
            region.process.waits_more()
        else:
            self._hold(region.process, region.table[page] - 1, fault.write, True)

    def _answer(self, fault: StreamFault, low: int, high: int, *, yields: bool) -> None:
        """Answer a new fault: with its pages if none is missing; else with USM_YIELD if the policy yields.

        `low`, `high`: first and end of the range that the policy brought in.
        """
        process_id = fault.region.process.process_id
        if fault.missing == 0:
            runs = self.runs(fault.region, low, high)
            self._state.outcome(process_id, Allocated(fault.fault_id, runs), fault.reply_to)
        elif yields:
            counters = fault.region.process.counters
            counters.yields += 1
            fault.yield_token = counters.yields  # counted per process, so a client learns nothing of other clients
            self._state.outcome(process_id, Yielded(fault.fault_id, fault.yield_token), fault.reply_to)

    def came(self, waiter: StreamWaiter, error: UsmdError | None) -> None:
        """A page came in, or is unavailable: the first such page fails the fault."""
        fault, region = waiter.fault, waiter.region
        process = region.process
        fault.missing -= 1
        if not fault.failed:
            self._state.waits_less(process, 1)
        if error is not None:
            self._fail(fault, waiter.page, error)
            return
        pfn = region.table[waiter.page] - 1
        if pfn >= 0:
            self._hold(process, pfn, fault.write, waiter.told)
        if fault.missing == 0 and not fault.failed:
            runs = self.runs(region, fault.first, fault.first + fault.page_count)
            outcome = Allocated(fault.fault_id, runs, fault.yield_token)
            self._state.outcome(process.process_id, outcome, fault.reply_to)

    def _fail(self, fault: StreamFault, page: int, error: UsmdError) -> None:
        if fault.failed:
            return
        fault.failed = True
        process = fault.region.process
        self._state.waits_less(process, fault.missing)  # the failure is its answer, so it waits for no other page
        outcome = Failed(fault.fault_id, error, page, fault.yield_token)
        self._state.outcome(process.process_id, outcome, fault.reply_to)

    def runs(self, region: Region, first: int, end: int) -> tuple[tuple[int, int, int], ...]:
        """The present pages of a range as (first page, first frame, number of pages)."""
        table, state = region.table, self._state.frames.state
        found: list[tuple[int, int, int]] = []
        start = start_frame = length = 0
        for page in range(first, end):
            pfn = table[page] - 1
            if pfn < 0 or state[pfn] != FRAME_PRESENT:
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


def _row(plan: Allocation, page: int) -> tuple[int, int]:
    """First page and end of what an answer names of a plan: all of it, or with a stride the faulting page alone."""
    return (plan.first, plan.first + plan.count) if plan.stride == 1 else (page, page + 1)
