"""The interface of a channel: reads and writes of one file, submitted without a wait and completed later.

usmd.swap.io_uring and usmd.swap.linux_aio are channels; usmd.swap.ways chooses one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

DEPTH: Final = 512
"""Requests that a channel has in flight at most."""

Request = tuple[bool, int, int, int, int]
"""Whether it is a write, offset in the file, address of the memory, bytes, and a number that its completion has."""


class Channel(ABC):
    """Requests to one file, at most `DEPTH` in flight, which the caller sees to. For one thread alone.

    The memory of a request must stay mapped, and is the kernel's, until the request has completed.
    """

    way: ClassVar[str]
    """The name that operators write."""

    at_once: ClassVar[bool]
    """Whether a request may have completed when `submit` returns, as a read of cached bytes."""

    descriptor: int
    """Readable while a request has completed that `completed` has not returned."""

    @abstractmethod
    def submit(self, requests: Sequence[Request]) -> int:
        """Submit requests in order; returns the number of those that were, fewer if the kernel takes no more now."""

    def start_writing(self, number: int) -> bool:
        """Have the kernel begin to write what is dirty of the file in the page cache, as a request of this number.

        It needs no room. False: the channel does not do that, or not now.
        """
        del number
        return False

    @abstractmethod
    def completed(self) -> list[tuple[int, int]]:
        """Number and result of each request that has completed: bytes moved, or an errno below 0."""

    @abstractmethod
    def close(self) -> None:
        """Close the channel; no request may be in flight."""
