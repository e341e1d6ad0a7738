"""Runs steps for asyncio tasks: the program's own loop polls the fault stream.

Each client and loop has one stream, opened at the first fault. Faults of one turn of the loop are sent together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from lib_usm.errors import ClosedError
from lib_usm.pager import Pager, Stream
from lib_usm.steps import Place, Steps
from lib_usm.waits import Wait

_T = TypeVar("_T")


class _Task:
    """The waiter behind one awaited call."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        """Resume the task."""
        if not self.future.done():
            self.future.set_result(None)


class AsyncioRunner:
    """The stream of one loop, opened by `open_pager`. Only `close` may be called outside of that loop."""

    def __init__(self, open_pager: Callable[[], tuple[Stream, Pager]], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stream, self._pager = open_pager()
        self._descriptor = self._stream.fileno()
        self._flushes = False
        self._writes = False
        loop.add_reader(self._descriptor, self._receive)

    @property
    def ended(self) -> bool:
        """True if the stream has ended; a new runner may then open another one."""
        return self._stream.end is not None

    async def run(self, make: Callable[[Place], Steps[_T]]) -> _T:
        """Run steps and return their result. Other tasks of the loop run while they wait."""
        task = _Task(self._loop)
        steps = make(Place(self._pager, task))
        try:
            while True:
                wait = next(steps)
                await self._wait(task, wait)
        except StopIteration as stop:
            result: _T = stop.value
            self._pager.warn()
            return result
        finally:
            steps.close()

    async def _wait(self, task: _Task, wait: Wait) -> None:
        if self._pager.unsent and not self._flushes:
            self._flushes = True
            self._loop.call_soon(self._flush)
        try:
            while wait.remaining:
                await task.future
                task.future = self._loop.create_future()
        finally:
            wait.waiter = None

    def _flush(self) -> None:
        self._flushes = False
        self._pager.flush()
        if self._pager.end is not None:
            self._receive()  # the stream ended during the send, so the descriptor will report nothing more
        else:
            self._watch()

    def _receive(self) -> None:
        self._pager.receive()
        if self._pager.end is not None:
            self._forget()
            return
        self._watch()

    def _watch(self) -> None:
        """Watch for room in the socket while bytes are unsent."""
        wants = self._stream.wants_to_send and self._stream.end is None
        if wants != self._writes:
            self._writes = wants
            if wants:
                self._loop.add_writer(self._descriptor, self._receive)
            else:
                self._loop.remove_writer(self._descriptor)

    def _forget(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._writes:
            self._writes = False
            self._loop.remove_writer(self._descriptor)

    def close(self) -> None:
        """End the stream; calls that wait raise ClosedError. Any thread may call this."""
        if self._loop.is_closed():
            self._stream.close()
        else:
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if self._stream.end is None:
            self._forget()
            self._stream.close(ClosedError("the client was closed"))
            self._pager.fail_all(ClosedError("the client was closed"))
