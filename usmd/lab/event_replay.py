"""Replays an event log: makes a core with the recorded settings, passes it the same events, and compares the results.

Bytes of pages are not replayed, because a core never sees them. The replay stops at a call of a policy that hung and
was ended from outside. It fails to match for policies that do not decide the same for the same events. A log that names
policies in files or installed packages needs the same ones here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from usmd.core import commands, events
from usmd.core.machine import Core
from usmd.core.policy import Policy
from usmd.core.validate import violations
from usmd.core.view import MemoryView
from usmd.errors import EventLogError, InvalidArgument
from usmd.lab import event_records
from usmd.lab.event_records import End, Record
from usmd.policies import registry
from usmd.safe_repr import MAX_MESSAGE, cut, safe_repr

KILLED = "its last line is incomplete: usmd was killed, or is still writing it"


class Difference(msgspec.Struct, frozen=True):
    """The first event whose results differ. `number` counts from 1; `what` says what differs."""

    number: int
    seconds: float
    event: str
    what: str


class Replayed(msgspec.Struct, frozen=True):
    """The result of a replay.

    `events` were replayed, `compared` of them had a digest, and `states` digests of the state were compared. `seconds`:
    the daemon's time between the first and the last of them. `ended`: why the log ends before its daemon, or the replay
    before the log; empty: neither. `violations`: invariants that the final state breaks.
    """

    version: str
    events: int
    compared: int
    states: int
    seconds: float
    ended: str
    difference: Difference | None
    violations: list[str]

    @property
    def same(self) -> bool:
        """True if all results are as recorded, and no invariant is broken."""
        return self.difference is None and not self.violations


class _Clock:
    """Returns the recorded readings of the clocks."""

    def __init__(self) -> None:
        self.readings: deque[float] = deque()
        self.short = False
        self._last = 0.0

    def __call__(self) -> float:
        if self.readings:
            self._last = self.readings.popleft()
        else:
            self.short = True
        return self._last


def make_without_files(kind: str, specification: str, memory: MemoryView) -> Policy:
    """A policy by name. Raises InvalidArgument for one in a file, because a log may come from a stranger."""
    if registry.is_file(specification):
        raise InvalidArgument(
            f"{kind} policy {specification} is in a file, which a replay would execute; allow it if you trust the log"
        )
    return registry.make(kind, specification, memory)


class Replay:
    """A replay in progress. `core` has handled the events so far."""

    def __init__(self, lines: Iterable[bytes], *, policy_files: bool = False) -> None:
        """Raises EventLogError for an unusable header. `policy_files`: execute the files that the log names."""
        self._lines = iter(lines)
        self.header = event_records.read_header(next(self._lines, b""))
        if not self.header.complete:
            raise EventLogError(
                "this log holds the last events of a daemon and not its first, so that the state before them is "
                "unknown; it is for reading, and a log by usmd serve --trace-events can be replayed"
            )
        self._clock = _Clock()
        self._cpu_clock = lambda: self._clock()
        self.core = Core(
            self.header.settings,
            self.header.devices,
            registry.make if policy_files else make_without_files,
            self._clock,
            cpu_clock=self._cpu_clock,
        )
        self._events = self._compared = self._states = 0
        self._first: float | None = None
        self._last = 0.0

    def run(self) -> Replayed:
        """Replay to the end of the log, or to the first difference. Raises EventLogError for an invalid line."""
        ended = ""
        difference: Difference | None = None
        for line in self._lines:
            if not line.endswith(b"\n"):
                ended = KILLED
                break
            try:
                record = event_records.read_record(line)
            except EventLogError as error:
                raise EventLogError(f"line {self._events + 2}: {error}") from error
            if isinstance(record, End):
                ended = record.stopped
                break
            if record.hung:
                ended = (
                    f"event {self._events + 1} ended a call of a policy that did not return; what that call had done "
                    "cannot be replayed"
                )
                break
            difference = self._handle(record)
            if difference is not None:
                break
        return Replayed(
            version=self.header.version,
            events=self._events,
            compared=self._compared,
            states=self._states,
            seconds=0.0 if self._first is None else self._last - self._first,
            ended=ended,
            difference=difference,
            violations=violations(self.core),
        )

    def _handle(self, record: Record) -> Difference | None:
        """Handle an event; returns the difference to the recorded results, or None."""
        self._events += 1
        self._first = record.now if self._first is None else self._first
        self._last = record.now
        clock = self._clock
        clock.readings.clear()
        clock.readings.extend(record.readings)
        clock.short = False
        what, digest = self._do(record.event, record.now)
        if record.digest is None:
            return None
        self._compared += 1
        if digest != record.digest:
            return self._difference(record, f"its commands differ; the replay has {what}")
        if clock.short or clock.readings:
            return self._difference(record, "policies were called more or less often than recorded")
        if record.state is not None:
            self._states += 1
            if event_records.digest_of_state(self.core, self._events) != record.state:
                return self._difference(record, "its commands are the same, but the state after it differs")
        return None

    def _do(self, event: events.Event, now: float) -> tuple[str, int]:
        """The results of an event as text, and their digest."""
        try:
            todo = self.core.handle(event, now)
        except Exception as error:  # noqa: BLE001 - the daemon continued after it, and so does its replay
            return f"the error {safe_repr(error)}", event_records.digest_of_error(error)
        return _listed(todo), event_records.digest_of(todo)

    def _difference(self, record: Record, what: str) -> Difference:
        seconds = record.now - (self._first or 0.0)
        return Difference(self._events, seconds, cut(repr(record.event), MAX_MESSAGE), what)


def _listed(todo: list[commands.Command]) -> str:
    """Commands as text."""
    return cut(", ".join(map(repr, todo)), MAX_MESSAGE) or "none"
