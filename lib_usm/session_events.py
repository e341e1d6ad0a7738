"""What the daemon tells of a session as a whole: that it is to end, and when the pressure on it passes a threshold.

It is heard on a stream for that alone, by a thread.

The thread begins with the first callback, and ends with the session. While it waits it holds no lock, so that the
interpreter can end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import select
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from lib_usm.errors import InternalError
from lib_usm.limits import limit_reached, thread_limit
from lib_usm.pager import Stream
from lib_usm.pressure import Pressure, Thresholds
from lib_usm.uthread import running
from usm_wire.pb.usm.v1 import client_pb2

_Told = TypeVar("_Told")
Callback: TypeAlias = Callable[[_Told], object]
THREAD_NAME = "usm-events"
_JOIN_SECONDS = 1.0


def at_home(callback: Callback[_Told]) -> Callback[_Told]:
    """A function for any thread that has `callback` called where the caller of this is at home.

    In asyncio that is its loop; in a uThread, another uThread of the same LocalManager while that runs; else the thread
    that calls.
    """
    kthread = running.kthread
    if kthread is not None:
        return lambda told: kthread.manager.spawn(callback, told) if kthread.runs else callback(told)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return callback
    context = contextvars.copy_context()

    def call(told: _Told) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(partial(callback, told), context=context)

    return call


class SessionEvents:
    """The events of one session. `open_stream` opens a stream of it, and what is not needed here."""

    def __init__(self, open_stream: Callable[[], tuple[Stream, object]]) -> None:
        self._open_stream = open_stream
        self._lock = threading.Lock()
        self._callbacks: list[Callback[float]] = []
        self._thresholds = Thresholds()
        self._unsent: list[float] = []
        """Thresholds that the daemon is still to be asked for."""
        self._due: list[Callable[[], object]] = []
        """Calls to be made for thresholds that were passed."""
        self._ends_at: float | None = None
        """When the session ends, by the monotonic clock; None: that was not told."""
        self._wakeup = -1
        self._thread: threading.Thread | None = None
        self._closed = False

    def __del__(self) -> None:
        if self._wakeup >= 0:
            os.close(self._wakeup)

    def on_draining(self, callback: Callback[float]) -> None:
        """Call `callback` once, on the thread, when the daemon is about to drain, or at once if it is already.

        Raises what opening a stream raises, and LimitExceeded if there is no thread for it.
        """
        with self._lock:
            if self._thread is None:
                self._begin(self._open_stream()[0])
            self._callbacks.append(callback)
            os.eventfd_write(self._wakeup, 1)

    def on_pressure(self, callback: Callback[Pressure], threshold: float) -> None:
        """Call `callback` on the thread whenever the pressure on the session has passed a threshold.

        Raises what `on_draining` raises, and LimitExceeded for one threshold too many.
        """
        with self._lock:
            new = self._thresholds.is_new(threshold)
            if self._thread is None:
                self._begin(self._open_stream()[0])
            if new:
                self._unsent.append(threshold)
            self._due += self._thresholds.add(threshold, callback)
            os.eventfd_write(self._wakeup, 1)

    def _begin(self, stream: Stream) -> None:
        doing = "events of the session cannot be heard"
        stream.send(client_pb2.StreamFaultsRequest(hear_session=True).SerializeToString())
        thread = threading.Thread(target=self._run, args=(stream,), name=THREAD_NAME, daemon=True)
        try:
            if self._wakeup < 0:
                self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            thread.start()
        except (OSError, RuntimeError) as error:
            stream.close()
            limit = limit_reached(error, doing) if isinstance(error, OSError) else thread_limit(error, doing)
            raise limit or error from None
        self._thread = thread
        self._unsent = [*self._thresholds]

    def close(self) -> None:
        """End the thread. May be called again, and by a callback."""
        self._closed = True
        with self._lock:
            thread = self._thread
        if thread is not None:
            os.eventfd_write(self._wakeup, 1)
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def _run(self, stream: Stream) -> None:
        while not self._closed and stream.end is None:
            poll = select.poll()
            poll.register(self._wakeup, select.POLLIN)
            poll.register(stream.fileno(), select.POLLIN | (select.POLLOUT if stream.wants_to_send else 0))
            poll.poll()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
            self._send(stream)
            self._receive(stream)
            self._call()
        stream.close()
        with self._lock:
            self._thread = None

    def _send(self, stream: Stream) -> None:
        with self._lock:
            thresholds, self._unsent = self._unsent, []
        if thresholds:
            stream.send(client_pb2.StreamFaultsRequest(pressure_thresholds=thresholds).SerializeToString())

    def _receive(self, stream: Stream) -> None:
        for message in stream.receive():
            try:
                response = client_pb2.StreamFaultsResponse.FromString(message)
            except DecodeError:
                stream.close(InternalError("what the daemon tells of the session cannot be decoded"))
                return
            if response.HasField("draining"):
                self._ends_at = time.monotonic() + response.draining.seconds_left
            with self._lock:
                for notice in response.pressure:
                    self._due += self._thresholds.told(notice)

    def _call(self) -> None:
        with self._lock:
            calls, self._due = self._due, []
            if self._ends_at is not None:
                left = max(self._ends_at - time.monotonic(), 0.0)
                calls += [partial(callback, left) for callback in self._callbacks]
                self._callbacks = []
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - reported as that of any thread
                threading.excepthook(
                    threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
                )
