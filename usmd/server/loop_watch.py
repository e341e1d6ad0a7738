"""A thread that notices when the event loop stands: it logs where, and ends the client in whose memory it stands.

All of the daemon waits while one callback runs. Long work is not done on the loop. So a loop that stands shows a
defect, a machine that is short of something, or a client that holds a lock of its own address space (mmap_lock),
without which the kernel fills no page for it. Meanwhile the service manager gets no `WATCHDOG=1`: the loop sends that.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, Self

from usmd import log
from usmd.mechanism.client_memory import ClientMemory

LOOK_SECONDS: Final = 0.1
CLIENT_SECONDS: Final = 0.25
"""After so long without a beat, the client in whose memory the loop waits is ended. A beat is due each 0.1 s."""
TELL_SECONDS: Final = 1.0
"""After so long without a beat, the log and the service manager get the place where the loop stands."""
MAX_PLACES: Final = 6
"""Innermost calls of a stack that are logged."""


class LoopWatch:
    """Watches the thread that makes it. `tell` gets a line for the service manager.

    `end_client` and `tell` are called on another thread.
    """

    def __init__(
        self,
        end_client: Callable[[ClientMemory], None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._end_client = end_client
        self._tell = tell
        self._thread = threading.get_ident()
        self._stat = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._run, name="usmd-loop-watch", daemon=True)
        self._beat = self._looked = self._clock()
        self._told = False
        self._place: tuple[int, int] | None = None
        """Where the loop waited for a client at the last look."""

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def beat(self) -> None:
        """Record that the loop runs."""
        self._beat = self._clock()

    @property
    def watches(self) -> bool:
        """Whether its thread runs."""
        return self._watcher.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self.look(self._clock())

    def look(self, now: float) -> None:
        """Look at the loop once."""
        stopped = now - self._looked > 3 * LOOK_SECONDS  # the watch stood too: by a signal, or without a CPU
        self._looked = now
        stands = now - self._beat
        if stands < CLIENT_SECONDS:
            if self._told:
                self._tell("STATUS=the event loop goes round again")
            self._told, self._place = False, None
            return
        if stopped:
            return
        frame = _frame_of(self._thread)
        self._look_for_client(frame)
        if stands >= TELL_SECONDS and not self._told:
            self._told = True
            log.event("loop_stands", seconds=round(stands, 1), state=self._state(), stack=_stack(frame))
            self._tell(f"STATUS=the event loop stands at {_stack(frame, 1)}")

    def _look_for_client(self, frame: FrameType | None) -> None:
        """End a client in whose memory the loop waits for a lock of the kernel, as it did at the last look.

        Such a wait is state D. No client is to blame for a wait for a CPU or for Python's lock.
        """
        before, self._place = self._place, None
        client = _client_in(frame)
        if frame is None or client is None or self._state() != "D":
            return
        self._place = id(frame), frame.f_lasti
        if self._place == before:
            self._end_client(client)

    def _state(self) -> str:
        return self._stat.read_text(encoding="ascii").rpartition(")")[2].split()[0]


def _frame_of(thread: int) -> FrameType | None:
    """The innermost frame of a thread.

    No garbage is collected meanwhile: before CPython 3.11.9 and 3.12.3 a collection within `_current_frames` that
    frees a `threading.local` waits for the lock of the list of threads, which `_current_frames` has, and all threads
    stand for ever (https://github.com/python/cpython/issues/106883).
    """
    with _without_collections:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(thread)
        finally:
            if enabled:
                gc.enable()


_without_collections: Final = threading.Lock()


def _client_in(frame: FrameType | None) -> ClientMemory | None:
    """The client on whose memory a system call is under way, or None."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, ClientMemory):
            return owner
        frame = frame.f_back
    return None


def _stack(frame: FrameType | None, most: int = MAX_PLACES) -> str:
    """The innermost calls, the innermost first."""
    places: list[str] = []
    while frame is not None and len(places) < most:
        places.append(f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(places) or "no Python code"
