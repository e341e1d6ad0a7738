"""The two kinds of uThread: a greenlet may switch away in any call, a coroutine where it awaits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

import greenlet

from lib_usm.errors import InvalidArgument
from lib_usm.uthread import YIELD, Scheduler, UThread
from lib_usm.waits import Wait

_T = TypeVar("_T")


class GreenUThread(UThread[_T]):
    """A function that runs in a greenlet, and may be switched away from in any call."""

    __slots__ = ("_context", "_function", "_green")

    def __init__(self, kthread: Scheduler, name: str, priority: int, function: Callable[[], _T]) -> None:
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
        # Not earlier: a greenlet belongs to the kernel thread that makes it, and returns to the greenlet that made it.
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
        except BaseException as error:  # noqa: BLE001 - raised by the handle's `result`
            self.failed(error)
        else:
            self.returned(result)
        finally:
            del self  # else the traceback's frames would keep it alive, and the error would never be logged


class CoroutineUThread(UThread[_T]):
    """A coroutine, which may be switched away from where it awaits."""

    __slots__ = ("_context", "_coroutine", "_go_on", "_send")

    def __init__(self, kthread: Scheduler, name: str, priority: int, coroutine: Coroutine[Any, Any, _T]) -> None:
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
        except BaseException as error:  # noqa: BLE001 - raised by the handle's `result`
            self.failed(error)
            del self  # else the traceback's frames would keep it alive, and the error would never be logged
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
