"""Brings the pressure on processes up to date each 0.1 s, and reports when it passes the operator's threshold."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from usmd.core.commands import Notice
from usmd.core.pressure import FALLS_BACK, Pressure
from usmd.core.region import Process
from usmd.core.state import State

A_TICK: Final = 64
"""Processes that are brought up to date in a tick. If there are more, each has its turn in a later one."""
_CPU_CLOCK: Final = 2
"""In the number of a clock: the CPU time of a process (CPUCLOCK_SCHED of the kernel)."""


def cpu_seconds(pid: int) -> float | None:
    """CPU time of all threads of a process, in seconds; None if it is gone, or the kernel does not say.

    The clock is that of clock_getcpuclockid(3), which any user may read. /proc may hide the process.
    """
    try:
        return time.clock_gettime(~pid << 3 | _CPU_CLOCK)
    except OSError:
        return None


class PressureWatch:
    """The pressure on the processes of one core. `threshold`: that of the operator; may be set at any time.

    `on_advanced` is called with the number of each process whose pressure has been brought up to date.
    """

    def __init__(
        self,
        state: State,
        notice: Callable[[Notice], object],
        threshold: float,
        now: float,
        cpu: Callable[[int], float | None] = cpu_seconds,
    ) -> None:
        """`cpu`: CPU time in seconds by process number, None where it is not known. `now`: the time of events."""
        self.threshold = threshold
        self.on_advanced: Callable[[int, Pressure], object] = lambda _process_id, _pressure: None
        self._state = state
        self._notice = notice
        self._cpu = cpu
        self._round: deque[Process] = deque()
        """Processes that still have their turn in this round."""
        self._read: dict[int, float | None] = {}
        """CPU time by process number, as it was read in this tick: sessions may be of the same process."""
        self._last: dict[int, float] = {}
        """As it was read last."""
        self._ran = None if cpu(os.getpid()) is None else 0.0
        """CPU time that all processes took while they were looked at; None if the kernel does not say."""
        state.stalls.pressure.advance(now, 0.0, self._ran)

    def tick(self, now: float) -> None:
        """Bring pressure up to date. `now`: the time of events."""
        if not self._round:
            self._begin_round()
        self._read.clear()
        for _ in range(min(len(self._round), A_TICK)):
            process = self._round.popleft()
            if process.ended is None:
                process.pressure.advance(now, process.stall.seconds(now), self._ran_of(process.pid))
                self.on_advanced(process.process_id, process.pressure)
                if process.pressure.alarm.changes(process.pressure.some.averages[0], self.threshold):
                    whose = f"{process.name} (process {process.process_id})"
                    self._report(process.pressure, process.process_id, whose)
        if not self._round:  # else the CPU time of some would count in a step that is too short for it
            stalls = self._state.stalls
            stalls.pressure.advance(now, stalls.all.seconds(now), self._ran)
            if stalls.pressure.alarm.changes(stalls.pressure.some.averages[0], self.threshold):
                self._report(stalls.pressure, 0, "all processes together")

    def _begin_round(self) -> None:
        last, self._last = self._last, {}
        for process in self._state.processes.values():
            self._round.append(process)
            if process.pid in last:
                self._last[process.pid] = last[process.pid]

    def _ran_of(self, pid: int | None) -> float | None:
        """CPU time of a process. What it took since it was last looked at counts for all."""
        if not pid:
            return None
        if pid in self._read:
            return self._read[pid]
        ran = self._read[pid] = self._cpu(pid)
        if ran is not None:
            self._ran = (self._ran or 0.0) + ran - self._last.get(pid, ran)
            self._last[pid] = ran
        return ran

    def _report(self, pressure: Pressure, process_id: int, whose: str) -> None:
        """Report that the share of the last 10 s has passed the threshold, or fallen back."""
        share = pressure.some.averages[0]
        said = f"faults of {whose} waited for {share:.1%} of the last 10 s"
        fields = {"some_avg10": f"{share:.4f}", "threshold": f"{self.threshold:.4f}"}
        if pressure.full is not None:
            fields["full_avg10"] = f"{pressure.full.averages[0]:.4f}"
        if pressure.alarm.above:
            mark = f"the threshold is {100 * self.threshold:g}%"
            self._notice(Notice("pressure_high", process_id, f"{said}; {mark}", fields))
        else:
            mark = f"below {self.threshold * FALLS_BACK:.1%}" if self.threshold else "there is no threshold"
            self._notice(Notice("pressure_eased", process_id, f"{said}: {mark}", fields))
