"""Calls of gRPC on threads of their own, so that an interrupt never meets the main thread in the middle of gRPC.

Python runs signal handlers in the main thread, between any two of its steps. A KeyboardInterrupt that is raised within
gRPC leaves a call half begun, and another thread of gRPC then prints a traceback. So the main thread only waits, for a
lock or a queue written in C, where an interrupt does no harm.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")
_LOOK_SECONDS: Final = 0.2
"""A signal that comes just before a wait is handled after so long at most."""
AHEAD: Final = 64
"""Messages taken from a stream before the main thread asks for them."""
_END_SECONDS: Final = 1.0


def call(function: Callable[[], _T]) -> _T:
    """Return what `function` returns, or raise what it raises; it runs on another thread if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return function()
    over = threading.Lock()
    over.acquire()
    results: list[_T] = []
    errors: list[BaseException] = []

    def make() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised where the call was made
            errors.append(error)
        finally:
            over.release()

    threading.Thread(target=make, name="usmctl-call", daemon=True).start()
    while not over.acquire(timeout=_LOOK_SECONDS):
        pass
    if errors:
        raise errors[0]
    return results[0]


class Messages(Generic[_T]):
    """The items of `source`, which a thread takes, at most AHEAD before they are asked for."""

    def __init__(self, source: Iterable[_T]) -> None:
        self._came: queue.SimpleQueue[_T | BaseException | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(True)
        self._thread = threading.Thread(target=self._take, args=(source,), name="usmctl-stream", daemon=True)
        self._thread.start()

    def _take(self, source: Iterable[_T]) -> None:
        end: BaseException | None = None
        try:
            for item in source:
                if not self._room.get():
                    return
                self._came.put(item)
        except BaseException as error:  # noqa: BLE001 - raised where the items are taken
            end = error
        self._came.put(end)

    def __iter__(self) -> Iterator[_T]:
        """The items in their order. Raises what taking them raised."""
        while True:
            try:
                item = self._came.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            self._room.put(True)
            yield item

    def close(self) -> None:
        """Take no more; the caller has ended the source. Waits a moment for the thread."""
        self._room.put(False)
        self._thread.join(_END_SECONDS)
