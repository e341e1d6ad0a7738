"""Runs an evict policy beside a live process, on its touches: the real core, without bytes.

Whatever the policy does, the daemon continues. If it errs too often or takes too long, the simulation is stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from usmd.core import events
from usmd.core.fence import ANYTHING, place
from usmd.core.running import Call, Running
from usmd.core.settings import DeviceInfo
from usmd.core.swap_map import MAX_DEVICES, DeviceMap
from usmd.core.touches import Touches
from usmd.errors import EndsRun, InvalidArgument, UsmdError
from usmd.lab.simulation import Simulation
from usmd.safe_repr import safe_repr
from usmd.server.cpu_clock import spent

MAX_ERRORS: Final = 100
"""Errors of its policy after which a simulation is stopped."""
MAX_SECONDS: Final = 0.25
"""Time that one run of touches may take, without waits for a CPU: over a hundred times what it should take."""
MAX_SLOW: Final = 3
"""Runs that may take longer before a simulation is stopped: the daemon may have been stopped meanwhile."""
PARTS: Final = 64
"""Parts of a hint's deferred work that are done at once; the others are done with the touches that follow."""
FIRST_SLOTS: Final = 4096
"""Swap slots to begin with; more are added if they are needed."""


class SimulationHung(EndsRun):
    """The watch raises it within a simulation whose policy does not return from a call."""


_CALL: Final = Call(0, "evict", SimulationHung)
"""The mark of all calls for one event: a simulation's policy is called without a mark for each call."""


class ShadowSimulation:
    """One policy with memory of its own that has no bytes: one region of `pages` pages, and `frames` frames.

    `stopped`: it takes no more touches. `touched` counts the touches of the live process that it took or that sampling
    left out, and `seconds` is the time that they took.
    """

    def __init__(
        self,
        specification: str,
        *,
        frames: int,
        pages: int,
        page_size: int,
        deny_budget: int,
        running: Running | None = None,
    ) -> None:
        """Raises UnknownPolicy or InvalidArgument. `running` gets the mark of calls, which a watch reads."""
        self._running = Running() if running is None else running
        self.specification = specification
        self.stopped = False
        self.touched = 0
        self.seconds = 0.0
        self._slow = 0
        self._simulation = Simulation(
            frames=frames, pages=pages, page_size=page_size, deny_budget=deny_budget, slots=FIRST_SLOTS,
            interruptible=False,
        )  # fmt: skip
        self._core = self._simulation.core
        self._running.call = _CALL
        try:
            self._simulation.begin("first_fit", specification)
        except SimulationHung as error:
            raise InvalidArgument(f"evict policy {specification} cannot be made: {error}") from error
        finally:
            self._running.call = None
        self._counters = self._simulation.process.counters

    @property
    def problem(self) -> str:
        """Why it was stopped, and the first thing that went wrong; empty: nothing."""
        return self._simulation.problem

    @property
    def misses(self) -> int:
        """Touches of pages that it did not have in memory."""
        return self._counters.faults

    @property
    def errors(self) -> int:
        """Answers of the policy that were not used."""
        return self._counters.policy_errors

    def touch(self, pages: Sequence[int], writes: bytes, of: int, now: float) -> None:
        """Take a run of touches of pages by number, a sample of `of` touches.

        `writes`: a byte a touch, 1 for a write; empty: all are reads.
        """
        if self.stopped:
            return
        self.touched += of
        if not pages:
            return
        self._make_room(len(pages))
        before = spent()
        self._do(Touches(1, 1, pages, writes), now)
        after = spent()
        self.seconds += after.passed - before.passed
        took = after.passed - before.passed - (after.waited - before.waited)
        self._slow += took > MAX_SECONDS
        if self._slow > MAX_SLOW:
            self._stop(f"it took {took:.2f} s for {len(pages)} accesses")
        elif self.errors > MAX_ERRORS:
            self._stop(f"more than {MAX_ERRORS} errors")

    def hint(self, event: events.SetHint, now: float) -> None:
        """Take a hint of the live process; if it is refused here, it is left out, and `problem` has the reason."""
        if not self.stopped:
            self._do(event, now, PARTS)

    def tick(self, now: float) -> None:
        """Let time pass, for hints that end by themselves."""
        if not self.stopped:
            self._do(events.Tick(), now)

    def _do(self, event: events.Event, now: float, parts: int = 0) -> None:
        """Have the core handle an event, and do at most `parts` parts of a hint's deferred work."""
        self._running.call = _CALL
        try:
            self._simulation.do(event, now, parts)
        except UsmdError as error:
            self._simulation.problem = self.problem or f"a hint is not in force here: {error}"
        except SimulationHung as error:
            self._stop(f"a call of its policy hung: {error}")
        except ANYTHING as error:  # whatever is wrong in here must not reach the daemon
            self._running.call = None  # first: there is no call to end
            self._stop(f"it failed with {safe_repr(error)}{place(error)}")
        finally:
            self._running.call = None

    def _stop(self, why: str) -> None:
        self.stopped = True
        self._simulation.problem = f"stopped: {why}; {self.problem}" if self.problem else f"stopped: {why}"

    def _make_room(self, touches: int) -> None:
        """Add swap slots until there is one for every page that so many touches could evict."""
        swap = self._core.state.swap
        while swap.free < touches and len(swap.devices) < MAX_DEVICES:
            number = len(swap.devices)
            swap.devices.append(DeviceMap(number, DeviceInfo(f"shadow{number}", max(swap.slots, touches))))
