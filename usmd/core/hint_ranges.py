"""The hints of one region: ranges of pages that do not overlap. The newest wins; a lookup takes O(log n)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from math import inf

from usmd.core.hints import Hint, HintRange


class HintRanges:
    """Ranges ordered by first page. Setting one cuts its pages out of the older ones."""

    __slots__ = ("_firsts", "ranges")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self.ranges: list[HintRange] = []
        """Read only; the hot path checks whether it is empty."""

    def __len__(self) -> int:
        return len(self.ranges)

    def __iter__(self) -> Iterator[HintRange]:
        return iter(self.ranges)

    def copy(self) -> HintRanges:
        """An independent copy."""
        other = HintRanges()
        other.ranges, other._firsts = self.ranges[:], self._firsts[:]
        return other

    def find(self, page: int) -> HintRange | None:
        """The range in force on a page, or None."""
        index = bisect_right(self._firsts, page) - 1
        if index < 0:
            return None
        found = self.ranges[index]
        return found if page < found.end else None

    def alike(self, first: int, end: int) -> bool:
        """Whether pages `first` to `end` - 1 have one hint without EVICTION=DENY, or none of them has a hint."""
        index = bisect_right(self._firsts, first) - 1
        if index >= 0 and first < self.ranges[index].end:
            return end <= self.ranges[index].end and not self.ranges[index].hint.deny
        return index + 1 == len(self.ranges) or end <= self.ranges[index + 1].first

    def set(self, first: int, end: int, number: int, hint: Hint | None, expires: float | None) -> None:
        """Put a hint on pages `first` to `end` - 1; None clears them."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        stop = start
        kept: list[HintRange] = []
        while stop < len(self.ranges) and self.ranges[stop].first < end:
            old = self.ranges[stop]
            if old.first < first:
                kept.append(old.cut(old.first, min(old.end, first)))
            if old.end > end:
                kept.append(old.cut(max(old.first, end), old.end))
            stop += 1
        if hint is not None:
            kept.append(HintRange(first, end, number, hint, expires))
            kept.sort(key=lambda each: each.first)
        self.ranges[start:stop] = kept
        self._firsts[start:stop] = [each.first for each in kept]

    def growth(self, first: int, end: int, *, clear: bool) -> int:
        """By how many the ranges grow (negative: shrink) when pages `first` to `end` - 1 are set or cleared."""
        start = max(bisect_right(self._firsts, first) - 1, 0)
        met = [each for each in self.ranges[start : bisect_left(self._firsts, end)] if each.end > first]
        pieces = sum((each.first < first) + (each.end > end) for each in met)
        return pieces + (not clear) - len(met)

    def next_expiry(self) -> float:
        """Time at which the next range expires; infinity if none does."""
        return min((each.expires for each in self.ranges if each.expires is not None), default=inf)

    def take_expired(self, now: float) -> list[HintRange]:
        """Remove the ranges that have expired by `now`, and return them."""
        expired = [each for each in self.ranges if each.expires is not None and each.expires <= now]
        if expired:
            self.ranges = [each for each in self.ranges if each.expires is None or each.expires > now]
            self._firsts = [each.first for each in self.ranges]
        return expired
