"""The session's own stream, with which the session ends. It reports why the session ended, and gives regions back.

Faults travel on other streams; see lib_usm.pager.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import grpc

from lib_usm.errors import ClosedError, ConnectionLost, UsmError, again, error_of_call
from usm_wire.pb.usm.v1 import client_pb2

StreamCall: TypeAlias = "grpc._CallIterator[client_pb2.StreamFaultsResponse]"

_MAX_REGIONS = 1 << 14
"""Most region numbers in one message."""


class _Requests:
    """The iterator of requests, which a thread of gRPC sends. Numbers put during a send travel in one message."""

    def __init__(self) -> None:
        # A finalizer may run during a `put` of the same thread, and call `put` itself: SimpleQueue allows that.
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._closed = False

    def give_back(self, region_id: int) -> None:
        """Send a request to unmap a region. A finalizer may call this: it takes no lock and never waits."""
        if not self._closed:
            self._queue.put(region_id)

    def close(self) -> None:
        """End the iteration after all earlier requests. A finalizer may call this."""
        self._queue.put(None)

    def __iter__(self) -> _Requests:
        return self

    def __next__(self) -> client_pb2.StreamFaultsRequest:
        region_ids: list[int] = []
        while not self._closed and not (region_ids and self._queue.empty()) and len(region_ids) < _MAX_REGIONS:
            region_id = self._queue.get()
            if region_id is None:
                self._closed = True
            else:
                region_ids.append(region_id)
        if not region_ids:
            raise StopIteration
        return client_pb2.StreamFaultsRequest(unmapped_region_ids=region_ids)


class SessionStream:
    """The stream, opened by `open_call` with the iterator of its requests."""

    def __init__(self, open_call: Callable[[Iterator[client_pb2.StreamFaultsRequest]], StreamCall]) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._end: UsmError | None = None
        self._requests = _Requests()
        # None once closed. A gRPC call that is alive when the interpreter ends may hang it: its `__del__` takes a lock
        # that a thread of gRPC may have held when it was stopped.
        self._call: StreamCall | None = open_call(self._requests)
        if not self._call.add_callback(self._ended):
            self._ended()

    @property
    def end(self) -> UsmError | None:
        """A new instance of the error that ended the stream, to be raised; None while it works."""
        return None if self._end is None else again(self._end)

    def why(self, timeout: float) -> UsmError | None:
        """The error with which the daemon ended the stream, after at most `timeout` seconds; None if there is none."""
        call = self._call
        if call is None or not self._over.wait(timeout) or call.code() is grpc.StatusCode.OK:
            return None
        return self.end

    def give_back(self, region_id: int) -> None:
        """Have the daemon unmap a region, without waiting. A finalizer may call this."""
        self._requests.give_back(region_id)

    def hang_up(self) -> None:
        """End the stream and the session, without waiting. A finalizer may call this."""
        self._requests.close()

    def close(self) -> None:
        """End the stream. May be called again."""
        self._stop(ClosedError("the client was closed"))
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _ended(self) -> None:
        """Record the end of the call; gRPC calls this."""
        call = self._call
        if call is not None and self._end is None:
            self._stop(_why_over(call))

    def _stop(self, error: UsmError) -> None:
        with self._lock:
            if self._end is None:
                self._end = error
        self._over.set()
        self._requests.close()


def _why_over(call: StreamCall) -> UsmError:
    if call.code() is grpc.StatusCode.OK:
        return ConnectionLost("the daemon ended the fault stream; the session and its regions are gone")
    return error_of_call(call)
