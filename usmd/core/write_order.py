"""Finds out from real faults whether a region is being written in order, page after page.

A page from swap comes in write-protected, so that it can be dropped without I/O while it is clean. Its first write is
then another fault. While a region is written in order, the page of the next write comes in writable. Each wrong guess
costs a write to swap, so every `PROBE`th page comes in protected, to see a write again.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

IN_ORDER: Final = 2
"""Consecutive writes, each to the page after the last one, after which the region counts as written in order."""
PROBE: Final = 8
"""Every this many guesses, the page comes in protected."""
AHEAD: Final = 16
"""Most clean pages in memory that become writable together with the one that is written to."""


@mypyc_attr(allow_interpreted_subclasses=True)
class WriteOrder:
    """The order of the writes to one region."""

    __slots__ = ("_guesses", "_next", "_run")

    def __init__(self) -> None:
        self._next = -1
        """The page of the next write, if that is in order."""
        self._run = 0
        """Writes in a row to the expected page, up to IN_ORDER."""
        self._guesses = 0

    def written(self, page: int) -> bool:
        """Record a write to a page; returns whether the region is being written in order."""
        self._run = min(self._run + 1, IN_ORDER) if page == self._next else 0
        self._next = page + 1
        return self._run == IN_ORDER

    def foresees(self, page: int) -> bool:
        """Whether to expect a write after a read fault on a page."""
        if self._run < IN_ORDER or page != self._next:
            return False
        self._guesses += 1
        return self._guesses % PROBE != 0

    def opened(self, page: int) -> None:
        """A page became writable, so its write will not be seen: if it was expected next, expect the page after it."""
        if page == self._next:
            self._next = page + 1
