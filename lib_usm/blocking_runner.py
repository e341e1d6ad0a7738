"""Runs steps for threads that wait. All threads of a session share one stream, which has no reader thread of its own.

The first thread that waits is the leader: it reads the stream and wakes the others (the followers) when their answers
arrive. When the leader has its own answer, a follower becomes the leader. A signal handler may raise in the main thread
at any moment, so the main thread's calls run on a thread of lib_usm.calls.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from lib_usm.calls import Abandoned, Calls, current_call
from lib_usm.errors import (
    ClosedError,
    ConnectionLost,
    DaemonUnavailable,
    SessionKilled,
    UnknownSession,
    UsmError,
    again,
)
from lib_usm.limits import limit_reached
from lib_usm.page_table import PageTable
from lib_usm.pager import Pager, Stream
from lib_usm.runner import WaitingRunner
from lib_usm.steps import Place, Steps
from lib_usm.waits import FaultsWait, TokenWait, Wait

_T = TypeVar("_T")
_READ: Final = select.POLLIN
_READ_AND_WRITE: Final = select.POLLIN | select.POLLOUT


class _Thread:
    """The thread behind one `run`: the waiter of its waits. Its requests go to the pager when it waits."""

    def __init__(self) -> None:
        self.filed: list[Callable[[Pager], None]] = []
        self.condition: threading.Condition | None = None
        """What a follower sleeps on."""
        self.left = False
        """The caller was interrupted and waits no more."""
        self.wait: Wait | None = None
        """The last wait."""

    def wake(self) -> None:
        """Wake a follower; the caller holds the runner's lock. A leader checks its wait itself."""
        if self.condition is not None:
            self.condition.notify()

    def fault(
        self, table: PageTable | None, region_id: int, first_page: int, page_count: int, wait: Wait, *, write: bool
    ) -> None:
        """File a fault, see lib_usm.waits."""
        self._later(wait, lambda pager: pager.fault(table, region_id, first_page, page_count, wait, write=write))

    def faults(self, wait: FaultsWait, *, write: bool) -> None:
        """File a fault on each range, see lib_usm.waits."""
        self._later(wait, lambda pager: pager.faults(wait, write=write), len(wait.ranges))

    def load(self, region_id: int, offset: int, length: int, wait: Wait) -> None:
        """File a load, see lib_usm.waits."""
        self._later(wait, lambda pager: pager.load(region_id, offset, length, wait))

    def store(self, region_id: int, offset: int, data: bytes, wait: Wait) -> None:
        """File a store, see lib_usm.waits."""
        self._later(wait, lambda pager: pager.store(region_id, offset, data, wait))

    def take(self, wait: TokenWait) -> None:
        """Wait for the completion of a yield, see lib_usm.waits."""
        self._later(wait, lambda pager: pager.take(wait))

    def _later(self, wait: Wait, file: Callable[[Pager], None], count: int = 1) -> None:
        wait.remaining += count

        def now(pager: Pager) -> None:
            wait.remaining -= count
            file(pager)

        self.filed.append(now)


class _CopyingRunner:
    """Runs steps that copy from and to mapped memory: the calling thread copies, and only the waits are calls.

    After an interrupt the application continues with the buffers, so no other thread may still copy then.
    """

    def __init__(self, steps: Callable[[_Thread, Callable[[Place], Steps[Any]]], Any]) -> None:
        self._steps = steps

    def run(self, make: Callable[[Place], Steps[_T]]) -> _T:
        """Return the result of the steps."""
        result: _T = self._steps(_Thread(), make)
        return result


class BlockingRunner:
    """The runner of a session's threads. `open_pager` opens the stream at the first use, and again after it broke.

    `explain` converts the error of an ended stream to the one that is raised.
    """

    def __init__(
        self,
        open_pager: Callable[[], tuple[Stream, Pager]],
        calls: Calls,
        explain: Callable[[UsmError], UsmError],
    ) -> None:
        self._open_pager = open_pager
        self._calls = calls
        self._explain = explain
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._pager: Pager | None = None
        self._wakeup = -1
        self._reading = False
        self._followers: dict[_Thread, None] = {}
        self._closed: UsmError | None = None

    @property
    def copying(self) -> WaitingRunner:
        """A runner for steps that copy from and to mapped memory."""
        return _CopyingRunner(self._steps)

    def __del__(self) -> None:
        if self._wakeup >= 0:
            os.close(self._wakeup)

    def run(self, make: Callable[[Place], Steps[_T]], timeout: float | None = None) -> _T:
        """Return the result of the steps.

        Raises TimeoutError if they still wait after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        thread = _Thread()
        return self._calls.make(lambda: self._steps(thread, make, deadline), lambda _: self._leave(thread))

    def _steps(self, thread: _Thread, make: Callable[[Place], Steps[_T]], deadline: float | None = None) -> _T:
        if sys.is_finalizing() and (self._reading or self._lock.locked()):
            raise ClosedError("the interpreter ends, and a thread that was reading the fault stream has ended before")
        steps = make(Place(thread, thread))
        try:
            while True:
                thread.wait = next(steps)
                if not self._calls.make(lambda: self._wait(thread, deadline), lambda _: self._leave(thread)):
                    raise TimeoutError
        except StopIteration as stop:
            result: _T = stop.value
            if self._pager is not None:
                self._pager.warn()
            return result
        except (ConnectionLost, DaemonUnavailable, SessionKilled, UnknownSession) as error:
            raise (self._explain(error) if self._closed is None else again(self._closed)) from None
        finally:
            steps.close()

    def _wait(self, thread: _Thread, deadline: float | None) -> bool:
        """Send the filed requests and wait. False at the deadline, or if the caller has left."""
        call = current_call()
        if call is None:
            return self._until_over(thread, deadline)
        call.park(lambda: self._abandon(thread))
        try:
            return self._until_over(thread, deadline)
        finally:
            try:
                call.unpark()
            except Abandoned:
                self._leave(thread)
                raise

    def _until_over(self, thread: _Thread, deadline: float | None) -> bool:
        with self._lock:
            wait = thread.wait
            if wait is None or thread.left:
                return False  # the caller continues already: nothing of this call may still happen
            try:
                self._send(thread)
                while wait.remaining and not thread.left:
                    if self._follow(thread, deadline) if self._reading else self._lead(thread, wait, deadline):
                        break
            except UsmError:
                raise
            except BaseException as error:
                # A message may be half read or half sent, so the stream is useless.
                self._end(ConnectionLost(f"the fault stream was interrupted by {type(error).__name__}"))
                raise
            finally:
                if wait.remaining and self._pager is not None:
                    self._pager.leave(wait)
                if not self._reading:
                    self._promote()
            return not wait.remaining

    def _promote(self) -> None:
        """Wake one waiting follower, which becomes the leader."""
        for follower in self._followers:
            if follower.wait is not None and follower.wait.remaining and not follower.left:
                follower.wake()
                return

    def _end(self, error: UsmError) -> None:
        if self._pager is not None and self._stream is not None:
            self._stream.close(again(error))
            self._pager.fail_all(error)
            self._wake_leader()

    def _send(self, thread: _Thread) -> None:
        filed, thread.filed = thread.filed, []
        pager = self._opened()
        for file in filed:
            file(pager)
        pager.flush()
        if pager.end is not None:
            pager.receive()  # the stream ended during the send, so the descriptor will report nothing more
            self._wake_leader()
        elif self._stream is not None and self._stream.wants_to_send:
            self._wake_leader()

    def _opened(self) -> Pager:
        """The pager of a working stream, opened if necessary.

        Raises the error of `close`, and what `open_pager` raises.
        """
        if self._closed is not None:
            raise again(self._closed)
        if self._pager is not None and not self._reading:
            self._pager.receive()  # no thread has read since the last wait, and the stream may have ended meanwhile
        if self._pager is None or self._pager.end is not None:
            if self._wakeup < 0:
                try:
                    self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                except OSError as error:
                    raise limit_reached(error, "a fault stream cannot be opened") or error from None
            former = None if self._pager is None else self._pager.end
            self._stream, self._pager = self._open_pager()
            self._pager.former_end = former
        return self._pager

    def _follow(self, thread: _Thread, deadline: float | None) -> bool:
        """Sleep until the leader wakes this thread; True at the deadline."""
        thread.condition = threading.Condition(self._lock)
        self._followers[thread] = None
        try:
            return not thread.condition.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            thread.condition = None
            del self._followers[thread]

    def _lead(self, thread: _Thread, wait: Wait, deadline: float | None) -> bool:
        """Read until this thread's wait is over or it must leave; True at the deadline."""
        self._reading = True
        try:
            while wait.remaining and not thread.left:
                seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._look(seconds)
                if seconds == 0.0:
                    return True
            return False
        finally:
            self._reading = False

    def _look(self, seconds: float | None) -> None:
        """Poll the stream for at most `seconds`, then receive, which wakes the waiters whose answers arrived."""
        stream, pager = self._stream, self._pager
        if stream is None or pager is None or stream.end is not None:
            return
        poll = select.poll()
        poll.register(self._wakeup, _READ)
        poll.register(stream.fileno(), _READ_AND_WRITE if stream.wants_to_send else _READ)
        self._lock.release()
        try:
            poll.poll(None if seconds is None else seconds * 1000)
        finally:
            self._lock.acquire()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        pager.receive()

    def _wake_leader(self) -> None:
        if self._reading:
            os.eventfd_write(self._wakeup, 1)

    def _abandon(self, thread: _Thread) -> None:
        """End the wait of an interrupted caller."""
        thread.left = True
        self._leave(thread)

    def _leave(self, thread: _Thread) -> None:
        """Give up the wait of an interrupted caller, or the answer that it did not get."""
        with self._lock:
            if self._pager is not None and thread.wait is not None:
                self._pager.leave(thread.wait)
            thread.wake()
            self._wake_leader()

    def close(self, error: UsmError) -> None:
        """End the stream; waiting threads raise `error`. May be called again."""
        with self._lock:
            self._closed = error
            self._end(error)
