"""System calls that a client can make wait, done on threads of their own, so that the event loop never stands in them.

A hole can be punched in a memfd only under the lock of its inode, and each process that holds the memfd can hold that
lock too: a write(2) to it, from a buffer whose page fault is not served, keeps it as long as its maker likes. Seals
cannot forbid that: F_SEAL_FUTURE_WRITE refuses the hole as well (measured on 6.18). A thread that waits for such a lock
cannot even be killed. So the loop gives the call to a thread, and looks at the clock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from usmd import log

PATIENCE_SECONDS: Final = 0.05
"""Seconds a minute for which the jobs of one account may wait, or compute more than is theirs."""
MINUTE: Final = 60.0
JOB_SECONDS: Final = 0.001
PAGE_SECONDS: Final = 2e-5
"""CPU seconds that a job may take, and more for each page: several times what it takes where a page is mapped once."""
THREADS: Final = 4
"""Threads that do what the loop does not wait for."""
LATE_SECONDS: Final = 1.0
"""After so long a job has its thread for itself, and another thread takes its place."""
_PUNCH: Final = 3
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of linux/falloc.h."""
_LOOK_SECONDS: Final = 0.005

Run = tuple[int, int]
"""Offset and length, in bytes."""

# Not mmap.madvise(MADV_REMOVE), which does the same: Python keeps its global lock in it.
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch(memfd: int, runs: Iterable[Run]) -> None:
    """Give the memory of ranges of a memfd back; a touch of them is a missing page again. Raises OSError."""
    for offset, length in runs:
        while _fallocate(memfd, _PUNCH, offset, length):
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))


class Held(NamedTuple):
    """A job that the loop does not wait for any more: why, and what waits until it is done."""

    why: str
    wait_done: Callable[[], object]


class Account:
    """Seconds that the loop has lost to a client, in the minute that runs."""

    __slots__ = ("_clock", "_ends", "_seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._ends = 0.0

    def charge(self, seconds: float) -> bool:
        """Add to it; whether more is used than may be."""
        now = self._clock()
        if now > self._ends:
            self._seconds, self._ends = 0.0, now + MINUTE
        self._seconds += seconds
        return self._seconds > PATIENCE_SECONDS


class Punching:
    """A thread on which the loop has done what a client can make wait, and waits for it: not for long, and not again.

    A job for which its account does not last is left behind with its thread, and the next has another one.
    """

    def __init__(self) -> None:
        self._thread = _Thread()

    def run(self, job: Callable[[], object], pages: int, account: Account) -> Held | None:
        """Do a job on some pages and wait for it; None when all is well. Raises what the job raises."""
        thread = self._thread
        may_take = JOB_SECONDS + pages * PAGE_SECONDS
        thread.give(job)
        while not thread.wait(_LOOK_SECONDS):
            # Where it waits for a CPU, or for Python's lock, no client can help that.
            if thread.waits_for_a_lock() and account.charge(_LOOK_SECONDS):
                why = f"it held its memfd for more than {PATIENCE_SECONDS:g} s; a memfd may be mapped, not written to"
            elif thread.ran() > may_take + PATIENCE_SECONDS:
                why = _TOO_OFTEN
            else:
                continue
            self._thread = _Thread()
            return Held(why, thread.leave())
        if thread.spent > may_take and account.charge(thread.spent - may_take):
            return Held(_TOO_OFTEN, lambda: None)
        return None


_TOO_OFTEN: Final = (
    f"giving pages of its memory back took {PATIENCE_SECONDS:g} s more than it may; a memfd may be mapped once"
)


def _nothing() -> None:
    """No job."""


class _Thread:
    """A daemon thread that does one job after another for one caller."""

    def __init__(self) -> None:
        self._job: Callable[[], object] = _nothing
        self._wanted = threading.Lock()
        self._done = threading.Lock()
        self._wanted.acquire()
        self._done.acquire()
        self._error: OSError | None = None
        self._left = False
        self.spent = 0.0
        """CPU seconds that the last job took."""
        self._ran_before = -1.0
        self._thread = threading.Thread(target=self._run, name="usmd-punch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._left:
            self._wanted.acquire()
            began = time.thread_time()
            try:
                self._job()
            except OSError as error:
                self._error = error
            self._job = _nothing  # or what it refers to would live until the next
            self.spent = time.thread_time() - began
            self._done.release()

    def give(self, job: Callable[[], object]) -> None:
        """Begin a job; the one before is done."""
        self._job = job
        self._ran_before = -1.0
        self._wanted.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the job; whether it is done. Raises what it raised."""
        if not self._done.acquire(timeout=seconds):
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def leave(self) -> Callable[[], object]:
        """Let it end when its job does; returns what waits for that."""
        self._left = True
        return self._thread.join

    def waits_for_a_lock(self) -> bool:
        """Whether it waits for a lock within the kernel; its wait for Python's is another state, S."""
        return self._of_kernel("stat").rpartition(")")[2].split()[:1] == ["D"]

    def ran(self) -> float:
        """CPU seconds that it has used since this was first asked of its job; 0 where the kernel does not tell."""
        ran = int((self._of_kernel("schedstat") or "0").split()[0]) / 1e9
        if self._ran_before < 0:
            self._ran_before = ran
        return ran - self._ran_before

    def _of_kernel(self, name: str) -> str:
        try:
            return Path(f"/proc/self/task/{self._thread.native_id}/{name}").read_text(encoding="ascii")
        except FileNotFoundError:
            return ""


class Aftercare:
    """What has to be done for clients and regions that are gone, and for which nothing waits.

    Jobs begin in their order, on `THREADS` threads. A job that takes over `LATE_SECONDS` has its thread for itself:
    `late` is called with its name once, on the loop, by `tick`.
    """

    def __init__(
        self, late: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._late = late
        self._jobs: deque[tuple[str, Callable[[], object]]] = deque()
        self._changed = threading.Condition()
        self._under_way: dict[int, tuple[str, float]] = {}
        """By thread: name and begin of its job; those on time."""
        self._behind: dict[int, str] = {}
        """The same for those that are late."""
        self._threads = 0

    def put(self, name: str, job: Callable[[], object]) -> None:
        """Have a job done."""
        with self._changed:
            self._jobs.append((name, job))
            self._enough_threads()

    def _enough_threads(self) -> None:
        while self._threads < THREADS and self._threads < len(self._under_way) + len(self._jobs):
            self._threads += 1
            threading.Thread(target=self._run, name="usmd-aftercare", daemon=True).start()

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                if not self._jobs or self._threads > THREADS:
                    self._threads -= 1
                    return
                name, job = self._jobs.popleft()
                self._under_way[me] = name, self._clock()
            try:
                job()
            except OSError as error:
                log.event("aftercare_failed", what=name, error=error.strerror or str(error))
            finally:
                del job  # and what it refers to
                with self._changed:
                    self._under_way.pop(me, None)
                    if self._behind.pop(me, None) is not None:
                        self._threads += 1
                    self._changed.notify_all()

    @property
    def behind(self) -> int:
        """Jobs that are late."""
        return len(self._behind)

    def tick(self) -> None:
        """Give the places of threads whose jobs are late to others."""
        if not self._under_way:
            return
        before = self._clock() - LATE_SECONDS
        with self._changed:
            late = {me: name for me, (name, began) in self._under_way.items() if began < before}
            for me, name in late.items():
                del self._under_way[me]
                self._behind[me] = name
                self._threads -= 1
            self._enough_threads()
        for name in late.values():
            self._late(name)

    def finish(self, seconds: float) -> list[str]:
        """Wait until all is done, `seconds` at most; the names of what is not."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._jobs or self._under_way or self._behind), seconds)
            under_way = [*self._under_way.values(), *self._jobs]
            return [*self._behind.values(), *(name for name, _ in under_way)]
