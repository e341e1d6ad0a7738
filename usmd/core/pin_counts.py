"""Counts the pins of each page of a region, and the pinned pages of a range without a look at each."""

from __future__ import annotations

from typing import Final

_BITS: Final = 9
"""Pages are counted in groups of 512."""


class PinCounts:
    """Counts by page. For a region that is gone they are removed page by page, so that no event takes long."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[int, dict[int, int]] = {}

    def __contains__(self, page: int) -> bool:
        return page in self._groups.get(page >> _BITS, ())

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, page: int) -> int:
        """Pin a page once more; returns its pins."""
        group = self._groups.setdefault(page >> _BITS, {})
        count = group[page] = group.get(page, 0) + 1
        return count

    def remove(self, page: int) -> int:
        """Unpin a pinned page once; returns its remaining pins."""
        group = self._groups[page >> _BITS]
        count = group[page] - 1
        if count:
            group[page] = count
        else:
            self.forget(page)
        return count

    def forget(self, page: int) -> None:
        """End all pins of a pinned page."""
        group = self._groups[page >> _BITS]
        del group[page]
        if not group:
            del self._groups[page >> _BITS]

    def pages(self, first: int, end: int) -> int:
        """How many pages from `first` to `end` - 1 are pinned."""
        low, high = first >> _BITS, (end - 1) >> _BITS
        groups = self._groups
        numbers = range(low, high + 1) if high - low < len(groups) else [each for each in groups if low <= each <= high]
        met = [(number, groups[number]) for number in numbers if number in groups]
        return sum(
            sum(first <= page < end for page in group) if number in (low, high) else len(group) for number, group in met
        )
