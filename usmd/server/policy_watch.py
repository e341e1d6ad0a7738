"""Ends calls of policies that do not return, by an exception raised within them.

A timer interrupts the process four times a second and looks at the mark of the call under way (`Running`). If it is the
same call each time, and has used too many seconds of CPU time, the exception that the mark names ends it. The guard
takes PolicyHung as any error, and then does without that policy; SimulationHung stops a shadow's simulation. Time in
which the process was stopped or waited for a CPU does not count. A call that sleeps or waits uses no CPU time, and may
do so several times as long.

Python code can be interrupted so, even if it sleeps or waits, and C code that looks for signals, such as a regular
expression. Other C code cannot, nor usmd's own policies where they are compiled, nor a loop that catches BaseException.
Modules may take long to load.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

from usmd.core.running import Call, Running
from usmd.server import cpu_clock, signals
from usmd.server.cpu_clock import Spent, spent

LOOK_SECONDS: Final = 0.25
"""Time between two looks."""
WAITS: Final = 5
"""How many times as long a call may sleep or wait as it may compute."""
_AGAIN_SECONDS: Final = 0.001
"""Time to the next look if usmd's own code runs, which an exception could leave half done."""
_OWN: Final = "usmd."
_POLICIES: Final = "usmd.policies."
_LOADERS: Final = (
    "usmd.plug_ins", "importlib", "importlib._bootstrap", "importlib._bootstrap_external",
    "_frozen_importlib", "_frozen_importlib_external",
)  # fmt: skip
"""Modules that load modules, policies' own among them."""


_HANDLERS: Final = (__name__, cpu_clock.__name__, signals.__name__)


class PolicyWatch:
    """Watches the thread that enters it, which must be the main one.

    A call may take `seconds` of CPU time, about; 0: any time. `running` has the mark of each call, and `spent` returns
    how the thread has spent its time.
    """

    def __init__(self, seconds: float, running: Running, spent: Callable[[], Spent] = spent) -> None:
        self._seconds = seconds
        self._running = running
        self._spent = spent
        self._call: Call | None = None
        self._last = Spent(0.0, 0.0, 0.0)
        self._computed = 0.0
        self._blocked = 0.0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGALRM, self.look)
        if self._seconds:
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        self._call = None

    def look(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler; `frame` is what runs. If the call has taken too long, raises what ends it."""
        del number
        if _module(frame) in _HANDLERS:
            return  # another handler runs, which must not be ended halfway
        call = self._running.call
        if call is None or frame is None or not self._seconds or _loads(frame):
            self._call = None
            return
        if call is not self._call:
            # The watch's own copy of the mark stays until the call ends, or another one begins.
            self._call = self._running.call = Call(*call)
            self._computed = self._blocked = 0.0
            self._last = self._spent()
            return
        before, self._last = self._last, self._spent()
        passed, ran, waited = (now - then for now, then in zip(self._last, before, strict=True))
        self._computed += ran
        # A stopped process gets one look for all that time, of which at most two looks' time counts.
        self._blocked += max(0.0, min(passed, 2 * LOOK_SECONDS) - ran - waited)
        if self._computed > self._seconds:
            what = f"it did not return for {self._seconds:g} s of CPU time"
        elif self._blocked > WAITS * self._seconds:
            what = f"it did not return for {WAITS * self._seconds:g} s, in which it slept or waited"
        else:
            return
        if _module(frame).startswith(_OWN) and not _module(frame).startswith(_POLICIES):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, LOOK_SECONDS)
            return
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise call.hung(f"{what}, at {place}")


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def _loads(frame: FrameType | None) -> bool:
    """Whether a module is being loaded, which may take long."""
    while frame is not None and _module(frame) not in _LOADERS:
        frame = frame.f_back
    return frame is not None
