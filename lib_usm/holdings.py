"""The regions that the daemon keeps for this process, each while an object here refers to its bytes.

A finalizer reports the end of the last reference. It may run in any thread, at any allocation, with any lock held. So
it takes no lock and waits for nothing.
"""

from __future__ import annotations

import contextlib
import queue
import time
import weakref
from collections.abc import Callable, Collection


class Holdings:
    """Regions of a session.

    `give_back` is called with a region's number when no object refers to its bytes any more.
    """

    def __init__(self, give_back: Callable[[int], None]) -> None:
        self._give_back = give_back
        # Operations of a dict are atomic: if several threads take a region, one of them gets it.
        self._names: dict[int, str] = {}
        self._watched = False
        self._gone_ones: queue.SimpleQueue[int] = queue.SimpleQueue()

    def keep(self, region_id: int, name: str, owner: object) -> None:
        """Keep a region until `owner` is deallocated. `name` is for messages."""
        self._names[region_id] = name
        weakref.finalize(owner, self._gone, region_id).atexit = False

    def take(self, region_id: int) -> bool:
        """True if the caller is to give the region back; false if another thread does, or has."""
        return self._names.pop(region_id, None) is not None

    def put_back(self, region_id: int, name: str, owner: Callable[[], object]) -> bool:
        """Undo `take` while `owner` returns an object. False if it returns None: then the caller gives the region back.

        The owner may be deallocated at any moment; either its finalizer or the caller gives the region back, never
        both.
        """
        self._names[region_id] = name
        return owner() is not None or not self.take(region_id)

    def names(self) -> list[str]:
        """Names of the kept regions."""
        return list(self._names.values())

    def _gone(self, region_id: int) -> None:
        if self.take(region_id):
            self._give_back(region_id)
            if self._watched:
                self._gone_ones.put(region_id)

    def wait_for(self, region_ids: Collection[int], timeout: float) -> None:
        """Wait until no object refers to these regions any more, at most `timeout` seconds."""
        self._watched = True
        deadline = time.monotonic() + timeout
        while not self._names.keys().isdisjoint(region_ids):
            with contextlib.suppress(queue.Empty):
                self._gone_ones.get(timeout=max(0.0, deadline - time.monotonic()))
                continue
            return
