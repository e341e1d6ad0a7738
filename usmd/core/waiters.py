"""What waits for a page: the interface of both kinds, and the record of one that waits for a free frame.

A fault of a stream is in `faults`, a thread that sleeps in the kernel in `real_faults`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation
    from usmd.core.region import Region
    from usmd.errors import UsmdError


class Waiter(ABC):
    """A page of a fault, until the page is present or cannot be had.

    `told`: the evict policy hears of this touch by `page_filled`; else it is one of a page that the policy knows.
    """

    __slots__ = ("page", "region", "told", "write")

    def __init__(self, region: Region, page: int, *, write: bool) -> None:
        self.region = region
        self.page = page
        self.write = write
        self.told = True

    @property
    @abstractmethod
    def failed(self) -> bool:
        """Whether its fault has failed already, so that it needs no frame."""

    @abstractmethod
    def came(self, error: UsmdError | None) -> None:
        """The page is present (`error` None), or cannot be had; called once."""


class WaitingPage:
    """A page that waits for a free frame: what waits for it, and what the alloc policy said of it."""

    __slots__ = ("plan", "waiter", "writable", "yields")

    def __init__(self, waiter: Waiter, plan: Allocation, *, yields: bool, writable: bool) -> None:
        self.waiter = waiter
        self.plan = plan
        self.yields = yields
        self.writable = writable
        """Its window comes in writable."""
