"""What a mechanism is: where the bytes of pages are, and how a client's touch of a page that is not there is told.

Commands of the core end here. A page is named by its key (`usmd.core.region.page_key`), a frame by its number; both
are trusted, for they come from the core. Nothing here blocks but for a copy of memory. Who may have which page, and
when, is the core's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from usmd.core.commands import SlotPage
from usmd.errors import SwapIOError, UsmdError

Errors = list[UsmdError | None]


class Busy(SwapIOError):
    """A page cannot be brought in at this moment, and can be in the next; never told to a client."""


class Stage:
    """Where the pages of one batch are read to: `buffers`, one a page, in the order of `pages`."""

    __slots__ = ("buffers", "pages")

    def __init__(self, pages: Sequence[SlotPage], buffers: list[memoryview]) -> None:
        self.pages = pages
        self.buffers = buffers


class Mechanism(ABC):
    """Bytes of pages. What only real memory needs does nothing by default."""

    name: ClassVar[str]

    def add_region(self, region_id: int, process_id: int, page_count: int) -> None:  # noqa: B027 - optional
        """A region of absent pages exists. Raises LimitExceeded, and has changed nothing, when there is no room."""

    def drop_regions(self, region_ids: Sequence[int], *, ended: bool) -> None:  # noqa: B027 - optional
        """Regions are gone, with their bytes; `ended`: because their session is over."""

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory any more, so that no touch finds its bytes."""
        del region_id
        return True

    def release(self, pages: Sequence[int]) -> None:  # noqa: B027 - optional
        """Pages have left their frames: give their memory back, and have touches of them fault."""

    def restore(self, pages: Sequence[int], writable: Sequence[bool]) -> None:  # noqa: B027 - optional
        """Pages stay, or may be written to from now on; whoever waits for one goes on."""

    def wake(self, pages: Sequence[int]) -> list[int]:
        """Have those go on who wait for pages that are there; returns those whose client had emptied them."""
        del pages
        return []

    def poison(self, pages: Sequence[int], reasons: Sequence[int]) -> list[int]:
        """Make touches of pages that are not there end in SIGBUS; returns those whose waiters must go on waiting.

        `reasons`: a FailureReason of the wire contract for each, which its client may look at; 0: none.
        """
        del reasons
        return list(pages)

    def tick(self) -> None:  # noqa: B027 - optional
        """Time has passed: do what was put off."""

    @abstractmethod
    def zero(self, frames: Sequence[int], pages: Sequence[int]) -> None:
        """Make frames all zero, and pages present on them."""

    @abstractmethod
    def protect(self, frames: Sequence[int], pages: Sequence[int]) -> Sequence[bool | None]:
        """Make the bytes of pages stable; say which are all zero, and None for one that cannot be stable now."""

    @abstractmethod
    def source(self, page: SlotPage) -> memoryview:
        """The bytes of a page that is being evicted, for a swap device to read.

        They are the page's until its write ends or is given up; after that they may be read and are anything.
        """

    @abstractmethod
    def stage(self, pages: Sequence[SlotPage], *, at_once: bool = False) -> Stage:
        """Buffers for a swap device to read pages into, of the pages in any order; then call `fill`, whatever came.

        They are memory of the daemon's own, on which no page is, unless the read is done `at_once`.
        Where a read does not end in time, call `unstage` in the place of `fill`, once it has ended.
        """

    def unstage(self, stage: Stage) -> None:
        """Give the buffers back without a fill."""
        for buffer in stage.buffers:
            buffer.release()

    @abstractmethod
    def fill(self, stage: Stage, errors: Sequence[UsmdError | None]) -> Errors:
        """Make the pages of a batch present that were read without an error, and give the buffers back.

        One error or None for each page: the one given, or why it cannot be present; with Busy call `fill` again.
        """

    @abstractmethod
    def load(self, frames: Sequence[int], first: int, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on in page `first` and those after it, which are on `frames`."""

    @abstractmethod
    def store(self, frames: Sequence[int], first: int, offset: int, data: memoryview) -> int:
        """Write `data` from `offset` on in page `first` and those after it, on `frames`; returns the bytes written."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""
