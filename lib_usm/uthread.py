"""uThreads as handles, and the part of a kThread that they use.

lib_usm.kthread schedules them; lib_usm.uthread_kinds has the two kinds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from lib_usm.errors import InvalidArgument, NotRunning
from lib_usm.runner import AwaitedRunner, WaitingRunner
from lib_usm.steps import StepsRegion
from lib_usm.waits import Wait

_T = TypeVar("_T")
_log = logging.getLogger("lib_usm")


class Join(Wait):
    """A wait of a uThread for the end of another one."""

    __slots__ = ("target",)

    def __init__(self, waiter: UThread[Any], target: UThread[Any]) -> None:
        super().__init__(waiter)
        self.target = target


class YieldNow:
    """The result of `LocalManager.yield_now`, for a coroutine to await."""

    __slots__ = ()

    def __await__(self) -> Generator[YieldNow, None, None]:
        return iter(_ONCE)  # type: ignore[return-value]  # `await` needs only an iterator, which takes half the time


YIELD: Final = YieldNow()
_ONCE: Final = (YIELD,)
MAY_FAULT: Final = 2


class Manager(Protocol):
    """The LocalManager, as its kThreads see it."""

    finished: bool
    """True if no uThread is left."""

    @property
    def session(self) -> object:
        """The session whose regions are served."""

    def is_stuck(self) -> bool:
        """True if no kThread can wake another one; then a Deadlock is raised in each uThread."""

    def interrupted(self, error: BaseException) -> None:
        """Cancel all uThreads; `run` raises `error`."""

    def one_ended(self) -> None:
        """Count a uThread that has ended."""

    def spawn(self, function: Callable[..., object], /, *args: object) -> object:
        """Make a uThread that calls `function(*args)`. Any thread may call this."""


class Scheduler(Protocol):
    """The part of a kThread that its uThreads, and the code that runs in them, use."""

    current: UThread[Any] | None
    """The uThread whose code runs."""
    lock: threading.Lock
    """The lock of the LocalManager, shared by its kThreads."""
    manager: Manager
    runs: bool
    switching: bool
    """True if the current uThread is a greenlet, which can be switched away from."""

    @property
    def greenlets(self) -> WaitingRunner:
        """The runner for the current uThread if it is a greenlet; other uThreads run while its steps wait."""

    @property
    def coroutines(self) -> AwaitedRunner:
        """The runner for the current uThread if it is a coroutine."""

    def queue_of(self, priority: int) -> deque[UThread[Any]]:
        """The ready uThreads of a priority."""

    def post(self, job: Callable[[], object]) -> None:
        """Run `job` on the kThread's kernel thread."""

    def wait(self, uthread: UThread[Any], wait: Wait) -> None:
        """Stop a uThread until `wait` is over."""

    def park(self, wait: Wait) -> None:
        """Stop the current greenlet until `wait` is over."""

    def yield_now(self) -> None:
        """Let other uThreads run."""

    def serves(self, region: StepsRegion) -> bool:
        """True if an access to `region` by the current code runs in `greenlets`."""

    def owns(self, region: StepsRegion) -> bool:
        """True if `region` belongs to the LocalManager's client."""

    def serves_manager(self, manager: object) -> bool:
        """True if the kThread belongs to this LocalManager."""

    def interrupted(self, error: BaseException) -> None:
        """Cancel all uThreads; `run` of the LocalManager raises `error`."""

    def ended(self, uthread: UThread[Any]) -> None:
        """Remove a uThread that has ended."""


class _Running(threading.local):
    kthread: Scheduler | None = None


running: Final = _Running()
"""`running.kthread` is the kThread of the calling thread; None outside of LocalManager.run."""


class UThread(ABC, Generic[_T]):
    """A user-level thread, made by `LocalManager.spawn` or `spawn_async`, and its handle."""

    __slots__ = (
        "__weakref__",
        "_error",
        "_event",
        "_looked_at",
        "_result",
        "_traceback",
        "done",
        "enqueue",
        "joins",
        "kthread",
        "locals",
        "may_fault",
        "name",
        "priority",
        "queue",
        "switch",
        "thrown",
        "waiting",
    )

    def __init__(self, kthread: Scheduler, name: str, priority: int) -> None:
        self.kthread = kthread
        self.name = name
        """Name for users: in the report of a deadlock, and in errors."""
        self.priority = priority
        self.queue: deque[UThread[Any]] = kthread.queue_of(priority)
        self.enqueue = self.queue.append
        self.done = False
        """True if it has ended: with a result, an error, or by `cancel`."""
        self.waiting: Wait | None = None
        """The wait in progress; None if it runs or is ready."""
        self.may_fault = MAY_FAULT
        """Yields until it counts as computing: set at its start and at each fault, 0 if it has yielded that often
        since."""
        self.locals: dict[int, dict[str, object]] = {}
        """The values of each UThreadLocal, by its id."""
        self.joins: list[Join] = []
        self._event: threading.Event | None = None
        self._result: _T
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._looked_at = False
        self.switch: Callable[[], object] | None = None
        """Switches to it from another greenlet of its kThread; None if only `resume` can run it."""
        self.thrown: BaseException | None = None
        """The exception to raise in it when it is next resumed."""

    @abstractmethod
    def resume(self) -> None:
        """Run it until it waits, yields, or ends. The caller has set `kthread.current` to it."""

    def result(self) -> _T:
        """Its result. Raises its error with its traceback, and CancelledError after `cancel`.

        In a greenlet of the same LocalManager, other uThreads run until it has ended; a coroutine awaits the handle
        instead. Another thread waits while the LocalManager runs. Raises NotRunning if the LocalManager does not run.
        """
        if not self.done:
            self._join()
        self._looked_at = True
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return self._result

    def cancel(self) -> bool:
        """Raise asyncio.CancelledError in it where it waits or will continue; False if it has ended already.

        If it has not begun, it ends at once. Like a task, it may catch the error and continue. Any thread may call
        this.
        """
        if self.done:
            return False
        self.kthread.post(partial(self.throw, asyncio.CancelledError()))
        return True

    def wake(self) -> None:
        """Make it ready, because its wait is over. Called on its kThread."""
        self.waiting = None
        self.enqueue(self)

    def throw(self, error: BaseException) -> None:
        """Raise `error` in it when it is next resumed, and end its wait if it waits. Called on its kThread."""
        if self.done:
            return
        self.thrown = error
        self._have_raised()
        if self.waiting is not None:
            self.waiting.waiter = None
            self.wake()

    @abstractmethod
    def _have_raised(self) -> None:
        """Make the next `resume` raise `thrown`."""

    def returned(self, result: _T) -> None:
        """Record its result and end it."""
        self._result = result
        self._end()

    def failed(self, error: BaseException) -> None:
        """Record its error and end it."""
        # Without our own frame, which does not help the reader and refers to this object.
        self._traceback = None if error.__traceback__ is None else error.__traceback__.tb_next
        self._error = error.with_traceback(self._traceback)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._looked_at = True
            self.kthread.interrupted(error)
        self._end()

    def _end(self) -> None:
        with self.kthread.lock:
            self.done = True
            joins, self.joins = self.joins, []
            if self._event is not None:
                self._event.set()
        for join in joins:
            if join.waiter is not None:
                join.waiter.kthread.post(partial(join.answered, None))  # type: ignore[attr-defined]
        self.kthread.ended(self)

    def _join(self) -> None:
        kthread = running.kthread
        if kthread is not None and kthread.lock is self.kthread.lock:
            current = kthread.current
            if current is self:
                raise InvalidArgument(f"{self!r} waits for its own end")
            if not kthread.switching:
                raise InvalidArgument(f"{current!r} is a coroutine: `await` the handle of {self!r} instead")
            join = self.joined_by(kthread)
            if join is not None:
                kthread.park(join)
            return
        with self.kthread.lock:
            if self.done:
                return
            if not self.kthread.runs or kthread is not None:
                raise NotRunning(f"{self!r} has not ended, and no thread runs it: call `run` of its LocalManager first")
            if self._event is None:
                self._event = threading.Event()
        self._event.wait()

    def joined_by(self, kthread: Scheduler) -> Join | None:
        """Make the current uThread of `kthread` wait for this one; None if it has ended already."""
        current = kthread.current
        if current is None:
            raise InvalidArgument("only a uThread can wait for another one here")
        with self.kthread.lock:
            if self.done:
                return None
            join = Join(current, self)
            join.remaining = 1
            self.joins.append(join)
            return join

    def __await__(self) -> Generator[Join, None, _T]:
        kthread = running.kthread
        if kthread is None or kthread.lock is not self.kthread.lock:
            raise InvalidArgument(f"{self!r} can only be awaited in a uThread of its LocalManager")
        join = self.joined_by(kthread) if not self.done else None
        while join is not None and join.remaining:
            yield join
        return self.result()

    def __repr__(self) -> str:
        state = "done" if self.done else "waiting" if self.waiting is not None else "ready"
        return f"<uThread {self.name!r}, {state}>"

    def __del__(self) -> None:
        # As for asyncio's tasks: an error that no caller retrieved is logged.
        error = getattr(self, "_error", None)
        if error is not None and not self._looked_at and not isinstance(error, asyncio.CancelledError):
            _log.error("the error of uThread %r was never retrieved", self.name, exc_info=error)


class UThreadLocal:
    """Like threading.local, but each uThread has its own attributes; outside of uThreads each thread has."""

    def __init__(self) -> None:
        object.__setattr__(self, "_outside", threading.local())

    def _values(self) -> dict[str, object]:
        kthread = running.kthread
        if kthread is not None and kthread.current is not None:
            return kthread.current.locals.setdefault(id(self), {})
        outside: threading.local = object.__getattribute__(self, "_outside")
        return outside.__dict__

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as with threading.local
        try:
            return self._values()[name]
        except KeyError:
            raise AttributeError(f"this uThread has set no {name!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        self._values()[name] = value

    def __delattr__(self, name: str) -> None:
        if self._values().pop(name, self) is self:
            raise AttributeError(f"this uThread has set no {name!r}")
