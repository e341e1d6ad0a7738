"""uThreads: greenlets and coroutines that a LocalManager runs. What runs them, and when, is in lib_usm.kthread."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import greenlet

from lib_usm.errors import InvalidArgument, NotRunning
from lib_usm.pager import Wait
from lib_usm.running import running

if TYPE_CHECKING:
    from lib_usm.kthread import KThread

_T = TypeVar("_T")
_log = logging.getLogger("lib_usm")


class Join(Wait):
    """A uThread waits for another one."""

    __slots__ = ("target",)

    def __init__(self, waiter: UThread[Any], target: UThread[Any]) -> None:
        super().__init__(waiter)
        self.target = target


class YieldNow:
    """What `LocalManager.yield_now` returns, for a coroutine to await."""

    __slots__ = ()

    def __await__(self) -> Generator[YieldNow, None, None]:
        return iter(_ONCE)  # type: ignore[return-value]  # an iterator is all that `await` needs, and takes half the time


YIELD: Final = YieldNow()
_ONCE: Final = (YIELD,)
MAY_FAULT: Final = 2


class UThread(ABC, Generic[_T]):
    """A user-level thread, made by `LocalManager.spawn` or `spawn_async`; also the handle of it."""

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

    def __init__(self, kthread: KThread, name: str, priority: int) -> None:
        self.kthread = kthread
        self.name = name
        """For people: in the report of a deadlock, and in errors."""
        self.priority = priority
        self.queue: deque[UThread[Any]] = kthread.queue_of(priority)
        self.enqueue = self.queue.append
        self.done = False
        """It has ended: with a result, an error, or by `cancel`."""
        self.waiting: Wait | None = None
        """What it waits for; None: it runs or is ready to."""
        self.may_fault = MAY_FAULT
        """It may fault soon; 0: it has yielded that many times since it last did, or was born, and so computes."""
        self.locals: dict[int, dict[str, object]] = {}
        """Values of each UThreadLocal."""
        self.joins: list[Join] = []
        self._event: threading.Event | None = None
        self._result: _T
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._looked_at = False
        self.switch: Callable[[], object] | None = None
        """Switches to it from another greenlet of its kThread; None where `resume` has more to do than that."""
        self.thrown: BaseException | None = None
        """What will be raised in it when it is next resumed."""

    @abstractmethod
    def resume(self) -> None:
        """Run it until it waits, yields, or ends; it is `kthread.current` meanwhile."""

    def result(self) -> _T:
        """What it returned; raises what it raised, with its traceback, and CancelledError after `cancel`.

        In a greenlet of the same LocalManager other uThreads run until it has ended; a coroutine awaits the handle
        instead. In another thread, this one waits while the LocalManager runs. Raises NotRunning where nobody runs it.
        """
        if not self.done:
            self._join()
        self._looked_at = True
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return self._result

    def cancel(self) -> bool:
        """Have asyncio.CancelledError raised where it waits, or will go on; False when it has ended already.

        One that has not begun ends at once. Like a task, it may catch the error and go on. May be called by any thread.
        """
        if self.done:
            return False
        self.kthread.post(partial(self.throw, asyncio.CancelledError()))
        return True

    def wake(self) -> None:
        """Its wait is over; called on its kThread."""
        self.waiting = None
        self.enqueue(self)

    def throw(self, error: BaseException) -> None:
        """Raise `error` in it when it is next resumed, which it is even if it waits; on its kThread."""
        if self.done:
            return
        self.thrown = error
        self._have_raised()
        if self.waiting is not None:
            self.waiting.waiter = None
            self.wake()

    @abstractmethod
    def _have_raised(self) -> None:
        """Have the next `resume` raise what was thrown."""

    def returned(self, result: _T) -> None:
        """It has ended well."""
        self._result = result
        self._end()

    def failed(self, error: BaseException) -> None:
        """It has ended with an error."""
        # Without our own frame: it says nothing, and refers to this object.
        self._traceback = None if error.__traceback__ is None else error.__traceback__.tb_next
        self._error = error.with_traceback(self._traceback)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._looked_at = True
            self.kthread.manager.interrupted(error)
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
                raise NotRunning(f"{self!r} has not ended, and nobody runs it: call `run` of its LocalManager first")
            if self._event is None:
                self._event = threading.Event()
        self._event.wait()

    def joined_by(self, kthread: KThread) -> Join | None:
        """Have the current uThread of `kthread` wait; None when there is nothing to wait for."""
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
        # As with asyncio's tasks: an error that nobody looked at is not swallowed.
        error = getattr(self, "_error", None)
        if error is not None and not self._looked_at and not isinstance(error, asyncio.CancelledError):
            _log.error("the error of uThread %r was never retrieved", self.name, exc_info=error)


class GreenUThread(UThread[_T]):
    """Plain synchronous code; it may yield in any call."""

    __slots__ = ("_context", "_function", "_green")

    def __init__(self, kthread: KThread, name: str, priority: int, function: Callable[[], _T]) -> None:
        super().__init__(kthread, name, priority)
        self._function = function
        self._context = copy_context()
        self._green: greenlet.greenlet | None = None

    def resume(self) -> None:
        """Run it until it waits, yields, or ends."""
        kthread = self.kthread
        kthread.switching = True
        switch = self.switch
        if switch is not None:
            switch()
        elif self.thrown is None:
            self._begin()
        else:
            self._raise()
        kthread.switching = False

    def _have_raised(self) -> None:
        self.switch = None

    def _begin(self) -> None:
        # Not before: a greenlet belongs to the kernel thread that makes it, and returns to where it was made.
        green = self._green = greenlet.greenlet(self._run)
        green.gr_context = self._context
        self.switch = green.switch
        green.switch()

    def _raise(self) -> None:
        error, self.thrown = self.thrown, None
        green = self._green
        if error is None:
            return
        if green is None:
            self.failed(error)
        else:
            self.switch = green.switch
            green.throw(error)

    def _run(self) -> None:
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - it is the handle's
            self.failed(error)
        else:
            self.returned(result)
        finally:
            del self  # or the traceback's frames keep it, and nobody hears of the error


class CoroutineUThread(UThread[_T]):
    """An `async def`; it yields where it awaits."""

    __slots__ = ("_context", "_coroutine", "_go_on", "_send")

    def __init__(self, kthread: KThread, name: str, priority: int, coroutine: Coroutine[Any, Any, _T]) -> None:
        super().__init__(kthread, name, priority)
        self._coroutine = coroutine
        self._context: Context = copy_context()
        send: Callable[[None], object] = coroutine.send
        self._go_on: Callable[[], object] = partial(self._context.run, send, None)
        self._send: Callable[[], object] = self._go_on

    def resume(self) -> None:
        """Run it until it waits, yields, or ends."""
        try:
            waits_for = self._send()
        except StopIteration as stop:
            self.returned(stop.value)
        except BaseException as error:  # noqa: BLE001 - it is the handle's
            self.failed(error)
            del self  # or the traceback's frames keep it, and nobody hears of the error
        else:
            if waits_for is YIELD:
                if self.may_fault:
                    self.may_fault -= 1
                self.enqueue(self)
            elif isinstance(waits_for, Wait):
                self.kthread.wait(self, waits_for)
            else:
                self.throw(
                    InvalidArgument(
                        f"uThread {self.name!r} awaited {waits_for!r}; it can await what lib_usm gives and other "
                        "uThreads, and what asyncio gives only in an asyncio program without a LocalManager"
                    )
                )
                self.enqueue(self)

    def _have_raised(self) -> None:
        self._send = self._raise

    def _raise(self) -> object:
        error, self.thrown = self.thrown, None
        self._send = self._go_on
        if error is None:
            return YIELD
        throw: Callable[[BaseException], object] = self._coroutine.throw
        return self._context.run(throw, error)


class UThreadLocal:
    """Attributes of which each uThread has its own, as threading.local has for threads; elsewhere each thread has."""

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
