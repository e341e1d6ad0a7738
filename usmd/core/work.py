"""Deferred work: the work of an event on many pages is done in parts, so that no event takes long.

A piece of work is a record of what remains, and each kind has a function that does a part. An event does a bounded
number of pages, of the oldest piece first. While a piece can continue, the core asks for a GoOn event, which does the
next part after other events. A piece that waits for I/O continues with the event that completes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

from usmd.core.pages_left import PagesLeft, Steps

if TYPE_CHECKING:
    from usmd.core.region import Process, Region

PAGES_AN_EVENT = 128
END_COSTS = 64
"""The end of a piece of work counts as this many pages."""
MAX_WORK: Final = 64
"""Most WILLNEED and DONTNEED hints under way for one process, and most other hints for one region."""


class Kind(Enum):
    """What the work does."""

    REFRESH = "refresh"
    """Brings resident pages of a range in line with the hints in force."""
    RELEASE = "release"
    """Frees frames and slots of regions that are gone."""
    DISCARD = "discard"
    """Frees frames and slots of a range whose bytes its process has given up."""
    EVICT = "evict"
    """Evicts pages of a range (DONTNEED)."""
    FETCH = "fetch"
    """Brings in pages of a range (WILLNEED)."""
    TELL_SWAPPED = "tell swapped"
    """Notifies a new conditional policy of the pages in swap."""
    BACKGROUND = "background reclaim"
    """Does a round of background reclaim."""
    HAND_OVER = "hand over"
    """Notifies a new evict policy of the pages in memory."""
    NOTIFY = "notify"
    """Notifies waiters whose waits have ended."""
    NOTE = "note"
    """Notes the pages in memory of a process that is sampled from now on."""
    SHRINK = "shrink"
    """Evicts pages of a process above its new `memory_max`."""
    LET_GO = "let go"
    """Ends EVICTION=DENY of pages of a process above its new budget."""
    SEARCH = "search"
    """Looks for a page of a process at its `memory_max` that needs no slot."""
    TELL = "tell"
    """Tells processes of a user that they may have more faults."""
    RETIRE = "retire"
    """Moves the pages of swap devices that are retiring."""
    WINDOW = "window"
    """Brings in the rest of a window that is too large for one event."""


_GIVES_WAY: Final = frozenset((Kind.WINDOW, Kind.RETIRE))
"""Work that delays no other work by more than a part: a guess, and what may take very long."""


class Progress(Enum):
    """How a part ended."""

    GOES_ON = "goes on"
    WAITS = "waits"
    """For I/O that is in flight."""
    ENDED = "ended"


class Work(PagesLeft):
    """The rest of a piece of work: pages `next_page` to `end` - 1 of `region`, if it is about pages of one region.

    `counted`: `process.work` counts it until it ends. `reply_to`: of the SetHint whose HintApplied, or the
    Discard whose Discarded, reports its end; 0: none does. `steps`: for work kept in a generator, the generator.
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
"""Does a part of at most this many pages; returns the number of pages done, and how the part ended."""


def one_by_one(work: Work, most: int) -> tuple[int, Progress]:
    """Do a part of work that is kept in a generator, see `Steps`."""
    if work.steps is None:
        raise TypeError(f"{work.kind} has no steps")
    for done in range(most):
        can_go_on = next(work.steps, None)
        if can_go_on is None:
            return done, Progress.ENDED
        if not can_go_on:
            return done, Progress.WAITS
    return most, Progress.GOES_ON


class WorkQueue:
    """The pieces of work under way, oldest first."""

    __slots__ = ("asked", "queue")

    def __init__(self) -> None:
        self.queue: deque[Work] = deque()
        """Read only; the core checks after every event whether it is empty."""
        self.asked = False
        """Whether a GoOn is on its way, which does the next part. No other event does one meanwhile."""

    def add(self, work: Work) -> None:
        """Begin a piece of work, after all others."""
        if work.counted and work.process is not None:
            work.process.work += 1
        self.queue.append(work)

    def add_first(self, work: Work) -> None:
        """Begin a piece of work that goes before all others, because it frees frames and slots."""
        self.queue.appendleft(work)

    def go_on(self, parts: Mapping[Kind, DoPart]) -> bool:
        """Do as much as one event may; returns whether more can be done without waiting for I/O."""
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
                queue.rotate(-1)  # continue with another piece
                waiting += 1
            elif work.kind in _GIVES_WAY:
                queue.rotate(-1)
        return len(queue) > 0
