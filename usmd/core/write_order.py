"""Whether a region is being written in order, page after page, by what real faults tell of its writes.

A page that comes in from swap is write-protected, so that a clean one can be dropped without I/O; its first write is a
fault of its own. Where a region is written in order, the next write is foreseen, and its page comes in writable. Each
guess that is wrong costs a write to swap, so every `PROBE`th time a page comes in protected, to see a write again.
"""

from __future__ import annotations

from typing import Final

IN_ORDER: Final = 2
"""Writes in a row, each on the page after the one before, that make an order."""
PROBE: Final = 8
"""Every so many guesses the next write is waited for instead."""
AHEAD: Final = 16
"""Clean pages in memory that become writable together with the one that is written to."""


class WriteOrder:
    """The order of the writes to one region."""

    __slots__ = ("_guesses", "_next", "_run")

    def __init__(self) -> None:
        self._next = -1
        """The page that is written to next, if the order goes on."""
        self._run = 0
        """How often in a row the next page was the one expected, up to IN_ORDER."""
        self._guesses = 0

    def written(self, page: int) -> bool:
        """A write to a page was seen; whether it is one of several in order."""
        self._run = min(self._run + 1, IN_ORDER) if page == self._next else 0
        self._next = page + 1
        return self._run == IN_ORDER

    def foresees(self, page: int) -> bool:
        """Whether a read fault on a page is the beginning of the next write."""
        if self._run < IN_ORDER or page != self._next:
            return False
        self._guesses += 1
        return self._guesses % PROBE != 0

    def opened(self, page: int) -> None:
        """A page became writable: if its write was the next to be seen, that is the one after it now."""
        if page == self._next:
            self._next = page + 1
