"""The queue between the threads that fault and the gRPC thread that sends: what piles up during a send goes together.

Knows nothing of outcomes, see lib_usm.faults.
"""

from __future__ import annotations

import queue

from lib_usm.pb.usm.v1 import client_pb2


class RequestQueue:
    """An iterator of requests, each merged from what was put meanwhile, up to `max_batch_faults` faults."""

    def __init__(self, max_batch_faults: int) -> None:
        self._max_batch_faults = max_batch_faults
        # SimpleQueue.put may be called where a finalizer runs: in the middle of another put of the same thread.
        self._queue: queue.SimpleQueue[client_pb2.StreamFaultsRequest | int | None] = queue.SimpleQueue()
        self._held: client_pb2.StreamFaultsRequest | int | None = None
        self._closed = False

    def put(self, request: client_pb2.StreamFaultsRequest) -> None:
        """Add a request of at most `max_batch_faults` faults, which the queue may extend."""
        self._queue.put(request)

    def give_back(self, region_id: int) -> None:
        """Have a region unmapped, without an answer. A finalizer may call this: it takes no lock, and never waits."""
        if not self._closed:
            self._queue.put(region_id)

    def close(self) -> None:
        """End the iteration after what was put before. A finalizer may call this."""
        self._queue.put(None)

    def __iter__(self) -> RequestQueue:
        return self

    def __next__(self) -> client_pb2.StreamFaultsRequest:
        first, self._held = self._held, None
        if first is None and not self._closed:
            first = self._queue.get()
        if first is None:
            self._closed = True
            raise StopIteration
        if isinstance(first, int):
            request = client_pb2.StreamFaultsRequest(unmapped_region_ids=[first])
        else:
            request = first
        while not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self._closed = True
                break
            if isinstance(more, int):
                request.unmapped_region_ids.append(more)
                continue
            if len(request.faults) + len(more.faults) > self._max_batch_faults:
                self._held = more
                break
            request.faults.extend(more.faults)
        return request
