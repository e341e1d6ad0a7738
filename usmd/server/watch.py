"""Passes notices on to the log, and to operators that watch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from usmd import log
from usmd.core.commands import Notice
from usmd.errors import InvalidArgument
from usmd.event_levels import NOTICES

BACKLOG: Final = 1000
"""Events kept for a watcher that does not read. Newer ones are dropped, and it gets their number."""


class WatchedEvent:
    """A notice and the wall clock at which it came."""

    __slots__ = ("notice", "time")

    def __init__(self, notice: Notice, when: float) -> None:
        self.notice = notice
        self.time = when


class Watcher:
    """A reader of events: `next()` waits for one; None is the end.

    `kinds` and `process_ids`: which events it wants; empty: all.
    """

    def __init__(self, kinds: Collection[str] = (), process_ids: Collection[int] = ()) -> None:
        self._kinds = frozenset(kinds)
        self._process_ids = frozenset(process_ids)
        self._waiting: deque[WatchedEvent | None] = deque()
        self._arrived = asyncio.Event()
        self._missed = 0

    def put(self, event: WatchedEvent | None) -> None:
        """Hand over an event if it is wanted, or count it as missed; None ends the watch in any case."""
        if event is not None and not self._wants(event.notice):
            return
        if event is not None and len(self._waiting) >= BACKLOG:
            self._missed += 1
            return
        if self._missed:
            self._waiting.append(self._gap())
        self._waiting.append(event)
        self._arrived.set()

    async def next(self) -> WatchedEvent | None:
        """The next event."""
        if not self._waiting and self._missed:
            return self._gap()
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def _wants(self, notice: Notice) -> bool:
        return (not self._kinds or notice.kind in self._kinds) and (
            not self._process_ids or notice.process_id in self._process_ids
        )

    def _gap(self) -> WatchedEvent:
        """An event in place of those that were missed."""
        missed, self._missed = self._missed, 0
        text = f"{missed} events were missed, because they were not read in time"
        return WatchedEvent(Notice("events_missed", 0, text, {"missed": str(missed)}), time.time())


class Watch:
    """Hands notices to the log and to all watchers. `clock` is the wall clock, seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._watchers: set[Watcher] = set()
        self._clock = clock

    def publish(self, notice: Notice) -> None:
        """Write a notice to the log, and hand it to all watchers."""
        log.event(notice.kind, process_id=notice.process_id, message=notice.message, **notice.fields)
        if self._watchers:
            event = WatchedEvent(notice, self._clock())
            for watcher in self._watchers:
                watcher.put(event)

    @contextmanager
    def watcher(self, kinds: Collection[str] = (), process_ids: Collection[int] = ()) -> Iterator[Watcher]:
        """A watcher for as long as the block lasts; raises InvalidArgument for an unknown kind."""
        unknown = sorted(set(kinds) - set(NOTICES))
        if unknown:
            raise InvalidArgument(f"event kind {unknown[0]!r} does not exist; allowed are {', '.join(sorted(NOTICES))}")
        watcher = Watcher(kinds, process_ids)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def end(self) -> None:
        """End all watches, because the daemon drains."""
        for watcher in self._watchers:
            watcher.put(None)
