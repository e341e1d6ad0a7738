"""The interface of waiters for pages, and the record of a page that waits for a free frame.

The two kinds are `faults.StreamWaiter` and `real_faults.ThreadWaiter`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usmd.core.allocation import Allocation
    from usmd.core.region import Region
    from usmd.errors import UsmdError


class Waiter(ABC):
    """Waits for one page of a fault until the page is present or unavailable.

    `told`: `page_filled` notifies the evict policy of this touch; else the policy knows the page already.
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
        """Whether its fault has failed already, so it needs no frame."""

    @abstractmethod
    def came(self, error: UsmdError | None) -> None:
        """The page is present (`error` None) or unavailable. Called once."""


class WaitingPage:
    """A page that waits for a free frame: its waiter, and the answer of the alloc policy."""

    __slots__ = ("plan", "until", "waiter", "writable", "yields")

    def __init__(self, waiter: Waiter, plan: Allocation, *, yields: bool, writable: bool) -> None:
        self.waiter = waiter
        self.plan = plan
        self.yields = yields
        self.writable = writable
        """As for `PageLife.swap_in`, for the page and those beside it."""
        self.until: float | None = None
        """Time at which its fault fails if it is frozen, see `freezing`; None: it never was."""
