"""Durations counted in buckets, so that quantiles of any number of durations take a fixed amount of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

TIMED_A_TICK: Final = 64
"""Durations of a kind that are timed between two ticks of 0.1 s, so that a busy daemon spends little on that."""
_UNITS: Final = 1e7
"""Units in a second: tenths of a microsecond."""
_BUCKETS: Final = 256
"""Buckets: one for each unit up to 16, then 8 for each doubling, the last from 930 seconds on."""
_DOUBLINGS: Final = range(4, 29)
BOUNDS: Final = tuple((1 << each) / _UNITS for each in _DOUBLINGS)
"""Seconds, 1.6 microseconds to 26.8 seconds, each twice the one before: `Histogram.below` counts exactly at these."""


class Histogram:
    """Durations since the daemon's start; a quantile is right to 1 in 16. `seconds`: their sum."""

    __slots__ = ("_counts", "seconds")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.seconds = 0.0

    @property
    def count(self) -> int:
        """Durations that were added."""
        return sum(self._counts)

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` durations of about `seconds`, which are at least 0."""
        units = int(seconds * _UNITS)
        shift = units.bit_length() - 4
        bucket = units if shift <= 0 else (shift << 3) + (units >> shift)
        self._counts[bucket if bucket < _BUCKETS else _BUCKETS - 1] += count
        self.seconds += seconds * count

    def below(self) -> list[int]:
        """How many durations were shorter than each of `BOUNDS`."""
        counts, first = self._counts, 0
        found: list[int] = []
        for doubling in _DOUBLINGS:
            end = (doubling - 2) << 3
            found.append(sum(counts[first:end]) + (found[-1] if found else 0))
            first = end
        return found

    def quantile(self, share: float) -> float:
        """Seconds that a share of the durations, from 0 to 1, did not exceed; 0 if there are none."""
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
    """Times numbered operations from `begin` to `end`. Failed ones are not in the histogram."""

    __slots__ = ("_clock", "began", "left", "times")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.times = Histogram()
        self.left = TIMED_A_TICK
        """How many more may begin before the next tick; if it is not above 0, `begin` need not be called."""
        self.began: dict[int, float] = {}
        """Number → time of its begin, until its end; if it is empty, `end` need not be called."""

    def tick(self) -> None:
        """Time `TIMED_A_TICK` more."""
        self.left = TIMED_A_TICK

    def begin(self, numbers: Sequence[int]) -> None:
        """Begin to time these; one that is being timed begins again."""
        self.left -= len(numbers)
        now = self._clock()
        for number in numbers:
            self.began[number] = now

    def end(self, numbers: Sequence[int], errors: Sequence[object]) -> None:
        """End these, of which those with an error have failed."""
        now = self._clock()
        for number, error in zip(numbers, errors, strict=True):
            began = self.began.pop(number, None)
            if error is None and began is not None:
                self.times.add(now - began)
