"""Deferred work: what one event asks of many pages is done in parts, so that no event takes long.

A piece of work is a record of what is left of it, and each kind has a function that does a part. The oldest piece goes
first, by a bounded number of pages an event. While one can go on, the core asks for a GoOn event, which does the next
part when others had their turn; one that waits for I/O goes on with the completion that it waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from usmd.core.pages_left import PagesLeft, Steps

if TYPE_CHECKING:
    from usmd.core.region import Process, Region

PAGES_AN_EVENT: Final = 128
END_COSTS: Final = 64
"""What the end of a piece of work counts in pages."""
MAX_WORK: Final = 64
"""Hints with WILLNEED or DONTNEED that one process may have under way, and other hints on one region."""


class Kind(Enum):
    """What is done."""

    REFRESH = "refresh"
    """Resident pages of a range are brought in line with the hints in force."""
    RELEASE = "release"
    """Frames and slots of regions that are gone become free."""
    EVICT = "evict"
    """Pages of a range go to swap (DONTNEED)."""
    FETCH = "fetch"
    """Pages of a range come into memory (WILLNEED)."""
    TELL_SWAPPED = "tell swapped"
    """A new conditional policy hears of the pages that are in swap."""
    BACKGROUND = "background reclaim"
    """A round of background reclaim: each conditional policy has its turn."""
    HAND_OVER = "hand over"
    """A new evict policy hears of the pages that are in memory."""


class Progress(Enum):
    """How a part ended."""

    GOES_ON = "goes on"
    WAITS = "waits"
    """For I/O that is in flight."""
    ENDED = "ended"


class Work(PagesLeft):
    """What is left of a piece of work: pages `next_page` to `end` - 1 of `region`, as far as it has such.

    `counted`: it counts for `process` until it ends. `reply_to`: whom its end is told to; 0: nobody. `steps`: of work
    that cannot be written down, an iterator that does a page a step.
    """

    __slots__ = ("counted", "kind", "process", "region", "reply_to", "steps")

    def __init__(
        self,
        kind: Kind,
        process: Process | None = None,
        region: Region | None = None,
        first: int = 0,
        end: int = 0,
        *,
        counted: bool = False,
        reply_to: int = 0,
        steps: Steps | None = None,
    ) -> None:
        super().__init__(first, end)
        self.kind = kind
        self.process = process
        self.region = region
        self.counted = counted
        self.reply_to = reply_to
        self.steps = steps


DoPart = Callable[[Work, int], tuple[int, Progress]]
"""Does a part of at most so many pages; returns the pages that it did, and how it ended."""


def one_by_one(work: Work, most: int) -> tuple[int, Progress]:
    """Do a part of work that is an iterator: True after a page, False when it waits."""
    if work.steps is None:
        raise TypeError(f"{work.kind} is no work that goes step by step")
    for done in range(most):
        can_go_on = next(work.steps, None)
        if can_go_on is None:
            return done, Progress.ENDED
        if not can_go_on:
            return done, Progress.WAITS
    return most, Progress.GOES_ON


class WorkQueue:
    """The pieces of work under way, oldest first."""

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue: deque[Work] = deque()
        """Looked at after every event: whether it is empty."""

    def add(self, work: Work) -> None:
        """Begin a piece of work; its first part is done with the event that asked for it."""
        if work.counted and work.process is not None:
            work.process.work += 1
        self.queue.append(work)

    def add_first(self, work: Work) -> None:
        """Begin a piece of work before all others: it frees what they need."""
        self.queue.appendleft(work)

    def go_on(self, parts: Mapping[Kind, DoPart]) -> bool:
        """Do what one event may take; tells whether there is more that can be done without waiting."""
        queue = self.queue
        left = PAGES_AN_EVENT
        waiting = 0
        while left > 0:
            if waiting >= len(queue):
                return False
            work = queue[0]
            done, progress = parts[work.kind](work, left)
            left -= done
            if done:
                waiting = 0
            if progress is Progress.ENDED:
                left -= END_COSTS
                queue.remove(work)
                if work.counted and work.process is not None:
                    work.process.work -= 1
            elif progress is Progress.WAITS:
                queue.rotate(-1)  # let another have its turn
                waiting += 1
        return len(queue) > 0
