"""The interface of a mechanism, which holds the bytes of pages and acts on the mappings of clients.

The engine performs commands of the core by it. A page is named by its key (`usmd.core.region.page_key`), a frame by its
number; both come from the core, so they are trusted. No method waits for a device, or without a bound for a client.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from usmd.core.commands import SlotPage
from usmd.errors import SwapIOError, UsmdError

Errors = list[UsmdError | None]


class Busy(SwapIOError):
    """A page cannot be filled, or a region mapped, at the moment; try again. No client sees this error."""


class Stage:
    """Memory that a batch of pages is read into: `buffers`, one a page, in the order of `pages`.

    `address`: where the first one is, if they are side by side and stay where they are; else 0.
    """

    __slots__ = ("address", "buffers", "pages")

    def __init__(self, pages: Sequence[SlotPage], buffers: list[memoryview], address: int = 0) -> None:
        self.address = address
        self.pages = pages
        self.buffers = buffers


class Mechanism(ABC):
    """Bytes of pages. Methods that only real memory needs do nothing by default."""

    name: ClassVar[str]
    sampling = ""
    """How touches that are no faults are heard of, or `off: ` and why they are not; empty: each touch is a call."""

    def add_region(self, region_id: int, process_id: int, page_count: int) -> None:  # noqa: B027 - optional
        """Make a region of absent pages. Raises LimitExceeded if there is no room, and has then changed nothing."""

    def drop_regions(self, region_ids: Sequence[int], *, ended: bool) -> None:  # noqa: B027 - optional
        """Drop regions and their bytes. `ended`: because their session has ended."""

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory, so that no touch finds its bytes."""
        del region_id
        return True

    def release(self, pages: Sequence[int]) -> None:  # noqa: B027 - optional
        """Give back the memory of pages that have left their frames. A touch of them faults from now on, or from soon.

        Until then it finds the bytes that the page had, and a write is a fault if the page was protected.
        """

    def settle(self) -> None:  # noqa: B027 - optional
        """Wait until touches of all released pages fault."""

    def restore(self, pages: Sequence[int], writable: Sequence[bool]) -> None:  # noqa: B027 - optional
        """Keep pages present, allow writes to the writable ones, and wake the threads that wait for them."""

    def wake(self, pages: Sequence[int]) -> list[int]:
        """Wake threads that wait for present pages; returns the pages that their client had punched out."""
        del pages
        return []

    def map_again(self, pages: Sequence[int], writable: Sequence[bool]) -> None:  # noqa: B027 - optional
        """Put present pages back into their clients' page tables, and wake the threads that wait for them."""

    def sample(self, pages: Sequence[int]) -> None:  # noqa: B027 - optional
        """Take present pages, in ascending order, out of their clients' page tables, as far as that is possible."""

    def poison(self, pages: Sequence[int], reasons: Sequence[int]) -> list[int]:
        """Make touches of missing pages raise SIGBUS; returns the pages whose threads must keep waiting.

        `reasons`: for each page a FailureReason of the wire contract, which its client can read; 0: none.
        """
        del reasons
        return list(pages)

    def tick(self) -> None:  # noqa: B027 - optional
        """Retry what was put off; called every 0.1 s."""

    @abstractmethod
    def zero(self, frames: Sequence[int], pages: Sequence[int]) -> None:
        """Fill frames with zeros, and make pages present on them."""

    @abstractmethod
    def protect(self, frames: Sequence[int], pages: Sequence[int]) -> Sequence[bool | None]:
        """Stop writes to pages. Returns for each whether it is all zero, or None if writes cannot be stopped now."""

    @abstractmethod
    def source(self, page: SlotPage) -> memoryview:
        """The bytes of a page that is being evicted, for a swap device to read.

        They are the page's until its write ends or is given up. A later read is harmless, and finds any bytes.
        """

    @abstractmethod
    def stage(self, pages: Sequence[SlotPage], *, at_once: bool = False) -> Stage:
        """Buffers for a swap device to read pages into; `pages` may be in any order. Then call `fill`, errors or not.

        Unless the read is done `at_once`, the buffers are apart from all frames.
        If a read is late, call `unstage` once it has ended, in place of `fill`.
        """

    def unstage(self, stage: Stage) -> None:
        """Give the buffers back without a fill."""
        for buffer in stage.buffers:
            buffer.release()

    @abstractmethod
    def fill(self, stage: Stage, errors: Sequence[UsmdError | None]) -> Errors:
        """Make present the pages that were read without an error, and give the buffers back.

        Returns for each page its error of `errors`, or why it cannot be present, or None. If any is Busy, the buffers
        are kept: call `fill` again with these results.
        """

    @abstractmethod
    def load(self, frames: Sequence[int], first: int, offset: int, length: int) -> bytes:
        """Read `length` bytes from `offset` on in page `first` and the pages after it, which are on `frames`."""

    @abstractmethod
    def store(self, frames: Sequence[int], first: int, offset: int, data: memoryview) -> int:
        """Write `data` from `offset` on in page `first` and the pages after it, on `frames`; returns the bytes done."""

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""
