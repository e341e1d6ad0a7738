"""The pages of a range that a piece of deferred work has still to come to."""

from __future__ import annotations

from collections.abc import Iterator

Steps = Iterator[bool]
"""Work that cannot be written down: True after each page, False when it waits for I/O that is in flight."""


class PagesLeft:
    """Pages `next_page` to `end` - 1. The other fields are for work that brings pages in line with a hint."""

    __slots__ = ("end", "next_page", "over_budget", "settled")

    def __init__(self, first: int, end: int) -> None:
        self.next_page = first
        self.end = end
        self.over_budget = 0
        """Pages that it brought in line and that ask for EVICTION=DENY beyond the budget."""
        self.settled: set[int] = set()
        """Pages that were brought in line before their turn."""

    def covers(self, page: int) -> bool:
        """Whether a page is still to be brought in line."""
        return self.next_page <= page < self.end and page not in self.settled
