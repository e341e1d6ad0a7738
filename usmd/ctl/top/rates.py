"""What happened each second between two readings: of the daemon, and of each process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from usm_wire.pb.usm.v1 import admin_pb2
    from usmd.ctl.top.reading import Reading

LEAST_INTERVAL: Final = 0.1
"""Seconds between two readings, at least."""
MOST_INTERVAL: Final = 3600.0


@dataclass(frozen=True)
class Rates:
    """Pages, or faults, a second."""

    faults: float
    major_faults: float
    evictions: float
    swap_ins: float
    swap_outs: float


COUNTED: Final = tuple(Rates.__dataclass_fields__)
"""The counters of which rates are shown."""


@dataclass(frozen=True)
class Row:
    """A process. `rates` is None until there are two readings."""

    process: admin_pb2.Process
    page_size: int
    rates: Rates | None


def rates_of(reading: Reading, before: Reading | None) -> Rates | None:
    """Rates of the daemon; None if there is no reading of the same daemon before."""
    seconds = 0.0 if before is None else reading.seconds_since(before)
    if before is None or not seconds:
        return None
    return _rates(reading.status.counters, before.status.counters, seconds)


def rows_of(reading: Reading, before: Reading | None) -> list[Row]:
    """The processes by number. What a new one did since it attached was done since the reading before."""
    seconds = 0.0 if before is None else reading.seconds_since(before)
    known = {} if before is None else {process.process_id: process.counters for process in before.processes}
    return [
        Row(
            process,
            reading.status.page_size,
            _rates(process.counters, known.get(process.process_id, {}), seconds) if seconds else None,
        )
        for process in reading.processes
    ]


def matches(row: Row, text: str) -> bool:
    """Whether a process passes a filter: its name contains the text, or its number, PID or UID is the text."""
    process = row.process
    numbers = [process.process_id, process.pid, *([process.uid] if process.HasField("uid") else [])]
    return text.casefold() in process.name.casefold() or text in map(str, numbers)


def _rates(now: Mapping[str, int], before: Mapping[str, int], seconds: float) -> Rates:
    return Rates(**{name: max(now.get(name, 0) - before.get(name, 0), 0) / seconds for name in COUNTED})
