"""Long work in parts, so that no event takes long: what one hint or unmap asks of many pages.

A chore is a generator that yields after each page: True when it can go on at once, False when it waits for I/O that is
in flight. Every event advances the oldest chore by a bounded number of pages. While one can go on, the core asks for a
GoOn event; a waiting one goes on with the completion that it waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

Chore = Iterator[bool]

PAGES_AN_EVENT: Final = 256
END_COSTS: Final = 64
"""What the end of a chore counts in pages: it may have passed over a large range that held nothing."""
MAX_CHORES: Final = 64
"""Chores that the hints of one process may have under way."""


class Chores:
    """The chores under way, oldest first."""

    __slots__ = ("queue",)

    def __init__(self) -> None:
        self.queue: deque[Chore] = deque()
        """Looked at after every event: whether it is empty."""

    def add(self, chore: Chore) -> None:
        """Begin a chore; its first part is done with the event that asked for it."""
        self.queue.append(chore)

    def add_first(self, chore: Chore) -> None:
        """Begin a chore that others wait for: it frees what they need."""
        self.queue.appendleft(chore)

    def go_on(self) -> bool:
        """Do a part; tells whether there is more that can be done without waiting."""
        queue = self.queue
        left = PAGES_AN_EVENT
        waiting = 0
        while left > 0:
            can_go_on = next(queue[0], None)
            if can_go_on:
                left -= 1
                waiting = 0
                continue
            if can_go_on is None:
                left -= END_COSTS
                queue.popleft()
            else:
                queue.rotate(-1)  # let another have its turn
                waiting += 1
            if waiting >= len(queue):
                return False
        return True
