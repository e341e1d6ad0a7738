"""Finds out from real faults which pages from swap are written to soon: those next in order, or most pages of a region.

A page from swap comes in write-protected, so that it can be dropped without I/O while it is clean. Its first write is
then another fault. While a region is written in order, page after page, the page of the next write comes in writable.
So does each page that comes in alone, if writes are in no order, while most of those that came in by a read were
written to before they left, as where records are looked up and then changed. Each wrong guess costs a write to swap,
so every `PROBE`th page comes in protected, to see a write again.
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
LOOKED_AT: Final = 32
"""Pages that come in protected between two looks at how many such pages were written to."""
MOSTLY: Final = 24
"""Writes among them from which on pages that come in alone come in writable.

A fault that a right guess saves is worth about as much as the write to swap that a wrong one costs, so half of them
would do; but disks wear out.
"""
LOOKED_AT_THEN: Final = 8
"""As LOOKED_AT, while they come in writable; it ends if fewer than half of those were written to."""


@mypyc_attr(allow_interpreted_subclasses=True)
class WriteOrder:
    """The writes to one region: their order, and whether they follow reads of the same pages."""

    __slots__ = ("_guesses", "_mostly", "_next", "_protected", "_run", "_written")

    def __init__(self) -> None:
        self._next = -1
        """The page of the next write, if that is in order."""
        self._run = 0
        """Writes in a row to the expected page, up to IN_ORDER."""
        self._guesses = 0
        self._mostly = False
        """Whether most pages were written to after they had come in protected."""
        self._protected = 0
        self._written = 0
        """Pages that came in protected since the last look, and writes to such pages."""

    def written(self, page: int) -> bool:
        """Record a write to a page; returns whether the region is being written in order."""
        self._run = min(self._run + 1, IN_ORDER) if page == self._next else 0
        self._next = page + 1
        return self._run == IN_ORDER

    def written_later(self) -> None:
        """Record the first write to a page that had come in protected."""
        self._written += 1

    def foresees(self, page: int, *, alone: bool) -> bool:
        """Whether to expect a write after a read fault on a page; else the page comes in protected.

        `alone`: no other pages come with it.
        """
        if page == self._next if self._run == IN_ORDER else self._mostly and alone:
            self._guesses += 1
            if self._guesses % PROBE:
                return True
        if alone:
            self._protected += 1
            if self._protected == (LOOKED_AT_THEN if self._mostly else LOOKED_AT):
                self._mostly = self._written >= (LOOKED_AT_THEN // 2 if self._mostly else MOSTLY)
                self._protected = self._written = 0
        return False

    def opened(self, page: int) -> None:
        """A page became writable, so its write will not be seen: if it was expected next, expect the page after it."""
        if page == self._next:
            self._next = page + 1
