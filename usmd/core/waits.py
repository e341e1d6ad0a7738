"""Ends the waits of faults: a few at once, and the rest by deferred work, because very many may end in one event.

A session may have thousands of faults on a single page, or on the pages of a region that it unmaps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from usmd.core.work import Kind, Progress, Work, WorkQueue

if TYPE_CHECKING:
    from usmd.core.waiters import Waiter
    from usmd.errors import UsmdError

AT_ONCE: Final = 16
"""Waiters of a page, or of a region, that are notified in the event that ends their waits; the others follow in parts.
An event may end the waits for 64 pages."""


class Waits:
    """The waits that have ended, and whose waiters are still to be notified."""

    __slots__ = ("_work", "late")

    def __init__(self, work: WorkQueue) -> None:
        self._work = work
        self.late: deque[tuple[Waiter, UsmdError | None]] = deque()
        """In the order in which they ended, with the errors."""

    def end(self, waiters: Iterable[Waiter], error: UsmdError | None) -> None:
        """The pages of waiters are present (`error` None), or unavailable, for which a region that is gone suffices."""
        rest = iter(waiters)
        for waiter in islice(rest, AT_ONCE):
            waiter.came(waiter.region.gone or error)
        late = self.late
        began = not late
        late.extend((waiter, error) for waiter in rest)
        if late and began:
            self._work.add_first(Work(Kind.NOTIFY))

    def part(self, work: Work, most: int) -> tuple[int, Progress]:
        """Notify some waiters. A page may have left memory again by then, so its fault ends without it."""
        del work
        late = self.late
        done = min(most, len(late))
        for _ in range(done):
            waiter, error = late.popleft()
            waiter.came(waiter.region.gone or error)
        return done, Progress.GOES_ON if late else Progress.ENDED
