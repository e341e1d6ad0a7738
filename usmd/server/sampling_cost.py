"""What sampled touches cost the daemon: measured in CPU time of the loop's thread, and held within a share of that.

Two things are measured: the calls that take pages out of page tables, and the handling of faults that told of a touch,
of which one in `MEASURED` is. Not measured are the choice of pages by the core, and the wait for such a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MEASURED: Final = 16
"""One in so many groups of sampled faults is measured, and counts as so many: reading the clock is a system call."""
CREDIT_SECONDS: Final = 1.0
"""Time of which the share may be used at once, after less was."""
MEMORY_SECONDS: Final = 30.0
"""CPU time of the daemon after which what it was used for weighs a third in `share`."""


class SamplingCost:
    """Measures sampling, and says when it has to rest.

    `most`: the share of the daemon's CPU that sampling may take, above 0; 1: all of it. `clock`: CPU seconds of the
    thread that calls this.
    """

    def __init__(self, most: float, clock: Callable[[], float] = time.thread_time) -> None:
        self.most = most
        self.rests = False
        """Whether sampling has taken more than its share, so that no page is taken out until it has not."""
        self._clock = clock
        self._spent = 0.0
        """CPU seconds of sampling since the last tick."""
        self._ticked = clock()
        self._credit = 0.0
        self._unmeasured = 0
        self._recent = 0.0
        self._recent_spent = 0.0

    @property
    def share(self) -> float:
        """The share of the daemon's CPU that sampling took of late, from 0 to 1."""
        return min(self._recent_spent / self._recent, 1.0) if self._recent > 0 else 0.0

    def take_out(self, call: Callable[[], object]) -> None:
        """Make a call that takes pages out."""
        began = self._clock()
        try:
            call()
        finally:
            self._spent += self._clock() - began

    def touched(self, call: Callable[[], object]) -> None:
        """Make a call that handles faults that told of touches."""
        self._unmeasured += 1
        if self._unmeasured < MEASURED:
            call()
            return
        began = self._clock()
        try:
            call()
        finally:
            self._spent += (self._clock() - began) * self._unmeasured
            self._unmeasured = 0

    def tick(self) -> bool:
        """Compare with all CPU time since the last tick; returns whether `rests` has changed."""
        now = self._clock()
        used, spent, self._ticked, self._spent = now - self._ticked, self._spent, now, 0.0
        fades = max(1 - used / MEMORY_SECONDS, 0.0)
        self._recent = self._recent * fades + used
        self._recent_spent = self._recent_spent * fades + spent
        self._credit = min(self._credit + self.most * used - spent, self.most * CREDIT_SECONDS)
        before, self.rests = self.rests, self._credit < 0 and self.most < 1
        return self.rests != before
