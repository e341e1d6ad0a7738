"""How long faults take in the daemon, from the event that brings a fault to its end.

A real fault ends when its page is present, an explicit one when its outcome is made. Time on the wire, in the kernel's
queue and in the client is not counted, and neither are failed faults. A busy daemon times some faults of each tick.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Final

from usmd.core import commands, events
from usmd.core.machine import Core
from usmd.core.region import PAGE_BITS, page_key
from usmd.server.latency import TIMED_A_TICK, Histogram

MAX_WAITING: Final = 1 << 12
"""Faults of each kind that are timed while they wait; more are not timed."""
_SERVED: Final = (commands.ZeroFill, commands.Restore, commands.MapAgain, commands.Wake)
"""Commands that wake the threads that wait for their pages."""


class FaultTimes:
    """The times of faults of one core. `now` is the clock that events carry."""

    def __init__(self, core: Core, now: Callable[[], float] = time.monotonic) -> None:
        self.real = Histogram()
        self.explicit = Histogram()
        self.looks = True
        """Whether new faults are timed, or a timed one waits; else `handled` need not be called."""
        self.waits = False
        """Whether a timed fault waits, so that `handled` must be called for each event."""
        self._left = TIMED_A_TICK
        self._core = core
        self._now = now
        self._pages: dict[int, float] = {}
        """Page key → time of its first waiting real fault; the others are not timed."""
        self._faults: dict[tuple[int, int, int], float] = {}
        """Process, `reply_to` and fault id → time of a waiting explicit fault."""

    def tick(self) -> None:
        """Time `TIMED_A_TICK` more faults."""
        self._left = TIMED_A_TICK
        self.looks = True

    def handled(self, event: events.Event, todo: Sequence[commands.Command], began: float) -> None:
        """Time the faults of an event that came at `began`, once its commands `todo` are performed."""
        now = self._now()
        if self._faults:
            self._end_explicit(todo, now)
        if self._pages:
            self._end_real(event, todo, now)
        if self._left > 0:
            if isinstance(event, events.PageFaults):
                self._left -= len(event.faults)
                self._page_faults(event, todo, began, now)
            elif isinstance(event, events.Faults):
                self._left -= len(event.faults)
                self._explicit(event, [fault.fault_id for fault in event.faults], todo, began, now)
            elif isinstance(event, events.PageBatch):
                self._left -= len(event.pages)
                self._explicit(event, range(event.first_id, event.first_id + len(event.pages)), todo, began, now)
        self.waits = bool(self._pages or self._faults)
        self.looks = self.waits or self._left > 0

    def _page_faults(
        self, event: events.PageFaults, todo: Sequence[commands.Command], began: float, now: float
    ) -> None:
        if len(todo) == 1 == len(event.faults):
            fault, command = event.faults[0], todo[0]
            if isinstance(command, commands.ZeroFill) and page_key(fault.region_id, fault.page) in command.pages:
                self.real.add(now - began)  # the usual case of a first touch
                return
        served = [_quick(command.pages) for command in todo if isinstance(command, _SERVED)]
        failed = [_quick(command.pages) for command in todo if isinstance(command, commands.Poison)]
        for fault in event.faults:
            key = page_key(fault.region_id, fault.page)
            if any(key in pages for pages in served):
                self.real.add(now - began)
            elif (
                not any(key in pages for pages in failed)
                and fault.region_id in self._core.state.regions
                and len(self._pages) < MAX_WAITING
            ):
                self._pages.setdefault(key, began)

    def _explicit(
        self,
        event: events.Faults | events.PageBatch,
        fault_ids: Sequence[int],
        todo: Sequence[commands.Command],
        began: float,
        now: float,
    ) -> None:
        done: dict[int, bool] = {}
        for command in todo:
            if isinstance(command, commands.Outcomes) and command.process_id == event.process_id:
                for outcome in command.outcomes:
                    if isinstance(outcome, commands.PagesAllocated):
                        first = outcome.first_id
                        done.update(dict.fromkeys(range(first, first + len(outcome.frames)), True))
                    elif not isinstance(outcome, commands.Yielded):
                        done[outcome.fault_id] = isinstance(outcome, commands.Allocated)
        self.explicit.add(now - began, sum(done.values()))
        if len(done) == len(fault_ids) or event.process_id not in self._core.state.processes:
            return
        for fault_id in fault_ids:
            if fault_id not in done and len(self._faults) < MAX_WAITING:
                self._faults[event.process_id, event.reply_to, fault_id] = began

    def _end_explicit(self, todo: Sequence[commands.Command], now: float) -> None:
        for command in todo:
            if isinstance(command, commands.Outcomes):
                for outcome in command.outcomes:
                    if not isinstance(outcome, commands.Yielded | commands.PagesAllocated):  # the latter never wait
                        began = self._faults.pop((command.process_id, command.reply_to, outcome.fault_id), None)
                        if began is not None and isinstance(outcome, commands.Allocated):
                            self.explicit.add(now - began)
            elif isinstance(command, commands.Ended):
                for key in [key for key in self._faults if key[0] == command.process_id]:
                    del self._faults[key]

    def _end_real(self, event: events.Event, todo: Sequence[commands.Command], now: float) -> None:
        if isinstance(event, events.SwapInDone):
            pages, waiting = self._core.state.frames.page, self._pages
            for pfn, error in zip(event.frames, event.errors, strict=True):
                if pages[pfn] in waiting and error is None:  # of a window, few pages have a fault that waits
                    self._end(pages[pfn], now)
        for command in todo:
            if isinstance(command, _SERVED):
                for key in command.pages:
                    self._end(key, now)
            elif isinstance(command, commands.Poison):
                for key in command.pages:
                    self._pages.pop(key, None)
            elif isinstance(command, commands.RegionsGone) and self._pages:
                gone = set(command.region_ids)
                for key in [key for key in self._pages if key >> PAGE_BITS in gone]:
                    del self._pages[key]

    def _end(self, key: int, now: float) -> None:
        began = self._pages.pop(key, None)
        if began is not None:
            self.real.add(now - began)


def _quick(pages: Sequence[int]) -> Container[int]:
    """Pages in a form that is quick to look one up in; a range is."""
    return pages if isinstance(pages, range) else frozenset(pages)
