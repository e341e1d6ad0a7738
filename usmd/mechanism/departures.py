"""Cleans up after regions and clients of real memory that are gone, on threads of its own.

The memory of a region is given back. A client's missing pages are poisoned, and its userfaultfd is closed.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final

from usmd import log
from usmd.errors import LimitExceeded
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.off_loop import Aftercare
from usmd.mechanism.real_region import RealRegion

MAX_LATE: Final = 16
"""While so many regions are late to be emptied, no region is made."""
AT_A_STRETCH: Final = 8
PAGES_AT_A_STRETCH: Final = 4096
"""One job empties so many regions of a process, or the first that have so many pages: to hand over a job takes longer
than to empty a small region."""
REST_SECONDS: Final = 0.0005
"""Between two jobs the thread that begins them rests: the loop waits while it holds Python's lock."""
FINISH_SECONDS: Final = 10.0
"""Longest wait for each kind of job when the daemon ends."""


class Departures:
    """Regions that are being emptied, and clients that are being closed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._emptying: dict[int, RealRegion] = {}
        """Regions that are gone and still hold memory."""
        self._gone: SimpleQueue[Sequence[RealRegion] | threading.Event] = SimpleQueue()
        """Regions without a job. The loop does no more than put them here, because there may be many."""
        self._begins = False
        """A thread begins jobs for the regions in `_gone`."""
        self._leaving: list[ClientMemory] = []
        """Clients that are gone, but whose userfaultfd is still open."""
        self._of_regions = Aftercare(_late, clock)
        self._of_clients = Aftercare(_late, clock)

    def check_room(self) -> None:
        """Raise LimitExceeded while the memory of too many regions cannot be given back."""
        if self._of_regions.behind >= MAX_LATE:
            raise LimitExceeded(
                f"the memory of {self._of_regions.behind} regions that are gone cannot be given back, because another "
                "process holds their memfds; no region is made until it is"
            )

    def empty(self, regions: Mapping[int, RealRegion]) -> None:
        """Give back all memory of regions, which come by number, and close them."""
        if not regions:
            return
        self._emptying.update(regions)
        # In one piece: the loop and the thread that takes them compete for Python's lock.
        self._gone.put(list(regions.values()))
        if not self._begins:
            self._begins = True
            _thread.start_new_thread(self._begin_jobs, ())  # Thread.start would wait until it runs

    def _begin_jobs(self) -> None:
        """Begin jobs for the regions that are gone; ends when an event is put in place of regions, and sets it."""
        while True:
            regions = self._gone.get()
            if isinstance(regions, threading.Event):
                regions.set()
                return
            for number, part in enumerate(_parts(regions)):
                if number:
                    time.sleep(REST_SECONDS)
                name = ", ".join(str(region.region_id) for region in part)
                self._of_regions.put(f"the end of region {name}", partial(self._empty, part))
            del regions, part  # or their mappings would live until the next regions arrive

    def _empty(self, regions: Sequence[RealRegion]) -> None:
        """Empty regions; raises the last error, once all have been tried."""
        failure: OSError | None = None
        for region in regions:
            try:
                region.empty()
            except OSError as error:
                failure = error
            finally:
                self._emptying.pop(region.region_id, None)
                region.emptied.set()
        if failure is not None:
            raise failure

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory."""
        return region_id not in self._emptying

    def farewell(self, client: ClientMemory, *, poison: bool) -> None:
        """Close a client; with `poison`, first make touches of its missing pages raise SIGBUS.

        Both wait until its regions are empty: a page punched out later would be neither poisoned nor served, and would
        read as zeros.
        """
        client.on_early = lambda: None
        self._leaving.append(client)

        def end() -> None:
            try:
                # On this thread, because there may be very many. Keeps only the events, which hold no mappings.
                for emptied in [each.emptied for each in list(self._emptying.values()) if each.client is client]:
                    emptied.wait()
                if poison:
                    client.poison_all()
            finally:
                client.close()
                self._leaving.remove(client)

        self._of_clients.put(f"the end of the memory of process {client.pid}", end)

    def overlap(self, pid: int, address: int, length: int) -> bool:
        """Whether a client of process `pid` that is being closed had a region at any of these addresses."""
        return any(each.pid == pid and each.overlaps(address, length) for each in list(self._leaving))

    def tick(self) -> None:
        """Log and replace jobs that have become late."""
        self._of_regions.tick()
        self._of_clients.tick()

    def finish(self) -> None:
        """Wait for all jobs, `FINISH_SECONDS` at most for each kind; logs those that are not done."""
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


def _parts(regions: Sequence[RealRegion]) -> Iterator[Sequence[RealRegion]]:
    """Regions of one process, as many in a part as one job empties."""
    part: list[RealRegion] = []
    pages = 0
    for region in regions:
        if part and (len(part) >= AT_A_STRETCH or pages + region.page_count > PAGES_AT_A_STRETCH):
            yield part
            part, pages = [], 0
        part.append(region)
        pages += region.page_count
    if part:
        yield part
