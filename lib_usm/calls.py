"""Runs the main thread's calls on a thread of the library, so that an interrupt (Ctrl-C) ends only the wait.

Python runs signal handlers in the main thread, between any two bytecodes, and their exceptions are raised there. Raised
inside gRPC or the fault stream, one would leave locks taken and lose answers. So the main thread only waits for a lock.
Other threads of the application run their calls themselves, because no signal handler runs in them.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from lib_usm.limits import thread_limit

_T = TypeVar("_T")
_LOOK_SECONDS: Final = 0.2


class Abandoned(BaseException):
    """The caller was interrupted. Raised only on the thread that runs the call."""


class Call(Generic[_T]):
    """A function to call and its outcome. `undo` takes back a result that an interrupted caller did not get."""

    def __init__(self, function: Callable[[], _T], undo: Callable[[_T], None] | None) -> None:
        self.function: Callable[[], _T] | None = function
        self.over = threading.Lock()
        self.over.acquire()
        self.results: list[_T] = []
        """The result, until the caller or `take_back` takes it."""
        self.error: BaseException | None = None
        self.texts: list[str] = []
        """Warnings to issue on the caller's thread."""
        self.abandoned = False
        self.parked: Callable[[], None] | None = None
        """Set while the call waits, perhaps without end: ends that wait."""
        self._undo = undo

    def make(self) -> None:
        """Call the function on the library's thread, unless the caller has left."""
        function, self.function = self.function, None
        if function is None:
            self.take_back()
            return
        _current.call = self
        try:
            if not self.abandoned:
                self.results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised on the caller's thread
            self.error = error
        finally:
            _current.call = None
        self.over.release()
        if self.abandoned:
            self.take_back()

    def take_back(self) -> None:
        """Undo a result that the caller did not get."""
        try:
            result = self.results.pop()
        except IndexError:
            return
        if self._undo is not None:
            self._undo(result)

    def park(self, abandon: Callable[[], None]) -> None:
        """Begin a wait without a time limit; another thread ends it with `abandon`. Raises Abandoned."""
        self.parked = abandon
        if self.abandoned:
            self.parked = None
            raise Abandoned

    def unpark(self) -> None:
        """End the wait. Raises Abandoned."""
        self.parked = None
        if self.abandoned:
            raise Abandoned


class _Current(threading.local):
    call: Call[Any] | None = None


_current: Final = _Current()


def current_call() -> Call[Any] | None:
    """The main thread's call that this thread runs; None on threads of the application."""
    return _current.call


class _Runner:
    """A thread that runs one call after another. It refers to no client, so that a client can be dropped."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self.last: Call[Any] | None = None
        self.thread = threading.Thread(target=_make_all, args=(self.calls,), name="lib_usm-calls", daemon=True)
        self.thread.start()

    @property
    def busy(self) -> bool:
        """True if a caller waits. A main thread that asks this is in a signal handler that interrupted that wait."""
        last = self.last
        return last is not None and not last.abandoned

    def stuck(self) -> Callable[[], None] | None:
        """If the last call's caller has left and the call still waits, what ends the wait; else None."""
        last = self.last
        return last.parked if last is not None and last.abandoned else None


def _make_all(calls: queue.SimpleQueue[Call[Any] | None]) -> None:
    while True:
        call = calls.get()
        if call is None:
            return
        call.make()
        del call  # else its references would live until the next call


class Calls:
    """Runs the calls of a client. `warn` issues a warning to the application."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._pid = os.getpid()
        self._runners: list[_Runner] = []
        """One, and another for each call that a signal handler makes during a call."""
        self._stopped = False

    def make(self, function: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Return or raise what `function` does. From the main thread it runs on the library's thread.

        After an interrupt the call does nothing more that it would have to wait for. Raises LimitExceeded if no thread
        can be started.
        """
        if self._stopped or threading.current_thread() is not threading.main_thread() or os.getpid() != self._pid:
            return function()
        if sys.is_finalizing():
            return function()  # other threads have stopped, and signal handlers no longer run
        call = Call(function, undo)
        runner = self._ready()
        try:
            runner.last = call
            runner.calls.put(call)
            # A signal just before `acquire` would not interrupt it, hence the timeout.
            while not call.over.acquire(timeout=_LOOK_SECONDS):
                if call.function is not None and not runner.thread.is_alive():
                    call.make()  # another thread has closed the client
            runner.last = None  # else it would keep the result alive
            if call.error is None:
                for text in call.texts:
                    self._warn(text)
                return call.results[0]
        except BaseException:
            call.abandoned = True
            runner.calls.put(call)  # if the call had ended already, the thread takes its result back
            raise
        error, call.error = call.error, None
        try:
            raise error
        finally:
            del error, call  # else the traceback's frames would form a reference cycle with them

    def start(self) -> None:
        """Start the thread now, so that no later call fails because none can be started."""
        self._ready()

    def _ready(self) -> _Runner:
        """A thread that no call in progress and no wait of an interrupted call occupies."""
        stuck = {runner: abandon for runner in self._runners if (abandon := runner.stuck()) is not None}
        for runner in self._runners:
            if not stuck and not runner.busy:
                return runner
        try:
            following = _Runner()
        except RuntimeError as error:
            raise thread_limit(error, "a thread of lib_usm cannot be started") from None
        for runner, abandon in stuck.items():
            following.calls.put(Call(abandon, None))
            runner.calls.put(None)
        self._runners = [*(runner for runner in self._runners if runner not in stuck), following]
        return following

    def stop(self) -> None:
        """End the threads after their calls. Later calls run on the caller's thread. A finalizer may call this."""
        self._stopped = True
        for runner in self._runners:
            runner.calls.put(None)
