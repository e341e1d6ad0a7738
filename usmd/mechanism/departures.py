"""Regions and clients of real memory that are gone: what is still to be done for them, on threads of their own.

The memory of a region is given back. A client's missing pages become an error to touch, and its userfaultfd is closed.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final

from usmd import log
from usmd.errors import LimitExceeded
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import Aftercare
from usmd.mechanism.real_region import RealRegion

MAX_LATE: Final = 16
"""Regions whose end is late; then no region is made until they are through."""
AT_A_STRETCH: Final = 8
REST_SECONDS: Final = 0.0005
"""After so many regions their threads rest: each needs Python's lock, for which the loop would wait many times."""
FINISH_SECONDS: Final = 10.0
"""Longest wait for what is to be done when the daemon ends."""


class Departures:
    """Regions that are emptied, and clients that are let go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._emptying: dict[int, RealRegion] = {}
        """Regions that are gone and still hold memory."""
        self._gone: SimpleQueue[Sequence[RealRegion] | threading.Event] = SimpleQueue()
        """Regions for which no job was begun yet. The loop does no more than put them here, for there may be many."""
        self._begins = False
        """A thread takes them from there."""
        self._leaving: list[ClientMemory] = []
        """Clients that are gone, and whose userfaultfd is still open."""
        self._of_regions = Aftercare(_late, clock)
        self._of_clients = Aftercare(_late, clock)

    def check_room(self) -> None:
        """Raise LimitExceeded while the memory of too many regions cannot be given back."""
        if self._of_regions.behind >= MAX_LATE:
            raise LimitExceeded(
                f"the memory of {self._of_regions.behind} regions that are gone cannot be given back, because another "
                "process holds their memfds; no region is made before it is"
            )

    def empty(self, regions: Sequence[RealRegion]) -> None:
        """Give all memory of regions back, and close them."""
        if not regions:
            return
        self._emptying.update((region.region_id, region) for region in regions)
        self._gone.put(regions)  # all at once: the thread that takes them needs Python's lock, as the loop does
        if not self._begins:
            self._begins = True
            _thread.start_new_thread(self._begin_jobs, ())  # Thread.start would wait until it runs

    def _begin_jobs(self) -> None:
        """Begin a job for each region that is gone, until an event is put in the place of regions."""
        while True:
            regions = self._gone.get()
            if isinstance(regions, threading.Event):
                regions.set()
                return
            for number, region in enumerate(regions, 1):
                if number % AT_A_STRETCH == 0:
                    time.sleep(REST_SECONDS)
                self._of_regions.put(f"the end of region {region.region_id}", partial(self._empty, region))
            del regions, region  # or their mappings would live until the next go

    def _empty(self, region: RealRegion) -> None:
        try:
            region.empty()
        finally:
            self._emptying.pop(region.region_id, None)
            region.emptied.set()

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory."""
        return region_id not in self._emptying

    def farewell(self, client: ClientMemory, *, poison: bool) -> None:
        """Close a client, and first make what is missing in it an error to touch.

        That is after its regions were emptied: a page that goes from a mapping which is served no more would be one of
        zeros, and not an error.
        """
        client.on_early = lambda: None
        self._leaving.append(client)

        def end() -> None:
            try:
                # Here, for there may be very many; only the events, or their mappings would live as long.
                for emptied in [each.emptied for each in list(self._emptying.values()) if each.client is client]:
                    emptied.wait()
                if poison:
                    client.poison_all()
            finally:
                client.close()
                self._leaving.remove(client)

        self._of_clients.put(f"the end of the memory of process {client.pid}", end)

    def overlap(self, pid: int, address: int, length: int) -> bool:
        """Whether a client of process `pid` that is being let go had a region at some of these addresses."""
        return any(each.pid == pid and each.overlaps(address, length) for each in list(self._leaving))

    def tick(self) -> None:
        """Time has passed."""
        self._of_regions.tick()
        self._of_clients.tick()

    def finish(self) -> None:
        """Wait until all is done, for `FINISH_SECONDS` at most each."""
        if self._begins:
            begun = threading.Event()
            self._gone.put(begun)
            begun.wait(FINISH_SECONDS)
            self._begins = False
        for aftercare in (self._of_clients, self._of_regions):
            for what in aftercare.finish(FINISH_SECONDS):
                _late(what)


def _late(what: str) -> None:
    log.event("aftercare_late", what=what)
