"""Calls of the main thread, made by a thread of the library: an interrupt (Ctrl-C) ends the wait, and nothing else.

Python runs signal handlers in the main thread, between any two of its steps, and raises there what they raise. In the
middle of gRPC, or of the fault stream, that would leave locks taken and answers lost. So the main thread only waits,
for one lock, and another thread acts. Threads of the application act for themselves: no handler runs in them.
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
    """The caller waits no more. Only the thread that makes the call sees this."""


class Call(Generic[_T]):
    """A function to call, and what came of it. `undo` takes back a result that the caller was interrupted before."""

    def __init__(self, function: Callable[[], _T], undo: Callable[[_T], None] | None) -> None:
        self.function: Callable[[], _T] | None = function
        self.over = threading.Lock()
        self.over.acquire()
        self.results: list[_T] = []
        """The result, until `take_back` has it."""
        self.error: BaseException | None = None
        self.texts: list[str] = []
        """Warnings, which are issued where the caller is."""
        self.abandoned = False
        self.parked: Callable[[], None] | None = None
        """It waits, perhaps without end; this ends the wait."""
        self._undo = undo

    def make(self) -> None:
        """Call the function, unless the caller has left; on the thread of the library."""
        function, self.function = self.function, None
        if function is None:
            self.take_back()
            return
        _current.call = self
        try:
            if not self.abandoned:
                self.results.append(function())
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self.error = error
        finally:
            _current.call = None
        self.over.release()
        if self.abandoned:
            self.take_back()

    def take_back(self) -> None:
        """Undo what the caller did not get."""
        try:
            result = self.results.pop()
        except IndexError:
            return
        if self._undo is not None:
            self._undo(result)

    def park(self, abandon: Callable[[], None]) -> None:
        """A wait begins that may take as long as it likes; `abandon`, on another thread, ends it. Raises Abandoned."""
        self.parked = abandon
        if self.abandoned:
            self.parked = None
            raise Abandoned

    def unpark(self) -> None:
        """The wait is over. Raises Abandoned."""
        self.parked = None
        if self.abandoned:
            raise Abandoned


class _Current(threading.local):
    call: Call[Any] | None = None


_current: Final = _Current()


def current_call() -> Call[Any] | None:
    """The call of the main thread that the calling thread makes; None on threads of the application."""
    return _current.call


class _Runner:
    """A thread that makes one call after the other. It refers to no client, which may be dropped."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self.last: Call[Any] | None = None
        self.thread = threading.Thread(target=_make_all, args=(self.calls,), name="lib_usm-calls", daemon=True)
        self.thread.start()

    @property
    def busy(self) -> bool:
        """A caller waits: on the main thread that is one which a signal handler has interrupted to make a call."""
        last = self.last
        return last is not None and not last.abandoned

    def stuck(self) -> Callable[[], None] | None:
        """What ends the wait of the last call, whose caller has left."""
        last = self.last
        return last.parked if last is not None and last.abandoned else None


def _make_all(calls: queue.SimpleQueue[Call[Any] | None]) -> None:
    while True:
        call = calls.get()
        if call is None:
            return
        call.make()
        del call  # or what it refers to would live until the next one


class Calls:
    """Makes the calls of a client. `warn` warns the application."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._pid = os.getpid()
        self._runners: list[_Runner] = []
        """One, and another for each call that a signal handler made in the middle of a call."""
        self._stopped = False

    def make(self, function: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Return what `function` does, or raise what it does; from the main thread, so that an interrupt is harmless.

        What a call that was interrupted has not yet done it does not do, as far as it would have had to wait. Raises
        LimitExceeded where no thread can be started.
        """
        if self._stopped or threading.current_thread() is not threading.main_thread() or os.getpid() != self._pid:
            return function()
        if sys.is_finalizing():
            return function()  # other threads run no more, and neither do signal handlers
        call = Call(function, undo)
        runner = self._ready()
        try:
            runner.last = call
            runner.calls.put(call)
            # A signal just before the wait is looked at by a look now and then.
            while not call.over.acquire(timeout=_LOOK_SECONDS):
                if call.function is not None and not runner.thread.is_alive():
                    call.make()  # another thread has closed the client, and there is nothing to wait for
            runner.last = None  # or it would keep what the call returns
            if call.error is None:
                for text in call.texts:
                    self._warn(text)
                return call.results[0]
        except BaseException:
            call.abandoned = True
            runner.calls.put(call)  # for the case that it was over already, and has something to take back
            raise
        error, call.error = call.error, None
        try:
            raise error
        finally:
            del error, call  # or the frames of the traceback would refer to it, and live until the next collection

    def start(self) -> None:
        """Start the thread, so that no later call fails for want of one."""
        self._ready()

    def _ready(self) -> _Runner:
        """A thread that is kept neither by a call in progress nor by a wait of an interrupted one."""
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
        """End the thread after its calls; those that follow need not wait. A finalizer may call this."""
        self._stopped = True
        for runner in self._runners:
            runner.calls.put(None)
