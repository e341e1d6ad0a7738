"""Faults of clients with a guarantee (`memory_min`), which are served between those of another client.

A client whose threads fault without pause keeps the loop busy with its userfaultfd. What a client with a guarantee may
expect is that its own faults wait for one batch of those at most, and not for a turn of the loop. The userfaultfds of
all such clients are in one epoll set, so that a look at them costs the same however many there are.

A thread whose fault was served often faults again at once, on the next page. So after a fault there are further looks
for a moment, before the other client has its turn: else each page of a few would wait for an event of that one.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final, Protocol

from usmd.core.guarantees import Guarantees

NOBODY: Final = 0
"""The number of no process."""
MOST: Final = 4
"""Clients that are served at a look; others that are ready have their turn at the next one."""
LINGER_SECONDS: Final = 5e-5
"""How long after a fault there are looks for the next one."""
MOST_SECONDS: Final = 0.001
"""How long there are such looks at most. Then others have as much time before there are any again."""
MOST_LOOKS: Final = 1000
"""Such looks at most, whatever the clock says."""


class Serves(Protocol):
    """What serves the faults of a client."""

    def serve_once(self) -> None:
        """Serve those that have happened."""


class GuaranteedFaults:
    """The userfaultfds of all clients, of which those with a guarantee are looked at. `clock`: seconds."""

    def __init__(self, guarantees: Guarantees, clock: Callable[[], float] = time.monotonic) -> None:
        self._guarantees = guarantees
        self._clock = clock
        self._rests_until = 0.0
        """Until then one look is all."""
        self._seen = guarantees.changes
        self._all: dict[int, tuple[int, Serves]] = {}
        """By process: its userfaultfd, and what serves it."""
        self._set = select.epoll()
        self._watched: dict[int, int] = {}
        """The processes with a guarantee, by their userfaultfds, which are in the set."""

    def add(self, process_id: int, descriptor: int, reader: Serves) -> None:
        """Serve this client, whenever it has a guarantee, until `remove`."""
        self._all[process_id] = descriptor, reader
        self._seen = -1

    def remove(self, process_id: int) -> None:
        """Forget a client, whose userfaultfd is still open. A second call does nothing."""
        known = self._all.pop(process_id, None)
        if known is not None and self._watched.pop(known[0], None) is not None:
            self._set.unregister(known[0])

    def serve(self, beside: int = NOBODY) -> None:
        """Serve those whose faults wait, but for process `beside`, and for a moment those that fault meanwhile."""
        if self._seen != self._guarantees.changes:
            self._look()
        watched = self._watched
        if not watched or (len(watched) == 1 and beside in watched.values()) or not self._serve_ready(beside):
            return
        began = now = self._clock()
        if now < self._rests_until:
            return
        ends, until, looks = now + MOST_SECONDS, now + LINGER_SECONDS, 0
        while now < until and looks < MOST_LOOKS:
            looks += 1
            served = self._serve_ready(beside)
            now = self._clock()
            if served:
                until = min(now + LINGER_SECONDS, ends)
        self._rests_until = now + (now - began)

    def _serve_ready(self, beside: int) -> bool:
        """Serve those whose faults wait; returns whether there are any."""
        watched, served = self._watched, False
        for process_id in [watched[descriptor] for descriptor, _ in self._set.poll(0, MOST)]:
            # A client that was served before it may have ended it.
            if process_id != beside and (known := self._all.get(process_id)) is not None:
                known[1].serve_once()
                served = True
        return served

    def _look(self) -> None:
        """Have those in the set that have a guarantee now."""
        self._seen = self._guarantees.changes
        wanted = {
            self._all[each.process_id][0]: each.process_id
            for each in self._guarantees.processes
            if each.process_id in self._all
        }
        for descriptor in self._watched.keys() - wanted.keys():
            self._set.unregister(descriptor)
        for descriptor in wanted.keys() - self._watched.keys():
            self._set.register(descriptor, select.EPOLLIN)
        self._watched = wanted

    def close(self) -> None:
        """Serve nobody any more."""
        self._all.clear()
        self._watched.clear()
        self._set.close()
