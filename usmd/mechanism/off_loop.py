"""Runs system calls that a client can delay on threads, so that the event loop does not hang in the kernel.

Punching a hole in a memfd takes the lock of its inode. Each process that has the memfd can hold that lock: a write(2)
to it from a buffer whose page fault is not served holds it as long as the process likes. Seals cannot forbid that,
because F_SEAL_FUTURE_WRITE refuses the hole as well (measured on 6.18). A thread that waits for such a lock cannot even
be killed. So the loop gives the call to a thread, and watches the clock.
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
"""Seconds a minute that the jobs of one account may wait for locks or exceed their CPU time."""
MINUTE: Final = 60.0
JOB_SECONDS: Final = 0.001
PAGE_SECONDS: Final = 2e-5
"""CPU seconds that a job may take, and more for each page: several times what pages that are mapped once take."""
THREADS: Final = 4
"""Threads for jobs that the loop does not wait for."""
IDLE_SECONDS: Final = 1.0
"""A thread without a job ends after so long: to begin one takes longer than a short job."""
LATE_SECONDS: Final = 1.0
"""After so long a job keeps its thread, and another thread takes its place."""
_PUNCH: Final = 3
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of linux/falloc.h."""
_LOOK_SECONDS: Final = 0.005

Run = tuple[int, int]
"""Offset and length, in bytes."""

# Not mmap.madvise(MADV_REMOVE), which does the same: Python holds its global lock during it.
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch(memfd: int, runs: Iterable[Run]) -> None:
    """Give back the memory of ranges of a memfd, whose pages are missing from then on. Raises OSError."""
    for offset, length in runs:
        while _fallocate(memfd, _PUNCH, offset, length):
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))


class Held(NamedTuple):
    """A job that the loop no longer waits for: why, and a call that waits until it is done."""

    why: str
    wait_done: Callable[[], object]


class Account:
    """Seconds that the loop has lost to a client in the current minute."""

    __slots__ = ("_clock", "_ends", "_seconds")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._ends = 0.0

    def charge(self, seconds: float) -> bool:
        """Add seconds; returns whether the account is overdrawn."""
        now = self._clock()
        if now > self._ends:
            self._seconds, self._ends = 0.0, now + MINUTE
        self._seconds += seconds
        return self._seconds > PATIENCE_SECONDS


class Punching:
    """Runs jobs that a client can delay on a thread, one at a time, and waits for each while its account lasts.

    A job that overdraws its account is left behind with its thread; the next job has a new thread.
    """

    def __init__(self) -> None:
        self._thread = _Thread()
        self._account = Account()
        self._may_take = 0.0

    def run(self, job: Callable[[], object], pages: int, account: Account) -> Held | None:
        """Do a job on `pages` pages and wait for it; returns None unless it was too slow. Raises the job's OSError."""
        self.begin(job, pages, account)
        return self.finish()

    def begin(self, job: Callable[[], object], pages: int, account: Account) -> None:
        """Begin a job on `pages` pages. The one before must be finished."""
        self._account = account
        self._may_take = JOB_SECONDS + pages * PAGE_SECONDS
        self._thread.give(job)

    @property
    def done(self) -> bool:
        """Whether the job that has begun is done, so that `finish` does not wait."""
        return self._thread.done

    def finish(self) -> Held | None:
        """Wait for the job that has begun; as `run`."""
        thread, account, may_take = self._thread, self._account, self._may_take
        while not thread.wait(_LOOK_SECONDS):
            # No client is to blame for a wait for a CPU or for Python's lock.
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
            if self._job is _nothing:  # it was left after its last job
                return
            began = time.thread_time()
            try:
                self._job()
            except OSError as error:
                self._error = error
            self._job = _nothing  # or what it refers to would live until the next job
            self.spent = time.thread_time() - began
            self._done.release()

    def give(self, job: Callable[[], object]) -> None:
        """Begin a job. The one before must be done."""
        self._job = job
        self._ran_before = -1.0
        self._wanted.release()

    @property
    def done(self) -> bool:
        """Whether the job is done."""
        return not self._done.locked()

    def wait(self, seconds: float) -> bool:
        """Wait for the job; returns whether it is done. Raises the job's OSError."""
        if not self._done.acquire(timeout=seconds):
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def leave(self) -> Callable[[], object]:
        """Let the thread end with its job, which may be done by now; returns a call that waits for that."""
        self._left = True
        if self._wanted.locked():  # else it has still to take the job
            self._wanted.release()
        return self._thread.join

    def waits_for_a_lock(self) -> bool:
        """Whether the thread waits for a lock in the kernel (state D); a wait for Python's lock is state S."""
        return self._of_kernel("stat").rpartition(")")[2].split()[:1] == ["D"]

    def ran(self) -> float:
        """CPU seconds used since the first call for this job; 0 if the kernel does not report them."""
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
    """Jobs for clients and regions that are gone; the loop does not wait for them.

    Jobs begin in their order, on `THREADS` threads. A job that takes over `LATE_SECONDS` keeps its thread, and `tick`
    calls `late` once with its name.
    """

    def __init__(
        self, late: Callable[[str], None] = lambda _: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._late = late
        self._jobs: deque[tuple[str, Callable[[], object]]] = deque()
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._wanted = threading.Condition(lock)
        """A thread without a job waits for this, for `IDLE_SECONDS`."""
        self._under_way: dict[int, tuple[str, float]] = {}
        """By thread: name and start of a job that is not late."""
        self._behind: dict[int, str] = {}
        """By thread: name of a job that is late."""
        self._threads = 0

    def put(self, name: str, job: Callable[[], object]) -> None:
        """Add a job."""
        with self._changed:
            self._jobs.append((name, job))
            self._wanted.notify()
            self._enough_threads()

    def _enough_threads(self) -> None:
        while self._threads < THREADS and self._threads < len(self._under_way) + len(self._jobs):
            self._threads += 1
            threading.Thread(target=self._run, name="usmd-aftercare", daemon=True).start()

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                self._wanted.wait_for(lambda: self._jobs or self._threads > THREADS, IDLE_SECONDS)
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
        """Replace threads whose jobs are late."""
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
        """Wait for all jobs, `seconds` at most; returns the names of those that are not done."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._jobs or self._under_way or self._behind), seconds)
            under_way = [*self._under_way.values(), *self._jobs]
            return [*self._behind.values(), *(name for name, _ in under_way)]
