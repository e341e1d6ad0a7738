"""Calls with a deadline, each in a thread of its own, which goes on with a call that its caller has given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Late(Exception):
    """A call has not returned in time, or could not begin because earlier ones hold all threads."""


class InTime(Generic[_T]):
    """Runs calls in up to `threads` threads. A call must use memory of its own, because it may end after its caller.

    They are daemon threads, so that a call that never returns does not keep the process from ending.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._threads = threads
        self._started = 0
        self._busy = 0
        self._lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Callable[[], _T], Future[_T]] | None] = SimpleQueue()

    def call(self, work: Callable[[], _T], seconds: float) -> _T:
        """What `work` returns. Raises Late after so many seconds, and what `work` raises."""
        with self._lock:
            if self._busy == self._threads:
                raise Late
            self._busy += 1
            starts = self._busy > self._started
            self._started += starts
        if starts:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        future: Future[_T] = Future()
        self._queue.put((work, future))
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():  # then `work` itself raised it
                raise
            raise Late from None

    def close(self) -> None:
        """Let each thread end with what it does; no call may follow."""
        for _ in range(self._started):
            self._queue.put(None)

    def _run(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Run a call; False if there are no more. A call of its own, so that no local variable keeps what it used."""
        found = self._queue.get()
        if found is None:
            return False
        work, future = found
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the call is waited for
            self._end()
            future.set_exception(error)
        else:
            self._end()
            future.set_result(result)
        return True

    def _end(self) -> None:
        with self._lock:
            self._busy -= 1
