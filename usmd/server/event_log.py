"""The event log of a running daemon: `usmd serve --trace-events FILE`, and the last events before a failed check.

Lines are made on the loop and written on a thread of their own. The log never delays the loop: if the disk is slower
than the events, or the file is full, the log ends, because events after a gap could not be replayed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from usmd import log
from usmd.aside import Aside
from usmd.core import commands, events
from usmd.core.machine import Core
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.errors import ConfigError
from usmd.lab.event_records import MARK, Record, Recorder, end_line, header_line, record_line
from usmd.sizes import format_size

CHUNK: Final = 1 << 16
"""Bytes handed to the writer at a time, or more for a larger event."""
MAX_CHUNKS: Final = 256
"""Chunks that may wait for the disk, 16 MiB."""
LAST_EVENTS: Final = "last-events.jsonl"
"""Name of the file with the last events before a failed check; the next such file replaces it."""
BEFORE: Final = ".before"
"""Appended to the name of an older log when a new one begins."""


class EventLog:
    """A log in a file of at most `limit` bytes. Runs on the loop, except for the writer."""

    def __init__(self, path: Path, limit: int) -> None:
        """Make the file; an older event log is kept as FILE.before. Raises ConfigError."""
        self._path = path
        self._limit = limit
        self._descriptor = _open_new(path)
        self._out = bytearray()
        self._recorder = Recorder(self._out)
        self._handed_over = 0
        self._write_error = ""
        self._stopped = False
        self._aside: Aside[bytes] = Aside("usmd-events", self._write, limit=MAX_CHUNKS)

    def begin(self, settings: CoreSettings, devices: Sequence[DeviceInfo]) -> None:
        """Write the header for a core that was made with these."""
        self._out += header_line(settings, devices, complete=True)

    def clock(self, clock: Callable[[], float]) -> Callable[[], float]:
        """Wrap a clock by which the core times calls of policies, so that its readings are in the log."""
        return self._recorder.clock(clock)

    def handle(self, core: Core, event: events.Event, now: float) -> list[commands.Command]:
        """Hand an event to a core, and log it; raises what the core raises."""
        if self._stopped:
            return core.handle(event, now)
        try:
            return self._recorder.handle(core, event, now)
        finally:
            if self._recorder.failure is not None:
                self._stop(f"an event cannot be written: {self._recorder.failure}")
            elif len(self._out) >= CHUNK:
                self.flush()

    def flush(self) -> None:
        """Hand logged lines to the writer; returns at once."""
        if self._stopped:
            return
        if self._write_error:
            self._stop(f"it cannot be written: {self._write_error}")
        elif self._handed_over + len(self._out) > self._limit:
            why = f"it has reached {format_size(self._limit)} (server.trace_events_size)"
            self._aside.put(end_line(why))
            self._stop(why)
        elif self._out:
            if self._aside.put(bytes(self._out)):
                self._handed_over += len(self._out)
                del self._out[:]
            else:
                self._stop("the disk is slower than the events")

    def close(self) -> None:
        """Write what is left, wait some seconds for it at most, and close the file; a second call does nothing."""
        if self._descriptor < 0:
            return
        self.flush()
        if self._aside.finish():
            os.close(self._descriptor)  # else the writer still uses it until the process ends
        self._descriptor = -1

    def _stop(self, why: str) -> None:
        self._stopped = True
        del self._out[:]
        log.event("event_log_ended", file=str(self._path), events=self._recorder.handled, why=why)

    def _write(self, chunk: bytes) -> bool:
        """Write a chunk in the writer's thread; after an error the rest is dropped."""
        try:
            left = memoryview(chunk)
            while left and not self._write_error:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            self._write_error = error.strerror or str(error)
        return not self._write_error


def _open_new(path: Path) -> int:
    """Make the file and return its descriptor; raises ConfigError if it cannot, or if another kind of file is there."""
    try:
        with contextlib.suppress(FileNotFoundError):
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                ours = stat.S_ISREG(os.fstat(found).st_mode) and os.pread(found, len(MARK), 0) in (MARK, b"")
            finally:
                os.close(found)
            if not ours:
                raise ConfigError(
                    f"server.trace_events = {str(path)!r} exists and is not an event log, so it is left alone; "
                    "give another path, or remove the file if it is not needed"
                )
            path.replace(path.with_name(path.name + BEFORE))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(
            f"server.trace_events = {str(path)!r} cannot be made ({error.strerror}); give a path that usmd may write"
        ) from error


def write_last_events(
    folder: Path,
    settings: CoreSettings,
    devices: Sequence[DeviceInfo],
    last: Sequence[tuple[float, events.Event]],
    *,
    complete: bool,
) -> Path:
    """Write events and their times to LAST_EVENTS in a folder, and return its path; blocks. Raises OSError.

    `complete`: they are all events that the core handled, so that they can be replayed, though not compared.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{LAST_EVENTS}.", dir=folder)  # mode 0600, and not a link
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header_line(settings, devices, complete=complete))
            file.writelines(record_line(Record(now, event)) for now, event in last)
        place = folder / LAST_EVENTS
        temporary.replace(place)
    except BaseException:  # raised again
        temporary.unlink(missing_ok=True)
        raise
    return place
