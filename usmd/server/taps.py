"""Hands the touches of live processes to recordings and shadows, after each event, with its time.

Without a listener this costs one check after each event. A listener must return at once, because it runs between two
events of the daemon.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from usmd.core import events
from usmd.core.region import Process

CHANGES: Final = (events.Map, events.Unmap, events.SetHint)
"""Events that change regions or hints, which listeners get."""
Change = events.Map | events.Unmap | events.SetHint


_LOW_BYTE: Final = 0 if sys.byteorder == "little" else 7


def split(touches: array[int]) -> tuple[array[int], bytes]:
    """The page keys of touches, and their kinds, a byte each."""
    return touches[::2], touches[1::2].tobytes()[_LOW_BYTE::8]


class Listener(Protocol):
    """Gets the touches of a process. All times are seconds of the engine's clock."""

    def touched(self, touches: array[int], now: float) -> None:
        """Pages were touched at `now`, in this order: two entries a touch, the page key and the kind.

        Kinds are 0 read hit, 1 write hit, 2 read fault, 3 write fault. The array is the caller's and changes.
        """

    def changed(self, change: Change, now: float) -> None:
        """A region was mapped or unmapped, or a hint was set, after all touches so far."""

    def ended(self, reason: str) -> None:
        """The process ended; nothing follows."""


class Tap:
    """The touches of one process, and its listeners."""

    __slots__ = ("listeners", "process", "touches")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.listeners: list[Listener] = []
        self.touches = array("q")


class Taps:
    """All taps. `live`: by process, for a quick check whether there is any."""

    __slots__ = ("live",)

    def __init__(self) -> None:
        self.live: dict[int, Tap] = {}

    @contextmanager
    def listening(self, process: Process, listener: Listener) -> Iterator[None]:
        """Connect a listener to a process for as long as the block lasts."""
        tap = self.live.get(process.process_id)
        if tap is None:
            tap = self.live[process.process_id] = Tap(process)
            process.touches = tap.touches
        tap.listeners.append(listener)
        try:
            yield
        finally:
            tap.listeners.remove(listener)
            if not tap.listeners and self.live.pop(process.process_id, None) is not None:
                process.touches = None

    def deliver(self, event: events.Event, now: float) -> None:
        """Hand over the touches, and the change, of an event that was handled at `now`."""
        for tap in self.live.values():
            if tap.touches:
                for listener in tap.listeners:
                    listener.touched(tap.touches, now)
                del tap.touches[:]
        if isinstance(event, CHANGES):
            changed = self.live.get(event.process_id)
            if changed is not None:
                for listener in changed.listeners:
                    listener.changed(event, now)

    def ended(self, process_id: int, reason: str) -> None:
        """A process has ended; its last touches were delivered."""
        tap = self.live.pop(process_id, None)
        if tap is not None:
            tap.process.touches = None
            for listener in tap.listeners:
                listener.ended(reason)
