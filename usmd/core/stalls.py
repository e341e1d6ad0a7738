"""Adds up the time in which faults wait: of each process, and of all of them as one.

The shell serves faults in turns, and reports how long each took: the process waited so long. If its faults wait for
pages beyond that, which `Process.missing` counts, it waits until the core has answered them, by the times of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.pressure import Pressure, Stall

if TYPE_CHECKING:
    from usmd.core.region import Process


class Stalls:
    """The waits of all processes. `waiting`: how many wait now. `pressure`: on all; the shell keeps it up to date."""

    __slots__ = ("all", "pressure", "waiting")

    def __init__(self) -> None:
        self.all = Stall()
        self.waiting = 0
        self.pressure = Pressure()

    def served(self, process: Process, waited: bool, waiting: int, seconds: float, now: float) -> None:
        """The shell has served faults of a process for `seconds`, in a turn that ends now.

        `waited`, `waiting`: whether the process was waiting when the turn began, and how many processes were. Such a
        wait includes the turn.
        """
        stall = process.stall
        if not waited:
            stall.counted += seconds
        if not waiting:
            self.all.counted += seconds
        if process.missing and not stall.waits and process.ended is None:
            stall.begin(now)
            if self.waiting == 0:
                self.all.begin(now)
            self.waiting += 1

    def end(self, stall: Stall, now: float) -> None:
        """A process waits no more, because its faults are answered, or its session ends; nothing if it did not wait."""
        if stall.waits:
            stall.end(now)
            self.waiting -= 1
            if self.waiting == 0:
                self.all.end(now)
