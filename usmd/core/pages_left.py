"""The pages of a range that remain for a piece of deferred work."""

from __future__ import annotations

from collections.abc import Iterator

Steps = Iterator[bool]
"""Work kept in a generator: it yields True after each page, and False while it waits for I/O in flight."""


class PagesLeft:
    """Pages `next_page` to `end` - 1. Only work that brings pages in line with a hint uses the other fields."""

    __slots__ = ("end", "next_page", "over_budget", "settled")

    def __init__(self, first: int, end: int) -> None:
        self.next_page = first
        self.end = end
        self.over_budget = 0
        """Pages brought in line whose hint asks for EVICTION=DENY beyond the budget."""
        self.settled: set[int] = set()
        """Pages brought in line before their turn."""

    def covers(self, page: int) -> bool:
        """Whether a page remains to be brought in line."""
        return self.next_page <= page < self.end and page not in self.settled
