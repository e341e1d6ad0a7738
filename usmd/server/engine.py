"""Hands events to the core, performs its commands, and feeds completions back. Runs on the loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from usmd import log
from usmd.core import commands, events
from usmd.core.hints import Hint
from usmd.core.machine import Core
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.running import Running
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import UsmdError
from usmd.mechanism.base import Mechanism
from usmd.policies import registry
from usmd.server.command_failures import completion_of, owners_of, pages_of
from usmd.server.completions import PAGES_A_TURN, weight
from usmd.server.device_queue import TIMEOUT
from usmd.server.device_queues import DeviceQueues
from usmd.server.event_log import EventLog
from usmd.server.fault_times import FaultTimes
from usmd.server.replies import Replies
from usmd.server.sampling_cost import SamplingCost
from usmd.server.stream_messages import number_of_reason
from usmd.server.submitted_queue import queue_class
from usmd.server.taps import Taps
from usmd.swap.base import SwapDevice

OnOutcomes = Callable[[commands.Outcomes], None]
OnEnded = Callable[[commands.Ended], None]
OnFaultsFit = Callable[[commands.FaultsFit], None]
OnNotice = Callable[[commands.Notice], None]
OnRetirementEnded = Callable[[commands.RetirementEnded], None]
Touch = Callable[[Sequence[int]], None]

LAST_EVENTS: Final = 64
"""Events kept in memory, for the search for a defect; many more would not fit the CPU's first cache: 0.3 us a fault."""

_FAULTS: Final = frozenset((events.PageFaults, events.Faults, events.PageBatch))
"""Events that bring faults, which are timed."""


class Engine:
    """A core with its memory and devices. `taps`: recordings and shadows of processes.

    `on_*` are called on the loop, in the order of the commands. `last_events`: the last events with their times.
    """

    def __init__(
        self,
        settings: CoreSettings,
        memory: Mechanism,
        devices: Sequence[SwapDevice],
        cpu_clock: Callable[[], float] = time.thread_time,
        event_log: EventLog | None = None,
        device_timeout: float = TIMEOUT,
        running: Running | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`event_log` gets each event; None: no event is logged. `device_timeout`: as for `DeviceQueue`.

        `running`: as for `Core`. `clock` (seconds): for events, devices and times of faults.
        """
        self.now = clock
        """Seconds of the clock that events carry."""
        self.memory = memory
        self.device_infos = [DeviceInfo(device.name, device.slots) for device in devices]
        stopwatch: Callable[[], float] = time.perf_counter
        if event_log is not None:
            event_log.begin(settings, self.device_infos)
            stopwatch, cpu_clock = event_log.clock(stopwatch), event_log.clock(cpu_clock)
        self.core = Core(settings, self.device_infos, registry.make, stopwatch, cpu_clock=cpu_clock, running=running)
        self.event_log = event_log
        self.last_events: deque[tuple[float, events.Event]] = deque(maxlen=LAST_EVENTS)
        self.taps = Taps()
        self.devices = DeviceQueues(
            lambda device: queue_class(device)(device, memory, self.complete, timeout=device_timeout, clock=clock),
            self._failed,
        )
        for device in devices:
            self.devices.add(device)
        self.queues = self.devices.live
        """Of all devices, by number; only to be read."""
        self.between: Callable[[], object] = lambda: None
        """Called between two events of a chain; an event that it submits is handled at once."""
        self._is_between = False
        self.on_outcomes: OnOutcomes = lambda _: None
        self.on_ended: OnEnded = lambda _ended: None
        self.on_faults_fit: OnFaultsFit = lambda _fit: None
        self.on_notice: OnNotice = lambda _notice: None
        self.on_retirement_ended: OnRetirementEnded = lambda _ended: None
        self.fault_times = FaultTimes(self.core, clock)
        self.sampling_cost: SamplingCost | None = None
        """Measures sampled touches; None: there are none."""
        self._events: deque[events.Event] = deque()
        self._room = PAGES_A_TURN
        """What may still be handled in this turn; the next one has at least that."""
        self._pumping = False
        self._goes_on = False
        self._replies = Replies()
        """To hints that are being applied to their pages, and to discards."""
        self.performers = self._make_performers()
        """The function that performs each kind of command; only to be read."""

    def submit(self, event: events.Event, touch: Touch | None = None) -> commands.Answer | None:
        """Handle an event and those that follow from it; returns the core's answer, if there is one.

        A long chain of events continues in the loop's next turns. `touch`: as for `access`.

        Raises what the core raises for a refused request, which has then changed nothing. A command that cannot be
        performed is not the caller's error: its failure reaches the core as an event.
        """
        if self._is_between:
            self._is_between = False  # what its commands submit follows
            try:
                return self._handle(event, touch)
            finally:
                self._is_between = True
        if self._pumping:
            self._events.append(event)
            return None
        self._pumping = True
        try:
            answer = self._handle(event, touch)
            if self._events:
                self._pump()
        finally:
            self._pumping = False
        return answer

    def complete(self, event: events.Event) -> None:
        """As `submit`, for the completion of a command, which has no answer; raises nothing."""
        self._events.append(event)
        if not self._pumping:
            self._pump()

    @property
    def capacity(self) -> int:
        """Bytes of memory and of swap, together."""
        settings = self.core.state.settings
        return settings.frames * settings.page_size + self.devices.capacity

    @property
    def pending(self) -> Iterable[events.Event]:
        """Events that the core has not handled yet."""
        return self._events

    def _handle(self, event: events.Event, touch: Touch | None = None) -> commands.Answer | None:
        clock, log_of_events = self.now, self.event_log
        now = clock()
        self.last_events.append((now, event))
        todo = self.core.handle(event, now) if log_of_events is None else log_of_events.handle(self.core, event, now)
        if self.taps.live:
            try:
                self.taps.deliver(event, now)
            except Exception:  # noqa: BLE001 - logged with its traceback; a recording is no reason to lose commands
                log.event("defect", exc_info=True, method=f"taps of {type(event).__name__}")
        answer = self._perform(todo, touch)
        times = self.fault_times
        if times.looks and (times.waits or type(event) in _FAULTS):
            times.handled(event, todo, now)
        return answer

    def _handle_following(self, event: events.Event) -> None:
        """Handle an event without a caller, perhaps in the call of another event; raises nothing."""
        try:
            self._handle(event)
        except UsmdError as error:  # such as the end of a session that has just ended
            log.event("event_refused", kind=type(event).__name__, error=str(error))
        except Exception:  # noqa: BLE001 - logged with its traceback; the caller has not asked for this
            log.event("defect", exc_info=True, method=f"core of {type(event).__name__}")

    def access(self, event: events.Access, touch: Touch) -> commands.Accessed:
        """Handle a load or store; returns the core's answer. `touch` moves the bytes of the present frames.

        `touch` is called before any command that follows is performed, because such a command may take a frame away.
        """
        answer = self.submit(event, touch)
        if not isinstance(answer, commands.Accessed):
            raise TypeError(f"the core answered {answer!r} to Access")
        return answer

    def map(self, event: events.Map) -> commands.Mapped:
        """Make a region and its memory. If the core or the mechanism raises an error, there is no region."""
        mapped = self.submit(event)
        if not isinstance(mapped, commands.Mapped):
            raise TypeError(f"the core answered {mapped!r} to Map")
        try:
            self.memory.add_region(mapped.region_id, event.process_id, mapped.page_count)
        except BaseException:  # raised again; there is no region without memory
            self.submit(events.Unmap(event.process_id, mapped.region_id))
            raise
        return mapped

    def hint(
        self, process_id: int, region_id: int, offset: int, length: int | None, hint: Hint | None
    ) -> tuple[commands.HintSet, asyncio.Future[int]]:
        """Set a hint; returns the core's answer, and a future that is done when the hint is applied to all its pages.

        The future's result is the number of pages over the budget. Raises what the core raises.
        """
        reply_to, applied = self._replies.expect()
        answer: commands.Answer | None = None
        try:
            answer = self.submit(events.SetHint(process_id, region_id, offset, length, hint, reply_to))
        finally:
            if answer is None:
                self._replies.drop(reply_to)
        if not isinstance(answer, commands.HintSet):
            raise TypeError(f"the core answered {answer!r} to SetHint")
        if answer.over_budget is not None:
            self._replies.give(reply_to, answer.over_budget)
        return answer, applied

    def discard(self, process_id: int, region_id: int, first_page: int, page_count: int) -> asyncio.Future[int]:
        """Discard pages; the future is done when all are. Raises what the core raises."""
        reply_to, done = self._replies.expect()
        try:
            self.submit(events.Discard(process_id, region_id, first_page, page_count, reply_to))
        except UsmdError:
            self._replies.drop(reply_to)
            raise
        return done

    def _discarded(self, reply_to: int) -> None:
        self.memory.settle()  # a touch finds zeros from now on
        self._replies.give(reply_to)

    def _poison(self, command: commands.Poison) -> None:
        """Make touches of pages raise SIGBUS; publish a notice of each page for which threads wait instead."""
        for key in self.memory.poison(command.pages, [number_of_reason(reason) for reason in command.reasons]):
            region_id, page = key >> PAGE_BITS, key & PAGE_MASK
            self.on_notice(
                commands.Notice(
                    "thread_blocked",
                    0,
                    f"a thread that touches page {page} of region {region_id} waits for ever: this kernel has no "
                    "UFFDIO_POISON (Linux 6.6), so no error can be delivered; end the process, or ensure the page",
                    {"region_id": str(region_id), "page": str(page)},
                )
            )

    def tick(self) -> None:
        """Hand the core a Tick, give up late jobs of devices, and flush the event log."""
        self.complete(events.Tick(self.devices.shares(self.core.state.swap)))
        now = self.now()
        self.fault_times.tick()
        self.devices.look(now)
        if self.event_log is not None:
            self.event_log.flush()

    def _pump(self) -> None:
        """Handle what follows from events, as far as this turn of the loop has room for it."""
        following = self._events
        self._pumping = True
        try:
            while following and self._room > 0:
                self._is_between = True
                try:
                    self.between()
                finally:
                    self._is_between = False
                event = following.popleft()
                self._room -= weight(event)
                self._handle_following(event)
        finally:
            self._pumping = False
        if self._room <= 0 and not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on, self._room = False, PAGES_A_TURN
        self._pump()

    def _perform(self, todo: Sequence[commands.Command], touch: Touch | None) -> commands.Answer | None:
        """Perform all commands in their order; returns the one that is an answer, if there is one.

        Then raises what `touch` has raised, which is its caller's error.
        """
        answer: commands.Answer | None = None
        failure: Exception | None = None
        performers = self.performers
        for command in todo:
            perform = performers.get(type(command))
            if perform is not None:
                try:
                    perform(command)
                except Exception as error:  # noqa: BLE001 - logged with its traceback, and reported to the core
                    self._failed(command, error)
            elif not isinstance(command, commands.Answer):
                self._failed(command, LookupError(f"nothing performs {type(command).__name__}"))
            else:
                answer = command
                if touch is not None and isinstance(command, commands.Accessed):
                    try:
                        touch(command.frames)
                    except Exception as error:  # noqa: BLE001 - raised below
                        failure = error
        if failure is not None:
            raise failure
        return answer

    def _failed(self, command: commands.Command, error: Exception) -> None:
        """Log why a command could not be performed, and report its failure to the core."""
        log.event("command_failed", exc_info=True, command=type(command).__name__)
        why = f"usmd cannot perform {type(command).__name__}: {type(error).__name__}"
        following = completion_of(command, why)
        if following is None:
            regions, processes = self.core.state.regions, owners_of(command)
            keys = pages_of(command)
            processes |= {regions[key >> PAGE_BITS].process.process_id for key in keys if key >> PAGE_BITS in regions}
            following = events.Broken(sorted(processes), why) if processes else None
        if following is not None:
            self._events.append(following)

    def _make_performers(self) -> dict[type[commands.Command], Callable[[Any], object]]:
        """The function that performs each kind of command that is not an answer."""
        memory = self.memory

        def zero_fill(command: commands.ZeroFill) -> None:
            memory.zero(command.frames, command.pages)

        def release(command: commands.Release) -> None:
            memory.release(command.pages)

        def discarded(command: commands.Discarded) -> None:  # comes before the release of the last pages
            asyncio.get_running_loop().call_soon(self._discarded, command.reply_to)

        def restore(command: commands.Restore) -> None:
            memory.restore(command.pages, command.writable)

        def wake(command: commands.Wake) -> None:
            emptied = memory.wake(command.pages)
            if emptied:
                self._events.append(events.Punched(emptied))

        def map_again(command: commands.MapAgain) -> None:
            memory.map_again(command.pages, command.writable)

        def protect(command: commands.Protect) -> None:
            zero = memory.protect(command.frames, command.pages)
            self._events.append(events.Protected(command.ticket, command.frames, zero))

        def sample(command: commands.Sample) -> None:
            if self.sampling_cost is None:
                memory.sample(command.pages)
            else:
                self.sampling_cost.take_out(lambda: memory.sample(command.pages))

        def regions_gone(command: commands.RegionsGone) -> None:
            try:
                memory.drop_regions(command.region_ids, ended=command.ended)
            finally:
                self.devices.regions_gone(command.region_ids)

        def ended(command: commands.Ended) -> None:
            try:
                self.taps.ended(command.process_id, command.reason)
            finally:
                self.on_ended(command)

        return {
            commands.Outcomes: lambda command: self.on_outcomes(command),
            commands.ZeroFill: zero_fill,
            commands.Release: release,
            commands.Restore: restore,
            commands.MapAgain: map_again,
            commands.Wake: wake,
            commands.Sample: sample,
            commands.Poison: self._poison,
            commands.RegionsGone: regions_gone,
            commands.HintApplied: lambda command: self._replies.give(command.reply_to, command.over_budget),
            commands.Discarded: discarded,
            commands.Protect: protect,
            commands.WriteSlots: self.devices.write,
            commands.ReadSlots: self.devices.read,
            commands.DiscardSlots: self.devices.discard,
            commands.RetirementEnded: lambda command: self.on_retirement_ended(command),
            commands.GoOn: lambda _: asyncio.get_running_loop().call_soon(self.complete, events.GoOn()),
            commands.Ended: ended,
            commands.FaultsFit: lambda command: self.on_faults_fit(command),
            commands.Notice: lambda command: self.on_notice(command),
        }

    async def close(self) -> None:
        """Wait for the devices, close them, and give the memory back."""
        hang = await self.devices.close()
        try:
            self.memory.close()
        except BufferError:
            if not hang:
                raise
            # A late write still reads the memory, which ends with the process.
