"""The shell's heart: hands events to the core, performs its commands, and feeds completions back. Runs on the loop.

Covers time, bytes and devices. Who may send which event is `client_service`'s business.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from usmd.core import commands, events
from usmd.core.machine import Core
from usmd.core.state import CoreSettings
from usmd.core.swap_map import SLOT_BITS, DeviceInfo
from usmd.mechanism.simulated import SimulatedMemory
from usmd.policies import registry
from usmd.server.device_queue import DeviceQueue
from usmd.swap.base import SwapDevice

OnOutcomes = Callable[[int, Sequence[commands.Outcome]], None]
OnEnded = Callable[[commands.Ended], None]
OnNotice = Callable[[commands.Notice], None]
Touch = Callable[[Sequence[int]], None]

EVENTS_A_TURN: Final = 4
"""Events that follow from each other handled at a stretch; then the loop has its turn, so that a long chain of
evictions and fills for one client holds up nobody else."""


class Engine:
    """A core with its memory and devices. `on_*` are called on the loop, in the order of the commands."""

    def __init__(self, settings: CoreSettings, memory: SimulatedMemory, devices: Sequence[SwapDevice]) -> None:
        self.memory = memory
        self.core = Core(
            settings,
            [DeviceInfo(device.name, device.slots) for device in devices],
            registry.make,
            time.perf_counter,
        )
        self.queues = [DeviceQueue(device, memory.buffer, self.submit) for device in devices]
        self.on_outcomes: OnOutcomes = lambda _process, _outcomes: None
        self.on_ended: OnEnded = lambda _ended: None
        self.on_notice: OnNotice = lambda _notice: None
        self._events: deque[events.Event] = deque()
        self._pumping = False
        self._goes_on = False
        self._touch: Touch | None = None

    @staticmethod
    def now() -> float:
        """Seconds of the clock that events carry."""
        return time.monotonic()

    def submit(self, event: events.Event) -> commands.Command | None:
        """Handle an event and what follows at once; returns the core's answer to it, if it has one.

        A long chain of what follows goes on in the loop's next turns.

        Raises what the core raises for a request that cannot be carried out; then nothing has changed.
        """
        if self._pumping:
            self._events.append(event)
            return None
        self._pumping = True
        try:
            answer = self._perform(self.core.handle(event, time.monotonic()))
            self._pump()
        finally:
            self._pumping = False
        return answer

    def access(self, event: events.Access, touch: Touch) -> commands.Accessed:
        """Handle a load or store: `touch` moves the bytes of the frames that are present, and the answer is returned.

        It is called before any command that follows is performed, because such a command may take a frame away.
        """
        self._touch = touch
        try:
            answer = self.submit(event)
        finally:
            self._touch = None
        if not isinstance(answer, commands.Accessed):
            raise TypeError(f"the core answered {answer!r} to Access")
        return answer

    def _pump(self) -> None:
        for _ in range(EVENTS_A_TURN):
            if not self._events:
                return
            self._perform(self.core.handle(self._events.popleft(), time.monotonic()))
        if self._events and not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._pumping = True
        try:
            self._pump()
        finally:
            self._pumping = False

    def _perform(self, todo: Sequence[commands.Command]) -> commands.Command | None:
        answer: commands.Command | None = None
        for command in todo:
            match command:
                case commands.Outcomes():
                    self.on_outcomes(command.process_id, command.outcomes)
                case commands.Accessed():
                    answer = command
                    if self._touch is not None:
                        self._touch(command.frames)
                case commands.ZeroFill():
                    self.memory.zero(command.frames)
                case commands.Protect():
                    zero = self.memory.protect(command.frames)
                    self._events.append(events.Protected(command.ticket, command.frames, zero))
                case commands.WriteSlots():
                    for number, pages in self._by_device(command.pages):
                        self.queues[number].write(pages)
                case commands.ReadSlots():
                    for number, pages in self._by_device(command.pages):
                        self.queues[number].read(pages)
                case commands.DiscardSlots():
                    for number, references in self._split(command.slots):
                        self.queues[number].device.discard(references)
                case commands.GoOn():
                    self._events.append(events.GoOn())
                case commands.Ended():
                    self.on_ended(command)
                case commands.Notice():
                    self.on_notice(command)
                case _:
                    answer = command
        return answer

    def _by_device(self, pages: Sequence[commands.SlotPage]) -> list[tuple[int, list[commands.SlotPage]]]:
        found: dict[int, list[commands.SlotPage]] = {}
        for page in pages:
            found.setdefault(page.slot >> SLOT_BITS, []).append(page)
        return list(found.items())

    def _split(self, references: Sequence[int]) -> list[tuple[int, list[int]]]:
        found: dict[int, list[int]] = {}
        for reference in references:
            found.setdefault(reference >> SLOT_BITS, []).append(reference & ((1 << SLOT_BITS) - 1))
        return list(found.items())

    async def close(self) -> None:
        """Wait for the devices, close them, and give the memory back."""
        for queue in self.queues:
            await queue.close()
        self.memory.close()
