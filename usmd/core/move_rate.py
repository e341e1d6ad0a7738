"""How many pages may be moved between swap devices now, by a rate. A pure token bucket: time comes with each call."""

from __future__ import annotations

from typing import Final

SAVED_SECONDS: Final = 0.25
"""What was not used in this time may be used later, so that requests of a few turns a second use the whole rate."""
_NO_LIMIT: Final = 1 << 40


class MoveRate:
    """Pages a second; 0: any number."""

    __slots__ = ("_left", "_rate", "_since")

    def __init__(self, pages_a_second: float) -> None:
        self._rate = pages_a_second
        self._left = 0.0
        self._since = 0.0

    def room(self, now: float) -> int:
        """Pages that may be moved at `now`, in seconds, never falling."""
        if self._rate <= 0:
            return _NO_LIMIT
        self._left = min(self._left + (now - self._since) * self._rate, max(self._rate * SAVED_SECONDS, 1.0))
        self._since = now
        return int(self._left)

    def spend(self, pages: int) -> None:
        """Pages are being moved."""
        self._left -= pages
