"""Real page faults: a thread sleeps in the kernel until its page is filled, restored or poisoned.

No outcome answers such a fault. The fill itself is a command: `ZeroFill`, or `ReadSlots`, after which the shell fills.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.events import MINOR, MISSING, PROTECTED
from usmd.core.frames import ALONG, DIRTY, KEPT
from usmd.core.frames import PRESENT as FRAME_PRESENT
from usmd.core.ladder import FILLED, FILLING, PRESENT, SWAPPED
from usmd.core.placement import MAX_GUESSES
from usmd.core.waiters import Waiter
from usmd.core.write_order import AHEAD
from usmd.errors import Unmapped

if TYPE_CHECKING:
    from usmd.core.events import PageFault, PageFaults
    from usmd.core.holds import Holds
    from usmd.core.ladder import Ladder
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.region import Process, Region
    from usmd.core.sampler import Sampler
    from usmd.core.state import State
    from usmd.errors import UsmdError


class ThreadWaiter(Waiter):
    """A thread that sleeps in the kernel until its page is present.

    `protected`: its fault is PROTECTED. `parked`: the page was coming in already, so the thread may have resumed before
    the core handles the completion, and wait anew.
    """

    __slots__ = ("_faults", "parked", "protected")

    def __init__(self, faults: RealFaults, region: Region, fault: PageFault, *, parked: bool) -> None:
        super().__init__(region, fault.page, write=fault.write or fault.kind == PROTECTED)
        self._faults = faults
        self.protected = fault.kind == PROTECTED
        self.parked = parked

    @property
    def failed(self) -> bool:
        """Never: it waits for one page."""
        return False

    def came(self, error: UsmdError | None) -> None:
        """Resume the thread, or poison the page."""
        self._faults.came(self, error)


class RealFaults:
    """Handles batches of real page faults."""

    def __init__(
        self, state: State, life: PageLife, ladder: Ladder, placement: Placement, holds: Holds, sampler: Sampler
    ) -> None:
        self._state = state
        self._life = life
        self._ladder = ladder
        self._placement = placement
        self._sampler = sampler
        self._count_touch = holds.count_touch
        self._resolve = ladder.resolve

    def handle(self, event: PageFaults) -> None:
        """Handle real page faults; each ends when its page is filled, restored or poisoned.

        A frame is held until MAX_RECENT other real faults have come. The woken thread needs it a moment longer if its
        instruction touches several pages.
        """
        state, resolve = self._state, self._resolve
        process = state.processes.get(event.process_id)
        if process is None:
            return  # its session has just ended
        recent, regions = state.recent, process.regions
        self._placement.guesses_left = MAX_GUESSES
        for fault in event.faults:
            region = regions.get(fault.region_id)
            page = fault.page
            if region is None or not 0 <= page < region.page_count:
                continue  # gone meanwhile; the shell poisons what its client still maps
            kind, write = fault.kind, fault.write
            if kind != MISSING:
                if kind == MINOR and self._touched(region, page, write=write):
                    continue
                write = write or kind == PROTECTED
            outcome = resolve(region, page, write)
            found, pfn, _, _ = outcome
            if found == FILLED:
                if process.touches is not None:
                    self._count_touch(process, pfn, write=write, told=True)
                recent.append(pfn)
            elif found < FILLED:
                if kind == PROTECTED:
                    self._written(region, page, pfn)
                else:
                    self._count_touch(process, pfn, write=write, told=found != PRESENT)
                    state.wakes.append(state.frames.page[pfn])
                recent.append(pfn)
            else:
                writable = write
                if found == SWAPPED:
                    writable = self._comes_writable(region, page, write=write, alone=outcome[2].count == 1)
                waiter = ThreadWaiter(self, region, fault, parked=found == FILLING)
                if self._ladder.bring_in(waiter, outcome, writable=writable):
                    process.waits_more()
                else:
                    pfn = region.table[page] - 1
                    recent.append(pfn)
                    self._count_touch(process, pfn, write=write, told=True)

    def _touched(self, region: Region, page: int, *, write: bool) -> bool:
        """A touch of a PRESENT page that was out of the page table; False if the page is not PRESENT."""
        state = self._state
        pfn = region.table[page] - 1
        if pfn < 0 or state.frames.state[pfn] != FRAME_PRESENT:
            return False
        process = region.process
        process.counters.minor_faults_sampled += 1
        if process.sampling is not None and process.sampling.heard(pfn):
            process.counters.rescued += 1
        self._count_access(process, pfn, write=write)
        if write and not state.frames.flags[pfn] & DIRTY:
            self._life.dirty(pfn)
            self._first_written(region, page)
        self._sampler.put_back(pfn)
        state.recent.append(pfn)
        return True

    def _count_access(self, process: Process, pfn: int, *, write: bool) -> None:
        """Count a touch that brought nothing in: the page is PRESENT, and the fault only told of it."""
        frames = self._state.frames
        if frames.flags[pfn] & ALONG:
            self._life.used(pfn)
        if process.touches is not None:
            process.touches.extend((frames.page[pfn], write))
        if not frames.flags[pfn] & KEPT:
            process.policies.page_accessed(pfn, write=write)

    @staticmethod
    def _comes_writable(region: Region, page: int, *, write: bool, alone: bool) -> bool:
        """Whether a swapped page comes in writable: for a write, or because one is foreseen."""
        order = region.write_order
        if write:
            order.written(page)
        elif not order.foresees(page, alone=alone):
            return False
        order.opened(page)
        return True

    def _written(self, region: Region, page: int, pfn: int) -> None:
        """A write to a PRESENT, protected page: count the touch, and make the page writable."""
        life, process = self._life, region.process
        process.counters.protect_faults += 1
        self._count_access(process, pfn, write=True)
        life.dirty(pfn)
        life.restore(pfn)
        self._first_written(region, page)

    def _first_written(self, region: Region, page: int) -> None:
        """A clean page was written to. While the region is written in order, the pages behind it become writable."""
        order = region.write_order
        order.written_later()
        if order.written(page):
            self._open_ahead(region, page + 1)

    def _open_ahead(self, region: Region, page: int) -> None:
        """The region is written in order: make the clean pages from `page` on writable, to save their faults."""
        frames, table = self._state.frames, region.table
        for ahead in range(page, min(page + AHEAD, region.page_count)):
            pfn = table[ahead] - 1
            if pfn < 0 or frames.state[pfn] != FRAME_PRESENT:
                break
            if not frames.flags[pfn] & DIRTY:
                self._life.dirty(pfn)
                self._life.restore(pfn)
            region.write_order.opened(ahead)

    def came(self, waiter: ThreadWaiter, error: UsmdError | None) -> None:
        """A page came in, or `error` says why it cannot."""
        region, state = waiter.region, self._state
        process = region.process
        state.waits_less(process, 1)
        if error is not None:
            self._poison(region, waiter.page, error)
            return
        pfn = region.table[waiter.page] - 1
        if pfn < 0 or state.frames.state[pfn] != FRAME_PRESENT:
            return  # it has left memory again before its turn, see `Waits`; the thread resumed with the fill
        state.recent.append(pfn)
        if not waiter.write or state.frames.flags[pfn] & DIRTY:  # else its write faults again, and is counted then
            self._count_touch(process, pfn, write=waiter.write, told=waiter.told)
        if waiter.parked:
            if waiter.protected:
                self._written(region, waiter.page, pfn)
            else:
                state.wakes.append(state.frames.page[pfn])

    def _poison(self, region: Region, page: int, error: UsmdError) -> None:
        """A real fault cannot be served: the threads that wait get SIGBUS, the one error that the kernel has.

        If the region is gone, that is what its client has asked for, and no failure to report. The thread of a parked
        fault may have gone on long ago. Poison hurts no page of another region at the same addresses: the shell knows
        where each region is, and the kernel poisons what is missing alone.
        """
        process = region.process
        self._state.poisons[region.first_key + page] = error.reason
        if isinstance(error, Unmapped):
            return
        process.counters.poisoned += 1
        self._state.notice(
            "page_poisoned",
            process.process_id,
            f"page {page} of region {region.region_id} of {process.name}: a touch of it is SIGBUS now, because {error}",
            {"region_id": str(region.region_id), "page": str(page), "reason": error.reason},
        )
