"""The fault stream of a session: fault batches out, outcomes in, for any number of threads.

No thread reads the stream on behalf of the others, because each hop between threads costs tens of microseconds. The
thread that waits first reads (the leader), hands the others (the followers) their outcomes, and passes the role on
when it has its own. A wait with a timeout cannot read itself, for a read has no timeout; it borrows a thread.

What a fault means for a region's bytes is not known here, see lib_usm.transfer.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias, cast

import grpc

from lib_usm.calls import current_call
from lib_usm.errors import (
    ClosedError,
    ConnectionLost,
    InternalError,
    UnknownToken,
    UsmError,
    WaitTimeout,
    again,
    error_of_call,
    error_of_failure,
)
from lib_usm.limits import thread_limit
from lib_usm.outcomes import Allocated, Yielded
from lib_usm.page_table import PageTable
from lib_usm.pb.usm.v1 import client_pb2
from lib_usm.requests import RequestQueue

FaultCall: TypeAlias = "grpc._CallIterator[client_pb2.StreamFaultsResponse]"

# Yields that nobody waits for are forgotten, oldest first, beyond this many.
_MAX_TOKENS = 1 << 16


# Pages to fault in: the region's table and number, the first page and how many.
FaultRange: TypeAlias = tuple[PageTable, int, int, int]


Answer: TypeAlias = Allocated | Yielded | UsmError


class Batch:
    """Faults that one caller waits for together, numbered from `first_id` on. With `yields`, a yield is an answer.

    Lists instead of an object for each fault: this is the path that every touched page takes.
    """

    __slots__ = ("abandoned", "answers", "first_id", "ranges", "remaining", "token", "yields")

    def __init__(self, first_id: int, ranges: Sequence[FaultRange], yields: bool) -> None:
        self.first_id = first_id
        self.ranges = ranges
        self.yields = yields
        self.answers: list[Answer | None] = [None] * len(ranges)
        self.remaining = len(ranges)
        self.abandoned = False
        self.token: int | None = None
        """The yield that is waited for, where it is one."""

    def results(self) -> list[Answer]:
        """Answers in the order of the ranges, once there are no `remaining` ones."""
        return cast("list[Answer]", self.answers)


class FaultStream:
    """The stream, opened by `open_call` with the iterator of requests that it is to send."""

    def __init__(
        self, open_call: Callable[[Iterator[client_pb2.StreamFaultsRequest]], FaultCall], max_batch_faults: int
    ) -> None:
        self._max_batch_faults = max_batch_faults
        self._lock = threading.Lock()
        self._next_fault_id = 1
        self._in_flight: dict[int, Batch] = {}
        self._yielded: dict[int, Batch] = {}
        self._reading = False
        self._followers: dict[Batch, threading.Condition] = {}
        self._reader: threading.Thread | None = None
        self._end: UsmError | None = None
        self._over = False
        self._queue = RequestQueue(max_batch_faults)
        # None once closed: a gRPC call that lives until the interpreter ends may hang it. Its `__del__` takes a lock
        # that a thread of gRPC may have held when the interpreter ended that thread.
        self._call: FaultCall | None = open_call(self._queue)
        if not self._call.add_callback(self._ended):
            self._ended()

    @property
    def end(self) -> UsmError | None:
        """Why the stream ended, or None while it works; a fresh error, to be raised."""
        return None if self._end is None else again(self._end)

    def file(self, ranges: Sequence[FaultRange], write: bool, yields: bool = False) -> Batch:
        """Send a fault for each range. Raises what ended the stream, and ClosedError when the interpreter ends."""
        if sys.is_finalizing():
            raise ClosedError("the interpreter ends, and the threads that bring pages in have ended before")
        with self._lock:
            if self._end is not None:
                raise again(self._end)
            first_id = self._next_fault_id
            self._next_fault_id += len(ranges)
            batch = Batch(first_id, ranges, yields)
            self._in_flight.update(dict.fromkeys(range(first_id, self._next_fault_id), batch))
        for start in range(0, len(ranges), self._max_batch_faults):
            message = client_pb2.StreamFaultsRequest()
            add = message.faults.add
            part = ranges[start : start + self._max_batch_faults]
            for fault_id, (_, region_id, first_page, page_count) in enumerate(part, first_id + start):
                fault = add()  # setting fields one by one takes two thirds of the time of keywords
                fault.fault_id = fault_id
                fault.region_id = region_id
                fault.first_page = first_page
                fault.page_count = page_count
                if write:
                    fault.write = True
            self._queue.put(message)
        return batch

    def wait(self, batch: Batch, timeout: float | None = None) -> bool:
        """Wait until each fault of `batch` is answered; False after `timeout` seconds. Raises what ended the stream.

        An interrupt must not come here, for gRPC cannot take a read up again: see lib_usm.calls, which the main thread
        goes through.
        """
        call = current_call()
        if call is None:
            return self._wait(batch, timeout)
        call.park(functools.partial(self.abandon, batch))
        try:
            return self._wait(batch, timeout)
        finally:
            call.unpark()

    def abandon(self, batch: Batch) -> None:
        """End the wait for `batch` of a call that was interrupted; a yield may be waited for again."""
        with self._lock:
            batch.abandoned = True
            token, batch.token = batch.token, None
            if token is not None and batch.remaining:
                again = Batch(batch.first_id, batch.ranges, False)
                self._in_flight[batch.first_id] = self._yielded[token] = again
            elif token is not None:
                self._yielded[token] = batch
            if batch in self._followers:
                self._followers[batch].notify()

    def put_back(self, token: int, batch: Batch) -> None:
        """Have the completion of a yield, which `take` gave, be there for another wait."""
        with self._lock:
            self._yielded[token] = batch

    def _wait(self, batch: Batch, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if batch.abandoned and batch.remaining:
                return False
            try:
                while batch.remaining:
                    if self._end is not None:
                        raise again(self._end)
                    if not self._reading:
                        self._reading = True
                        if deadline is None:
                            break
                        self._borrow_reader(batch)
                    if (not self._follow(batch, deadline) or batch.abandoned) and batch.remaining:
                        batch.abandoned = True
                        return False
                else:
                    return True
            finally:
                if not self._reading:
                    self._promote()
        self._read_for(batch)
        if batch.remaining and self._end is not None:
            raise again(self._end)
        return True

    def take(self, token: int, timeout: float | None) -> Batch:
        """Wait for the completion of a yielded fault, forget the token, and return the batch that has the answer.

        Raises UnknownToken, WaitTimeout (the token is then kept), or what ended the stream.
        """
        with self._lock:
            batch = self._yielded.pop(token, None)
            if batch is None:
                if self._end is not None:
                    raise again(self._end)
                raise UnknownToken(f"no yielded fault of this client has token {token}, or it was waited for already")
            batch.abandoned = False
            batch.token = token
        done = False
        try:
            done = self.wait(batch, timeout)
        finally:
            with self._lock:
                if not done and batch.token is not None:  # else it was abandoned, and is there again already
                    self._yielded[token] = batch
                batch.token = None
        if not done:
            raise WaitTimeout(f"the fault of token {token} was not completed within {timeout} s; wait for it again")
        return batch

    def give_back(self, region_id: int) -> None:
        """Have the daemon unmap a region, without waiting; a finalizer may call this."""
        self._queue.give_back(region_id)

    def hang_up(self) -> None:
        """End the stream, and the session with it, without waiting; a finalizer may call this."""
        self._queue.close()

    def close(self, error: UsmError | None = None) -> None:
        """End the stream; whoever waits gets `error`, which is ClosedError unless given. May be called again."""
        self._stop(error or ClosedError("the client was closed"))
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        reader = self._reader
        if reader is not None and reader is not threading.current_thread():
            reader.join()

    def _follow(self, batch: Batch, deadline: float | None) -> bool:
        condition = self._followers[batch] = threading.Condition(self._lock)
        try:
            return condition.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            del self._followers[batch]

    def _promote(self) -> None:
        """Wake one follower that still waits, so that it reads."""
        for batch, condition in self._followers.items():
            if batch.remaining:
                condition.notify()
                return

    def _borrow_reader(self, batch: Batch) -> None:
        self._reader = threading.Thread(target=self._read_for, args=(batch,), name="lib_usm-reader", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:
            self._reader = None
            self._reading = False
            raise thread_limit(error, "a wait with a timeout cannot begin") from None

    def _read_for(self, batch: Batch) -> None:
        """Read, as the leader, until `batch` is answered or given up, or the stream ends."""
        call = self._call
        if call is None:
            return  # closed just now, which is noted as the end
        try:
            while True:
                response = next(call)
                with self._lock:
                    self._dispatch(response.outcomes)
                    if not batch.remaining or batch.abandoned:
                        self._reading = False
                        self._promote()
                        break
            if self._over:
                self._stop(_why_over(call))
        except (StopIteration, grpc.RpcError):
            self._stop(_why_over(call))
        except BaseException as error:
            self._stop(ConnectionLost(f"reading the fault stream was interrupted by {type(error).__name__}"))
            call.cancel()
            raise

    def _dispatch(self, outcomes: Iterable[client_pb2.Outcome]) -> None:
        # Once for every fault: what a page costs here, the application pays.
        for outcome in outcomes:
            fault_id = outcome.fault_id
            batch = self._in_flight.pop(fault_id, None)
            if batch is None:
                continue  # an answer to nothing that was asked changes nothing
            index = fault_id - batch.first_id
            answer: Answer
            if outcome.HasField("allocated"):
                message = outcome.allocated
                table, _, first_page, page_count = batch.ranges[index]
                table.mark(first_page, page_count)
                runs = message.runs
                # One run of that length is the fault's own range: most often nothing came along.
                if len(runs) != 1 or runs[0].page_count != page_count:
                    for run in runs:
                        table.mark(run.first_page, run.page_count)
                answer = Allocated(message)
            elif outcome.HasField("yielded"):
                token = outcome.yielded.yield_token
                if not batch.yields:
                    self._in_flight[fault_id] = batch
                    continue
                self._in_flight[fault_id] = self._remember(
                    token, Batch(fault_id, batch.ranges[index : index + 1], False)
                )
                answer = Yielded(token)
            elif outcome.HasField("failure"):
                answer = error_of_failure(outcome.failure)
            else:
                answer = InternalError("a fault was answered without an outcome; use a lib_usm of usmd's version")
            batch.answers[index] = answer
            batch.remaining -= 1
            if not batch.remaining and batch in self._followers:
                self._followers[batch].notify()

    def _remember(self, token: int, batch: Batch) -> Batch:
        """Keep `batch`, which the completion of the yield will answer, for `take`."""
        self._yielded[token] = batch
        while len(self._yielded) > _MAX_TOKENS:
            del self._yielded[next(iter(self._yielded))]
        return batch

    def _ended(self) -> None:
        """Note the end of the call; gRPC calls this. A leader learns it by reading; without one it is noted here."""
        self._queue.close()
        with self._lock:
            self._over = True
            call = self._call
            if call is None or self._reading or self._end is not None:
                return
        self._stop(_why_over(call))

    def _stop(self, error: UsmError) -> None:
        with self._lock:
            self._reading = False
            if self._end is None:
                self._end = error
            for condition in self._followers.values():
                condition.notify()
        self._queue.close()


def _why_over(call: FaultCall) -> UsmError:
    if call.code() is grpc.StatusCode.OK:
        return ConnectionLost("the daemon ended the fault stream; the session and its regions are gone")
    return error_of_call(call)


def allocated(answer: Answer) -> Allocated:
    """Answer of a fault that was waited for through its yields; raised when it is an error."""
    if isinstance(answer, Allocated):
        return answer
    if isinstance(answer, UsmError):
        raise again(answer)
    raise InternalError(f"{answer} is no answer to a fault that waits")
