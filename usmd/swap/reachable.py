"""Whether the far part of a mirror answers, and when it is tried again after it did not."""

from __future__ import annotations

import threading
from typing import Final

FIRST_PAUSE: Final = 0.1
"""Seconds from a failure to the next try; they double with each try that fails."""
LONGEST_PAUSE: Final = 5.0


class Reachable:
    """Says whether a device is away. Times are seconds of the caller's clock; any thread may call any method."""

    def __init__(self) -> None:
        self.away = False
        self.why = ""
        """Why it is away; empty: it is not."""
        self._next = 0.0
        self._pause = FIRST_PAUSE
        self._lock = threading.Lock()

    def failed(self, now: float, why: str) -> None:
        """It did not answer. What is said of the same failure again changes nothing."""
        with self._lock:
            if self.away and now < self._next:
                return
            self._pause = min(2 * self._pause, LONGEST_PAUSE) if self.away else FIRST_PAUSE
            self._next = now + self._pause
            self.away = True
            self.why = why

    def answered(self) -> None:
        """It answered."""
        with self._lock:
            self.away = False
            self.why = ""

    def wait(self, now: float) -> float:
        """Seconds until the next try; 0: at once."""
        return max(self._next - now, 0.0) if self.away else 0.0
