"""A core without bytes for one process with one region; replays and the simulations of shadows run it.

Their owners choose touches, times and slots.
"""

from __future__ import annotations

import sys
from typing import Final

from usmd.core import commands, events
from usmd.core.instant import InstantCore
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import InvalidArgument
from usmd.policies import registry

MAX_HINT_RANGES: Final = 1 << 24
ALL_PARTS: Final = sys.maxsize


class Simulation:
    """The core, and the first error of a policy as `problem` (empty: none so far).

    A policy is never replaced here, however many errors it makes, because its behaviour is to be measured.
    """

    def __init__(
        self, *, frames: int, pages: int, page_size: int, deny_budget: int, slots: int, interruptible: bool = True
    ) -> None:
        """Raises InvalidArgument for invalid numbers. `slots`: size of the one swap device in pages."""
        settings = CoreSettings(
            frames=frames,
            page_size=page_size,
            deny_budget=deny_budget,
            deny_budget_total=deny_budget,
            max_mapped=pages * page_size,
            max_hint_ranges=MAX_HINT_RANGES,
            policy_errors=0,
            eviction_records=0,
            interruptible=interruptible,
        )
        self.core = InstantCore(settings, [DeviceInfo("swap", slots)], registry.make)
        self._goes_on = False
        """True if the core has asked for a GoOn."""
        self.problem = ""
        self._length = pages * page_size

    def begin(self, alloc: str, evict: str) -> None:
        """Start the process, number 1, with region 1 of all pages.

        Raises InvalidArgument or UnknownPolicy, also if a policy's constructor fails.
        """
        self.do(events.Attach("simulation", alloc, evict, "refuse"), 0.0)
        if self.problem:
            raise InvalidArgument(f"{self.problem.removesuffix(' (1 so far)')}; correct it, or name another")
        self.do(events.Map(1, self._length, ""), 0.0)
        self.process = self.core.state.processes[1]

    def do(self, event: events.Event, now: float, parts: int = 0) -> bool:
        """Have the core handle an event, and then at most `parts` parts of its deferred work.

        Returns whether there is work left.
        """
        if self._goes_on:
            self._handle(events.GoOn(), now)
        self._handle(event, now)
        while self._goes_on and parts > 0:
            parts -= 1
            self._handle(events.GoOn(), now)
        return self._goes_on

    def _handle(self, event: events.Event, now: float) -> None:
        if isinstance(event, events.GoOn):
            self._goes_on = False
        for command in self.core.handle(event, now):
            if isinstance(command, commands.Notice) and command.kind == "policy_error" and not self.problem:
                self.problem = command.message
            self._goes_on |= isinstance(command, commands.GoOn)
