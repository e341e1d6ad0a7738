"""Tells clients when the pressure on their session passes a threshold that they asked for, on the stream that asked.

A client that does not read is told the latest alone: each threshold is at most once in an outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from usm_wire.conventions import MAX_PRESSURE_THRESHOLDS
from usmd.core.pressure import Alarm, Pressure
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.server.stream_messages import Entry, PressurePassed


class Hearer(Protocol):
    """A stream; `wake` is set when its outbox has entries."""

    outbox: list[Entry]
    wake: asyncio.Event


class Mark:
    """A threshold of a stream, and what is to be said of it."""

    __slots__ = ("alarm", "entry")

    def __init__(self, threshold: float) -> None:
        self.alarm = Alarm()
        self.entry = PressurePassed(threshold)


class PressureHearing:
    """The thresholds of all sessions."""

    def __init__(self) -> None:
        self._marks: dict[int, dict[Hearer, list[Mark]]] = {}
        """By process."""

    def hear(self, process_id: int, stream: Hearer, thresholds: Sequence[float]) -> None:
        """Tell a stream of these thresholds too, until `forget`. Raises InvalidArgument or LimitExceeded."""
        for threshold in thresholds:
            if not 0.0 < threshold <= 1.0:
                raise InvalidArgument(f"a threshold of pressure of {threshold:g}; allowed are shares above 0, up to 1")
        streams = self._marks.get(process_id, {})
        count = sum(map(len, streams.values())) + len(thresholds)
        if count > MAX_PRESSURE_THRESHOLDS:
            raise LimitExceeded(
                f"{count} thresholds of pressure of one session; allowed are {MAX_PRESSURE_THRESHOLDS} at a time"
            )
        marks = self._marks.setdefault(process_id, streams).setdefault(stream, [])
        marks.extend(Mark(threshold) for threshold in thresholds)

    def forget(self, process_id: int, stream: Hearer) -> None:
        """A stream is closed."""
        streams = self._marks.get(process_id, {})
        streams.pop(stream, None)
        if not streams:
            self._marks.pop(process_id, None)

    def tell(self, process_id: int, pressure: Pressure) -> None:
        """Tell the streams of a process what has passed a threshold. Called whenever pressure is brought up to date."""
        for stream, marks in self._marks.get(process_id, {}).items():
            for mark in marks:
                entry = mark.entry
                if mark.alarm.changes(pressure.some.averages[0], entry.threshold):
                    entry.above, entry.some = mark.alarm.above, pressure.some.averages[0]
                    entry.full = None if pressure.full is None else pressure.full.averages[0]
                    if not entry.queued:
                        entry.queued = True
                        stream.outbox.append(entry)
                        stream.wake.set()
