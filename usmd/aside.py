"""Work on a thread of its own: the caller hands an item over and never waits.

A write of the event loop to a pipe, a terminal, a file or another program's socket can block as long as its reader
sleeps. Such writes go here, and lose items instead of time: the queue is bounded, lost items are counted, and a mark
with the count takes their place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

STALL_SECONDS: Final = 1.0
"""Longest wait of `finish` without progress."""
FINISH_SECONDS: Final = 5.0
"""Longest wait of `finish` in all."""

_T = TypeVar("_T")


class Aside(Generic[_T]):
    """A bounded queue, and a daemon thread that performs its items in order.

    `perform` may block; it returns false if the item was lost, and raises nothing. `size_of` returns what an item
    counts if it is lost. `mark` makes the item that reports a loss; None: losses are not reported. At most `limit`
    items wait.
    """

    def __init__(
        self,
        name: str,
        perform: Callable[[_T], bool],
        *,
        limit: int,
        size_of: Callable[[_T], int] = lambda _: 1,
        mark: Callable[[int], _T] | None = None,
    ) -> None:
        self.mark = mark
        self._perform = perform
        self._limit = limit
        self._size_of = size_of
        self._items: SimpleQueue[tuple[int, _T] | threading.Event] = SimpleQueue()
        # Reentrant, because a finalizer may run while it is held, and hand over an item.
        self._lock = threading.RLock()
        self._lost = 0
        self._performed = 0
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def lost(self) -> int:
        """The sum of what was lost and not yet reported."""
        return self._lost

    def put(self, item: _T) -> bool:
        """Hand an item over; false if it is lost because the queue is full.

        After a loss, items are lost until half of the queue is free, so that a slow reader gets stretches without gaps.
        """
        with self._lock:
            if self._items.qsize() >= (self._limit // 2 if self._lost else self._limit):
                self._lost += self._size_of(item)
                return False
            self._tell_loss()
            self._items.put((self._size_of(item), item))
        return True

    def finish(self, stall: float = STALL_SECONDS, longest: float = FINISH_SECONDS) -> bool:
        """Wait until all items handed over so far are performed; returns whether they are.

        Gives up after `stall` seconds without progress, and after `longest` seconds in all.
        """
        done = threading.Event()
        with self._lock:
            self._tell_loss()
            self._items.put(done)
        deadline = time.monotonic() + longest
        while True:
            before = self._performed
            left = deadline - time.monotonic()
            if done.wait(max(0.0, min(stall, left))):
                return True
            if left <= 0 or self._performed == before:
                return False

    def _tell_loss(self) -> None:
        if self._lost and self.mark is not None:
            lost, self._lost = self._lost, 0
            self._items.put((lost, self.mark(lost)))

    def _run(self) -> None:
        while True:
            item = self._items.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            size, work = item
            performed = self._perform(work)
            self._performed += 1
            with self._lock:
                if not performed:
                    self._lost += size  # reported with the next item: a report now would be lost as well
                elif self._items.empty():
                    self._tell_loss()
