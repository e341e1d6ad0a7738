"""What the daemon keeps for this process: regions, each for as long as something here refers to its bytes.

A finalizer tells when nothing does any more. It runs in any thread, at any allocation, with any lock held; so what it
does takes no lock and waits for nothing.
"""

from __future__ import annotations

import contextlib
import queue
import time
import weakref
from collections.abc import Callable, Collection


class Holdings:
    """Regions of a session; `give_back` is called with the number of each that nothing refers to any more."""

    def __init__(self, give_back: Callable[[int], None]) -> None:
        self._give_back = give_back
        # One operation of a dict is atomic: of several threads that take a region, one gets it.
        self._names: dict[int, str] = {}
        self._watched = False
        self._gone_ones: queue.SimpleQueue[int] = queue.SimpleQueue()

    def keep(self, region_id: int, name: str, owner: object) -> None:
        """Keep a region until `owner` is gone; `name` is what messages call it."""
        self._names[region_id] = name
        weakref.finalize(owner, self._gone, region_id).atexit = False

    def take(self, region_id: int) -> bool:
        """Have the caller give the region back; False if it has been, or is being, given back."""
        return self._names.pop(region_id, None) is not None

    def put_back(self, region_id: int, name: str, owner: Callable[[], object]) -> bool:
        """Undo `take` as long as there is an `owner`; False if it is gone, and the region is the caller's to give back.

        The owner may go at any moment: either its finalizer gives the region back, or the caller does.
        """
        self._names[region_id] = name
        return owner() is not None or not self.take(region_id)

    def names(self) -> list[str]:
        """Names of the regions that are kept."""
        return list(self._names.values())

    def _gone(self, region_id: int) -> None:
        if self.take(region_id):
            self._give_back(region_id)
            if self._watched:
                self._gone_ones.put(region_id)

    def wait_for(self, region_ids: Collection[int], timeout: float) -> None:
        """Wait until nothing refers to these regions any more, at most `timeout` seconds."""
        self._watched = True
        deadline = time.monotonic() + timeout
        while not self._names.keys().isdisjoint(region_ids):
            with contextlib.suppress(queue.Empty):
                self._gone_ones.get(timeout=max(0.0, deadline - time.monotonic()))
                continue
            return
