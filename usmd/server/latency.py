"""How long things take, counted in buckets, so that a median and a tail cost no memory however much is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

TIMED_A_TICK: Final = 256
"""How many of a kind are timed between two ticks of 0.1 s, so that a busy daemon spends nothing to speak of on it."""
_UNITS: Final = 1e7
"""Units in a second: tenths of a microsecond."""
_BUCKETS: Final = 256
"""Buckets: one for each unit up to 16, then 8 for each doubling, the last from 930 seconds on."""


class Histogram:
    """Durations since the daemon's start; a quantile is right to 1 in 16."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS

    @property
    def count(self) -> int:
        """Durations that were added."""
        return sum(self._counts)

    def add(self, seconds: float, count: int = 1) -> None:
        """Count so many durations of about `seconds`, which are at least 0."""
        units = int(seconds * _UNITS)
        shift = units.bit_length() - 4
        bucket = units if shift <= 0 else (shift << 3) + (units >> shift)
        self._counts[bucket if bucket < _BUCKETS else _BUCKETS - 1] += count

    def quantile(self, share: float) -> float:
        """Seconds that a share of the durations, from 0 to 1, did not exceed; 0 where there are none."""
        left = share * self.count
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return _middle(bucket)
        return 0.0


def _middle(bucket: int) -> float:
    """Seconds in the middle of a bucket."""
    if bucket < 16:
        return (bucket + 0.5) / _UNITS
    shift = (bucket >> 3) - 1
    return ((bucket & 7) + 8.5) * (1 << shift) / _UNITS


class Stopwatch:
    """Times things by their number, from `begin` to `end`. Those that failed are in no histogram."""

    __slots__ = ("_clock", "began", "left", "times")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.times = Histogram()
        self.left = TIMED_A_TICK
        """How many more may begin before the next tick; where that is not above 0, `begin` need not be called."""
        self.began: dict[int, float] = {}
        """When each began that has not ended; where it is empty, `end` need not be called."""

    def tick(self) -> None:
        """Time as many again."""
        self.left = TIMED_A_TICK

    def begin(self, numbers: Sequence[int]) -> None:
        """Begin with these now; one that is being timed begins again."""
        self.left -= len(numbers)
        now = self._clock()
        for number in numbers:
            self.began[number] = now

    def end(self, numbers: Sequence[int], errors: Sequence[object]) -> None:
        """End with these now; an error in the place of one says that it failed."""
        now = self._clock()
        for number, error in zip(numbers, errors, strict=True):
            began = self.began.pop(number, None)
            if error is None and began is not None:
                self.times.add(now - began)
