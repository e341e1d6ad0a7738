"""Faults that wait for memory after nothing could be evicted, because an oom policy has patience; each for its time.

They wait apart from the other faults, which go on meanwhile. A page is tried again when there is a frame that it may
have, and now and then, because something may be evictable by now. When its time is over it is tried once more, and then
its fault fails as it would have at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final

from usmd.core import commands

if TYPE_CHECKING:
    from usmd.core.placement import Placement
    from usmd.core.region import Process
    from usmd.core.state import State
    from usmd.core.waiters import WaitingPage

RETRY_SECONDS: Final = 1.0
"""How often a page of a frozen process is tried though no frame is free: that may take a look at every frame."""
TRIED: Final = 16
"""Frozen processes of which one page is tried then; of more, others are tried the next time."""
MOST_EXPIRED: Final = 64
"""Pages whose time is over that one event tries a last time; the others follow in the next ones."""


class Freeze:
    """The frozen pages of a process, oldest first."""

    __slots__ = ("pages", "process", "refused", "since", "told")

    def __init__(self, process: Process, since: float, *, told: bool) -> None:
        self.process = process
        self.since = since
        self.told = told
        """Whether its begin was reported, and so will be its end."""
        self.refused = 0
        self.pages: deque[WaitingPage] = deque()


class Frozen:
    """The frozen pages of all processes."""

    def __init__(self, state: State, placement: Placement) -> None:
        self._state = state
        self._placement = placement
        self.of: dict[int, Freeze] = {}
        """Process number → its frozen pages; no entry if it is not frozen."""
        self._ends_at = inf
        """Time at which the first page's time is over."""
        self._retry_at = 0.0
        self._futile = 0
        """Free frames of which no frozen page may have one."""

    def add(self, page: WaitingPage, patience: float) -> bool:
        """Have a page that is in no queue wait, a new one for `patience` seconds; False if its time is over."""
        state, process = self._state, page.waiter.region.process
        new = page.until is None
        until = state.now + patience if page.until is None else page.until
        freeze = self.of.get(process.process_id)
        if not new and state.now >= until:
            return False
        page.until = until
        if freeze is None:
            freeze = self.of[process.process_id] = self._begin(process, patience)
            state.more_to_do = True
        if new:
            process.counters.oom_freezes += 1
            freeze.pages.append(page)
        else:
            freeze.pages.appendleft(page)
        self._ends_at = min(self._ends_at, until)
        return True

    def refused(self, process: Process) -> None:
        """A fault of a process failed after all."""
        freeze = self.of.get(process.process_id)
        if freeze is not None:
            freeze.refused += 1

    def _begin(self, process: Process, patience: float) -> Freeze:
        if not self.of:
            self._retry_at = self._state.now + RETRY_SECONDS
        self._futile = max(self._futile, self._state.frames.free)
        process.freezes += 1
        times = process.freezes
        told = times & (times - 1) == 0
        if told:
            self._state.notice(
                "process_frozen",
                process.process_id,
                f"{process.name} (process {process.process_id}) waits for memory, at most {patience:g} s a fault",
                {"name": process.name, "seconds": f"{patience:g}", "times": str(times)},
            )
        return Freeze(process, self._state.now, told=told)

    def due(self) -> Iterator[WaitingPage]:
        """Take out the pages to be tried now, one by one. The caller tries each, which may `add` it again."""
        now = self._state.now
        if now >= self._ends_at:
            yield from self._expired(now)
        if now >= self._retry_at:
            self._retry_at = now + RETRY_SECONDS
            self._futile = -1
            yield from self._some()
        free = self._state.frames.free
        if free > self._futile:
            yield from self._with_room()
        self._futile = min(self._futile, free)
        self._settle()

    def _expired(self, now: float) -> Iterator[WaitingPage]:
        left = MOST_EXPIRED
        for freeze in list(self.of.values()):
            pages = freeze.pages
            while left and pages and _end_of(pages[0]) <= now:
                left -= 1
                yield pages.popleft()
        self._ends_at = min((_end_of(each.pages[0]) for each in self.of.values() if each.pages), default=inf)
        if self._ends_at <= now and not self._state.work.asked:
            self._state.work.asked = True
            self._state.first.append(commands.GoOn())

    def _some(self) -> Iterator[WaitingPage]:
        """A page of some processes, which are the last to be tried the next time."""
        for process_id in list(self.of)[:TRIED]:
            freeze = self.of.pop(process_id, None)
            if freeze is not None:
                self.of[process_id] = freeze
                if freeze.pages:
                    yield freeze.pages.popleft()

    def _with_room(self) -> Iterator[WaitingPage]:
        """Pages for which there is a frame, of each process in turn."""
        found = True
        while found:
            found = False
            for freeze in list(self.of.values()):
                if freeze.pages and self._has_room(freeze.pages[0]):
                    page = freeze.pages.popleft()
                    yield page
                    found = found or not freeze.pages or freeze.pages[0] is not page
        self._futile = self._state.frames.free

    def _has_room(self, page: WaitingPage) -> bool:
        region, number = page.waiter.region, page.waiter.page
        entry = region.table[number]
        if entry > 0 or page.waiter.failed:
            return True
        return self._placement.may_have(region, number) and self._placement.room(region.process, swap=entry < 0)

    def _settle(self) -> None:
        """Report the processes that are frozen no more."""
        for process_id, freeze in list(self.of.items()):
            if freeze.pages:
                continue
            del self.of[process_id]
            if freeze.told:
                name, seconds = freeze.process.name, self._state.now - freeze.since
                self._state.notice(
                    "process_thawed",
                    process_id,
                    f"{name} (process {process_id}) waited {seconds:.1f} s for memory; {freeze.refused} faults failed",
                    {"name": name, "seconds": f"{seconds:.1f}", "refused": str(freeze.refused)},
                )

    def unmapped(self, process: Process) -> None:
        """End the waits for regions of a process that are gone."""
        freeze = self.of.get(process.process_id)
        if freeze is None:
            return
        gone = [each.waiter for each in freeze.pages if each.waiter.region.gone is not None]
        kept = [each for each in freeze.pages if each.waiter.region.gone is None]
        freeze.pages.clear()
        freeze.pages.extend(kept)
        if process.ended is not None:
            del self.of[process.process_id]
        self._state.waits.end(gone, None)


def _end_of(page: WaitingPage) -> float:
    """When the time of a page is over. With a policy that was replaced, one behind another may have less time."""
    return inf if page.until is None else page.until
