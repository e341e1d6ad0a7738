"""The one door of the core: `Core.handle(event, now)` takes an event and returns the commands that follow from it.

A refused request raises a UsmdError and changes nothing. All other failures are reported by commands. The core never
waits, and two cores that get the same events in the same order return the same commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from usmd.core import commands, events
from usmd.core.background_reclaim import BackgroundReclaim
from usmd.core.budget_queue import BudgetQueue
from usmd.core.discarding import Discarding
from usmd.core.dont_need import DontNeed
from usmd.core.faults import Faults
from usmd.core.fence import ANYTHING
from usmd.core.frames import ALONG, DIRTY, HELD, KEPT, PRESENT
from usmd.core.hinting import Hinting
from usmd.core.holds import Holds
from usmd.core.ladder import Ladder
from usmd.core.limits import Limits
from usmd.core.mapping import Mapping
from usmd.core.memory_queue import MemoryQueue
from usmd.core.migration import Migration
from usmd.core.page_life import PageLife
from usmd.core.page_table import CHUNK_BITS, CHUNK_MASK
from usmd.core.pins import Pins
from usmd.core.placement import Placement
from usmd.core.real_faults import RealFaults
from usmd.core.reclaim import Reclaim
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.release import Release
from usmd.core.retirement import Retirement
from usmd.core.running import Running
from usmd.core.sampler import Sampler
from usmd.core.settings import CoreSettings, DeviceInfo, changed
from usmd.core.state import State
from usmd.core.view import MakePolicy
from usmd.core.windows import Windows
from usmd.core.work import DoPart, Kind, one_by_one
from usmd.errors import OutOfRange

NOTED: Final = HELD | ALONG
"""Flags of a page of which the next touch is told."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Core:
    """The state machine.

    Reports, invariants and tests read `state`, `life`, `reclaim`, `faults`, and the pages that wait for a frame,
    `waiting`, `waiting_of` and `over_budget` (see `Placement`), `frozen` ones, and the `windows` that come in by parts.
    """

    hinted_at_once: ClassVar[int | None] = None
    """Pages that one event brings in line with a hint; None: `work.PAGES_AN_EVENT`."""
    windows_in_parts: ClassVar[bool] = True
    """Whether a window of more than `max_fault_pages` comes in by parts, of which the fault waits for its own alone."""

    def __init__(
        self,
        settings: CoreSettings,
        devices: Sequence[DeviceInfo],
        make_policy: MakePolicy,
        stopwatch: Callable[[], float] = float,
        life: type[PageLife] = PageLife,
        cpu_clock: Callable[[], float] | None = None,
        running: Running | None = None,
        migration: type[Migration] = Migration,
    ) -> None:
        """Start with all frames free.

        `stopwatch` (seconds) times calls of policies; the default always returns 0. After a call that took long by it,
        calls are timed by `cpu_clock` (seconds of CPU time, which costs more to read), and only that finds slow calls;
        None: `stopwatch` alone decides. `running`: where calls of policies are marked for a watch; None: there is none.
        """
        self.state = State(settings, devices, make_policy, stopwatch, cpu_clock, running)
        self.life = life(self.state)
        self._frames = self.state.frames
        self._high = settings.high
        self._migration = migration(self.state, self.life)
        self.reclaim = Reclaim(self.state, self.life)
        self._placement = Placement(self.state, self.life)
        self.waiting, self.waiting_of = self._placement.waiting, self._placement.waiting_of
        self._memory_queue = MemoryQueue(self.state, self.life, self._placement, self.reclaim)
        self._budget_queue = BudgetQueue(self.state, self.life, self._placement, self.reclaim)
        self.over_budget = self._placement.over_budget
        self.frozen = self._memory_queue.frozen.of
        self._holds = Holds(self.state)
        self.windows = Windows(self.state, self.life, self._placement)
        windows = self.windows if self.windows_in_parts else None
        self._ladder = Ladder(self.state, self.life, self._placement, windows)
        self.faults = Faults(self.state, self._ladder, self._placement, self._holds)
        self._sampler = Sampler(self.state)
        self._real_faults = RealFaults(
            self.state, self.life, self._ladder, self._placement, self._holds, self._sampler
        )  # fmt: skip
        self._queue = self.state.work
        self._work = self.state.work.queue
        self._borrowers = self.state.budgets.borrowers
        self._background = BackgroundReclaim(self.state, self.life, self._migration, self._placement, self.reclaim)
        release = Release(self.state, self.life)
        self.retirement = Retirement(self.state, self.life, self._migration, self._placement, self.reclaim)
        self._mapping = Mapping(self.state, self._memory_queue, self._budget_queue, release, self._sampler)
        self._hinting = Hinting(self.state, self.life, self._placement, self.hinted_at_once)
        pins = Pins(self.state, self.life, self._sampler)
        limits = Limits(self.state, self.life, self._budget_queue)
        discarding = Discarding(self.state, self.life)
        self._parts: dict[Kind, DoPart] = {
            Kind.REFRESH: self._hinting.refresh_part,
            Kind.RELEASE: release.part,
            Kind.DISCARD: discarding.part,
            Kind.EVICT: DontNeed(self.state, self.life, self.reclaim.slots).part,
            Kind.FETCH: self._hinting.fetch_part,
            Kind.TELL_SWAPPED: one_by_one,
            Kind.BACKGROUND: one_by_one,
            Kind.HAND_OVER: one_by_one,
            Kind.NOTE: one_by_one,
            Kind.SHRINK: one_by_one,
            Kind.LET_GO: one_by_one,
            Kind.SEARCH: one_by_one,
            Kind.TELL: one_by_one,
            Kind.WINDOW: self.windows.part,
            Kind.RETIRE: self.retirement.part,
            Kind.NOTIFY: self.state.waits.part,
        }
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Attach: self._mapping.attach,
            events.Detach: self._detach,
            events.Broken: self._broken,
            events.Map: self._mapping.map,
            events.Unmap: self._mapping.unmap,
            events.Discard: discarding.begin,
            events.SetHint: self._hinting.set,
            events.SetLimits: limits.set,
            events.SetUserLimits: limits.set_user,
            events.SetPolicy: self._mapping.set_policy,
            events.Faults: self.faults.handle,
            events.PageBatch: self.faults.handle_pages,
            events.PageFaults: self._real_faults.handle,
            events.SetSampling: self._sampler.set,
            events.Pin: pins.pin,
            events.Unpin: pins.unpin,
            events.Access: self._access,
            events.Protected: self._protected,
            events.Punched: self._punched,
            events.SwapOutDone: self._swap_out_done,
            events.SwapInDone: self._swap_in_done,
            events.Configure: self._configure,
            events.AddDevice: self.retirement.add,
            events.RetireDevice: self.retirement.begin,
            events.CancelRetirement: self.retirement.cancel,
            events.DeviceClosed: self.retirement.closed,
            events.Tick: self._tick,
            events.GoOn: self._gone_on,
        }

    def handle(self, event: events.Event, now: float) -> list[commands.Command]:
        """Handle one event at time `now` (seconds, never falling); returns the commands to perform, in order.

        Raises UsmdError for a refused request.
        """
        state = self.state
        state.now = now
        try:
            self._handlers[type(event)](event)
            if self._borrowers:
                self._budget_queue.take_back()
            if state.more_to_do:
                self._do_before_reclaim()
            if self._frames.free < state.begin_sampling_below:
                self._sampler.begin_next()
            if self._work and not self._queue.asked:
                self._go_on()
            if self._frames.free < self._high + state.ahead:
                self.reclaim.between_marks()
            else:
                self.reclaim.reclaiming = False
            if state.more_to_do:
                self._do_after_reclaim()
        finally:
            state.running.call = None
        return state.take_commands()

    def _do_before_reclaim(self) -> None:
        """What is not to be done after most events, see `State.more_to_do`."""
        state = self.state
        if self._faults_wait:
            self._serve_faults()
        if state.now >= state.background_at:
            self._background.begin()
        if state.misbehaving:
            self._mapping.replace_misbehaving()

    def _do_after_reclaim(self) -> None:
        """The rest of that."""
        state = self.state
        if state.forced_victims:
            self.reclaim.evict_forced()
        if state.sampling_wanted:
            self._sampler.take_out()
        state.more_to_do = self.has_more_to_do

    @property
    def _faults_wait(self) -> bool:
        return bool(self.waiting or self.over_budget or self.frozen)

    @property
    def has_more_to_do(self) -> bool:
        """Whether `State.more_to_do` must be set."""
        state = self.state
        victims_or_samples = state.forced_victims or state.sampling_wanted
        return bool(self._faults_wait or state.background_at < inf or state.misbehaving or victims_or_samples)

    def _serve_faults(self) -> None:
        """Serve the faults that wait, and then the frozen ones that it is time for."""
        self._serve_queues()
        if self.frozen:
            for page in self._memory_queue.frozen.due():
                self._placement.wait(page)
                self._serve_queues()

    def _serve_queues(self) -> None:
        """Serve both queues of faults until neither has put pages into the other."""
        moved = True
        while moved:
            if self.waiting:
                self._serve_waiting()
            waiting = len(self.waiting)
            if self.over_budget:
                self._budget_queue.serve()
            moved = len(self.waiting) > waiting

    def _serve_waiting(self) -> None:
        queue = self._memory_queue
        queue.serve()
        while queue.victim_of_oom is not None:
            victim = self.state.processes[queue.victim_of_oom]
            queue.victim_of_oom = None
            self._mapping.end(
                victim,
                f"out of memory: it held {victim.resident} of {self.state.frames.count} frames and none was left",
                killed=True,
            )
            queue.serve()

    def _go_on(self) -> None:
        """Do a part of the deferred work, and ask the shell once for the GoOn that does the next part."""
        more = self.state.work.go_on(self._parts)
        pieces = len(self._work)
        if self._faults_wait:
            self._serve_faults()
        if (more or len(self._work) > pieces) and not self._queue.asked:
            self._queue.asked = True
            self.state.first.append(commands.GoOn())

    def _gone_on(self, event: events.GoOn) -> None:
        del event  # `handle` does the part, as with any event while no GoOn is on its way
        self._queue.asked = False

    def _detach(self, event: events.Detach) -> None:
        self._mapping.end(self.state.process(event.process_id), event.reason, killed=False)

    def _broken(self, event: events.Broken) -> None:
        for process_id in event.process_ids:
            process = self.state.processes.get(process_id)
            if process is not None:
                self._mapping.end(process, event.reason, killed=True)

    def _access(self, event: events.Access) -> None:
        state = self.state
        region = state.regions.get(event.region_id)
        if region is None or (process := region.process).process_id != event.process_id or process.ended is not None:
            region = state.region(event.process_id, event.region_id)  # raises NotFound
            process = region.process
        first, count = event.first_page, event.page_count
        if count < 1 or first < 0 or first + count > region.page_count:
            raise OutOfRange(
                f"pages {first} to {first + count - 1} of region {region.region_id}, which has pages 0 to "
                f"{region.page_count - 1}"
            )
        frames, chunks, write = self._frames, region.table.chunks, event.write
        states, all_flags = frames.state, frames.flags
        policies, touches = process.policies, process.touches
        on_access = policies.on_access
        present: list[int] = []
        absent: list[int] = []
        for page in range(first, first + count):
            chunk = chunks[page >> CHUNK_BITS]
            pfn: int = -1 if chunk is None else chunk[page & CHUNK_MASK] - 1
            if pfn < 0 or states[pfn] != PRESENT:
                absent.append(page)
            elif not absent:
                present.append(pfn)
                flags = all_flags[pfn]
                if write and not flags & DIRTY:
                    self.life.dirty(pfn)
                if flags & NOTED:
                    if flags & ALONG:
                        self.life.used(pfn)
                    if flags & HELD:  # this touch caused the fault, which already counted it
                        self.life.end_hold(pfn)
                        continue
                if touches is not None:
                    touches.extend((region.first_key + page, write))
                if on_access is not None and not flags & KEPT:
                    state.running.call = policies.evict_call
                    try:
                        on_access(pfn, write)
                    except ANYTHING as error:  # a policy may raise anything
                        policies.raised("evict", "page_accessed", error)
                        on_access = policies.on_access  # None if that call hung
        process.counters.accesses += len(present)
        state.first.append(commands.Accessed(present, absent))

    def _end_holds(self) -> None:
        """End the holds whose time is over."""
        holds = self.state.holds
        while holds:
            pfn, until = next(iter(holds.items()))
            if until > self.state.now:
                break
            self.life.end_hold(pfn)

    def _protected(self, event: events.Protected) -> None:
        self.reclaim.went_on()
        for pfn, zero in zip(event.frames, event.zero, strict=True):
            self.life.protected(event.ticket, pfn, zero)
            if zero is None:
                self.reclaim.passed_over.could_not_protect(pfn)
            else:
                self.reclaim.passed_over.protected()

    def _punched(self, event: events.Punched) -> None:
        for key in event.pages:
            region = self.state.regions.get(key >> PAGE_BITS)
            pfn = -1 if region is None else region.table[key & PAGE_MASK] - 1
            if pfn >= 0 and self._frames.state[pfn] == PRESENT:
                self.life.dirty(pfn)

    def _swap_out_done(self, event: events.SwapOutDone) -> None:
        self.reclaim.went_on()
        for reference, error in zip(event.slots, event.errors, strict=True):
            unstored = self.life.written(reference, error)
            if unstored is not None:
                self.reclaim.passed_over.could_not_store(unstored)

    def _swap_in_done(self, event: events.SwapInDone) -> None:
        self.reclaim.went_on()
        migration, filled = self._migration, self.life.filled
        for pfn, error in zip(event.frames, event.errors, strict=True):
            if pfn in migration.arriving:
                migration.arrived(pfn, error)
            else:
                filled(pfn, error)

    def _configure(self, event: events.Configure) -> None:
        settings = changed(self.state.settings, event)
        self.state.guarantees.check_settings(settings)
        self.state.guarantees.configured(settings)
        self.state.settings = settings
        self._high = event.high
        self._placement.configured()

    def _tick(self, event: events.Tick) -> None:
        for number, share in event.held:
            self.state.swap.devices[number].held = share
        self.state.choose_stopwatch()
        self.state.ahead = self.state.ahead * 7 // 8
        self._hinting.expire()
        self._end_holds()
        if self.state.now >= self.state.policy_returns:
            self._mapping.bring_back_policies()
