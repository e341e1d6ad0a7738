"""`memory.fault_wakeup = "auto"`: tries the ways of waiting for faults in turns, and uses the one that serves most.

Which way is best depends on the machine, on its load, and on the programs that fault, and only the rate of faults shows
it. So a trial gives the way in use and another one the same number of turns of a tick each, in the order ABBAAB, so
that a workload that changes steadily favours neither. The other way must win clearly, in sum and in most pairs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from usmd import log
from usmd.server.fault_wakeup import Follow, Sleep, Spin

SPIN_SECONDS: Final = 5e-5
LEAST_FAULTS: Final = 100
"""Faults in a tick below which the ways are not compared: there is little to win."""
BETTER: Final = 1.05
"""How much better another way must be. `sleep` must only be as good, because it costs other programs nothing."""
TURNS: Final = (False, True, True, False, False, True)
"""Which turns of a trial the other way has."""
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 60.0
"""Seconds between trials: they double while nothing changes, and begin anew after a change."""
_LOADAVG: Final = Path("/proc/loadavg")


def spare_cpus() -> int:
    """CPUs that no other running thread needs now, as far as the kernel reports it; less than 1 if there are none."""
    try:
        running = int(_LOADAVG.read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 0
    return len(os.sched_getaffinity(0)) - running


class Auto(Sleep):
    """Waits by the way that has served most faults. `spare` returns how many CPUs nothing else needs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, spare: Callable[[], int] = spare_cpus) -> None:
        self._clock = clock
        self._spare = spare
        self._ways: dict[str, Sleep] = {"sleep": Sleep(), "follow": Follow(clock), "spin": Spin(SPIN_SECONDS, clock)}
        self.best = "sleep"
        """The way in use, but for trials."""
        self._way = self._ways[self.best]
        self._faults = 0
        self._since = clock()
        self._other = ""
        """The way that the trial under way compares with the best one; empty: there is no trial."""
        self._rates: list[float] = []
        self._untried: list[str] = []
        self._pause = FIRST_PAUSE
        self._next_trial = self._since + self._pause

    def faulted(self, pid: int, thread: int, now: float, faults: int = 1) -> float:
        """Count the faults, and wait as the present way does."""
        self._faults += faults
        return self._way.faulted(pid, thread, now)

    def tick(self) -> None:
        """End a turn: compare, and choose the way of the next one."""
        self._way.tick()
        now = self._clock()
        faults, seconds = self._faults, now - self._since
        self._faults, self._since = 0, now
        if self.best == "spin" and self._spare() < 1:
            self._use_from_now_on("sleep")
        elif faults < LEAST_FAULTS or seconds <= 0:
            self._end_trial()
        elif self._other:
            self._rates.append(faults / seconds)
            if len(self._rates) == len(TURNS):
                self._decide()
        elif now >= self._next_trial:
            self._begin_trial()
        self._take(self._other if self._other and TURNS[len(self._rates)] else self.best)

    def _begin_trial(self) -> None:
        if not self._untried:
            self._untried = [name for name in self._ways if name != self.best]
        name = self._untried.pop(0)
        if name != "spin" or self._spare() >= 1:
            self._other = name

    def _decide(self) -> None:
        mine = [rate for rate, others in zip(self._rates, TURNS, strict=True) if not others]
        its = [rate for rate, others in zip(self._rates, TURNS, strict=True) if others]
        wins = sum(1 for one, other in zip(mine, its, strict=True) if other > one)
        threshold = 1.0 if self._other == "sleep" else BETTER
        if sum(its) > threshold * sum(mine) and 2 * wins > len(mine):
            self._use_from_now_on(self._other, sum(its) / sum(mine))
        else:
            self._end_trial()
            self._pause = min(self._pause * 2, LAST_PAUSE)
        self._next_trial = self._since + self._pause

    def _use_from_now_on(self, name: str, ratio: float | None = None) -> None:
        """Change the best way. `ratio`: of its faults to those of the way before it; None: CPUs have become scarce."""
        why = "other programs need the CPUs" if ratio is None else f"{ratio:.2f} times as many faults were served"
        log.event("fault_wakeup_changed", wakeup=name, before=self.best, reason=why)
        self.best = name
        self._untried = []
        self._pause = FIRST_PAUSE
        self._end_trial()

    def _end_trial(self) -> None:
        self._other = ""
        self._rates.clear()

    def _take(self, name: str) -> None:
        way = self._ways[name]
        if way is not self._way:
            self._way.leave()
            self._way = way


def parse_wakeup(text: str, clock: Callable[[], float] = time.monotonic) -> Sleep:
    """The way of waiting that `memory.fault_wakeup` names; the configuration has checked the text."""
    if text == "auto":
        return Auto(clock)
    if text == "follow":
        return Follow(clock)
    return Spin(int(text.removeprefix("spin:")) / 1e6, clock) if text.startswith("spin:") else Sleep()
