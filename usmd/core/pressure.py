"""Pressure: the share of the last 10, 60 and 300 s in which faults waited, and for how long in all. Arithmetic alone.

Like the kernel's pressure stall information (Documentation/accounting/psi.rst; kernel/sched/psi.c, calc_avgs): averages
decay exponentially, so that a moment that is a window ago counts e times less than the present one. The kernel takes a
step every 2 s; here a step may be of any length. docs/monitoring.md says what counts as a wait.
"""

from __future__ import annotations

from math import exp
from typing import Final

WINDOWS: Final = (10, 60, 300)
"""Seconds over which is averaged."""
FALLS_BACK: Final = 0.75
"""Part of a threshold below which a share has fallen back: with the average of 10 s that takes 2.9 s at least."""
_NOTHING: Final = 5e-5
"""An average that falls below this is 0: 0.00 % as the kernel shows it."""


class Stall:
    """The time in which something waits. `waits`: whether it does now; `since` then is when it began to."""

    __slots__ = ("counted", "since", "waits")

    def __init__(self) -> None:
        self.counted = 0.0
        """Seconds of the waits that have ended."""
        self.waits = False
        self.since = 0.0

    def begin(self, now: float) -> None:
        """The wait begins."""
        self.waits, self.since = True, now

    def end(self, now: float) -> None:
        """The wait ends."""
        self.counted += now - self.since
        self.waits = False

    def seconds(self, now: float) -> float:
        """Seconds of waits, up to now."""
        return self.counted + (now - self.since if self.waits else 0.0)


class Line:
    """Averages of one kind of wait, and their total, as a line of the kernel's files."""

    __slots__ = ("averages", "seconds")

    def __init__(self) -> None:
        self.averages = [0.0] * len(WINDOWS)
        """Shares from 0 to 1, of `WINDOWS`."""
        self.seconds = 0.0
        """Time in all."""

    @property
    def at_rest(self) -> bool:
        """Whether all averages are 0."""
        return not any(self.averages)

    @property
    def microseconds(self) -> int:
        """Time in all, as the kernel's `total=`."""
        return int(self.seconds * 1e6)

    def advance(self, waited: float, passed: float, decays: list[float]) -> None:
        """`passed` seconds have gone by, `waited` of them in waits. `decays`: of each average in that time."""
        self.seconds += waited
        share = waited / passed
        averages = self.averages
        for number, decay in enumerate(decays):
            average = share + (averages[number] - share) * decay
            averages[number] = average if average >= _NOTHING or waited else 0.0


class Pressure:
    """The pressure on a process, or on all of them.

    `some`: at least one fault waited. `full`: one waited, and no thread ran meanwhile, as far as CPU time tells; None
    while CPU time is not known. `alarm`: for the operator's threshold.
    """

    __slots__ = ("_at", "_ran", "_waited", "alarm", "full", "some")

    def __init__(self) -> None:
        self.some = Line()
        self.full: Line | None = None
        self.alarm = Alarm()
        self._at = -1.0
        """Time of the last step; negative: there was none."""
        self._waited = 0.0
        self._ran: float | None = None

    def advance(self, now: float, waited: float, ran: float | None) -> None:
        """Take a step up to `now` (seconds).

        `waited`: seconds so far in which at least one fault waited. `ran`: CPU time so far, of all threads together;
        None: not known.

        Of a step in which faults waited for s seconds, `full` counts s, but no more than the step is longer than its
        CPU time. That is right for one thread. Of several, those that run at the same time make it too small, and
        those that run while no fault waits, and rest while one does, too large; steps of 0.1 s bound both.
        """
        passed = now - self._at
        if passed <= 0:
            return
        if self._at >= 0:
            some = min(max(waited - self._waited, 0.0), passed)
            if some or not self.some.at_rest:  # `full` is at rest then, too
                decays = [exp(-passed / window) for window in WINDOWS]
                self.some.advance(some, passed, decays)
                if ran is not None and self._ran is not None and self.full is not None:
                    self.full.advance(min(some, max(passed - (ran - self._ran), 0.0)), passed, decays)
        if ran is None:
            self.full = None
        elif self.full is None:
            self.full = Line()
        self._at, self._waited, self._ran = now, waited, ran


class Alarm:
    """Whether a share is above a threshold, with hysteresis. `above` begins False."""

    __slots__ = ("above",)

    def __init__(self) -> None:
        self.above = False

    def changes(self, share: float, threshold: float) -> bool:
        """Whether the share has risen to the threshold, or fallen back below `FALLS_BACK` of it. 0: no threshold."""
        above = threshold > 0 and share >= (threshold * FALLS_BACK if self.above else threshold)
        changed = above != self.above
        self.above = above
        return changed
