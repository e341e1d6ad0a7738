"""Faults, loads and stores of many uThreads on one stream: gathered into batches, and their answers handed round.

For one thread. It waits for nothing: whoever polls the stream calls `receive`, and each `Wait` wakes its waiter.
Faults on a page that another uThread waits for already join that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from google.protobuf.message import DecodeError

from lib_usm.errors import InternalError, UsmError, again, error_of_failure
from lib_usm.pb.usm.v1 import client_pb2

if TYPE_CHECKING:
    from lib_usm.page_table import PageTable

_MAX_STORED_BYTES: Final = 1 << 19
"""Bytes to store in one message, beyond which it is sent."""
_MAX_ACCESSES: Final = 1024


class Stream(Protocol):
    """What the pager needs of lib_usm.message_stream.MessageStream."""

    end: UsmError | None

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon takes more."""

    def receive(self) -> list[bytes]:
        """The messages that have come; does not wait."""

    def close(self, error: UsmError | None = None) -> None:
        """End with this error, or ClosedError."""


class Waiter(Protocol):
    """A uThread, or whatever else goes on when its wait is over."""

    def wake(self) -> None:
        """Go on."""


class Wait:
    """What a waiter waits for: requests still unanswered, and what came of those that were."""

    __slots__ = ("answer", "error", "remaining", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter: Waiter | None = waiter
        """None: nobody waits any more, and answers are forgotten."""
        self.remaining = 0
        self.error: UsmError | None = None
        """The first one."""
        self.answer: client_pb2.AccessOutcome | None = None

    def answered(self, error: UsmError | None) -> None:
        """One of the requests was."""
        if error is not None and self.error is None:
            self.error = error
        self.remaining -= 1
        if not self.remaining and self.waiter is not None:
            self.waiter.wake()


class _Fault:
    """A fault in flight, and who waits for it."""

    __slots__ = ("first_page", "key", "page_count", "table", "waits")

    def __init__(self, table: PageTable | None, key: tuple[int, int], page_count: int, wait: Wait) -> None:
        self.table = table
        self.key = key
        self.page_count = page_count
        self.waits = [wait]


class Pager:
    """Requests of one thread on `stream`, at most `max_batch_faults` a message."""

    def __init__(self, stream: Stream, max_batch_faults: int) -> None:
        self._stream = stream
        self._max_batch = max_batch_faults
        self._next_id = 1
        self._faults: dict[int, _Fault] = {}
        self._by_page: dict[tuple[int, int], _Fault] = {}
        self._accesses: dict[int, Wait] = {}
        self._message = client_pb2.StreamFaultsRequest()
        self._stored_bytes = 0
        self.in_flight = 0
        """Requests without an answer."""
        self.unsent = 0
        """Requests that wait for `flush`."""
        self.faults = 0
        """Faults sent."""
        self.joined = 0
        """Faults that joined one in flight."""
        self.batches = 0
        """Messages sent."""
        self.yields = 0
        """Faults that the daemon answered USM_YIELD."""

    @property
    def end(self) -> UsmError | None:
        """Why the stream ended; None while it works."""
        return self._stream.end

    def fault(
        self, table: PageTable | None, region_id: int, first_page: int, page_count: int, wait: Wait, *, write: bool
    ) -> None:
        """File a fault, which `table` hears of too; at most the session's `max_fault_pages` pages."""
        wait.remaining += 1
        if self._stream.end is not None:
            wait.answered(again(self._stream.end))
            return
        key = (region_id, first_page)
        if page_count == 1:
            known = self._by_page.get(key)
            if known is not None:
                known.waits.append(wait)
                self.joined += 1
                return
        filed = _Fault(table, key, page_count, wait)
        if page_count == 1:
            self._by_page[key] = filed
        self._faults[self._next_id] = filed
        message = self._message.faults.add()
        message.fault_id = self._next_id
        message.region_id = region_id
        message.first_page = first_page
        message.page_count = page_count
        if write:
            message.write = True
        self._filed()
        self.faults += 1

    def load(self, region_id: int, offset: int, length: int, wait: Wait) -> None:
        """File a load; `wait.answer` will hold what came."""
        access = self._access(wait)
        if access is not None:
            access.load.region_id = region_id
            access.load.offset = offset
            access.load.length = length
            self._filed()

    def store(self, region_id: int, offset: int, data: bytes, wait: Wait) -> None:
        """File a store; `wait.answer` will hold what came."""
        access = self._access(wait)
        if access is not None:
            access.store.region_id = region_id
            access.store.offset = offset
            access.store.data = data
            self._stored_bytes += len(data)
            self._filed()

    def _access(self, wait: Wait) -> client_pb2.Access | None:
        wait.remaining += 1
        if self._stream.end is not None:
            wait.answered(again(self._stream.end))
            return None
        self._accesses[self._next_id] = wait
        access = self._message.accesses.add()
        access.access_id = self._next_id
        return access

    def _filed(self) -> None:
        self._next_id += 1
        self.in_flight += 1
        self.unsent += 1
        if self.unsent >= min(self._max_batch, _MAX_ACCESSES) or self._stored_bytes >= _MAX_STORED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was filed, as one message."""
        if self.unsent:
            self._stream.send(self._message.SerializeToString())
            self._message = client_pb2.StreamFaultsRequest()
            self._stored_bytes = 0
            self.unsent = 0
            self.batches += 1

    def receive(self) -> None:
        """Hand round what has come; when the stream has ended all waits end with its error."""
        for message in self._stream.receive():
            try:
                response = client_pb2.StreamFaultsResponse.FromString(message)
            except DecodeError:
                self._stream.close(InternalError("the daemon's answer on the fault stream is none"))
                break
            for outcome in response.outcomes:
                self._outcome(outcome)
            for accessed in response.accessed:
                self._accessed(accessed)
        if self._stream.end is not None:
            self.fail_all(self._stream.end)

    def fail_all(self, error: UsmError) -> None:
        """Nothing will be answered any more."""
        faults, self._faults, self._by_page = self._faults, {}, {}
        accesses, self._accesses = self._accesses, {}
        self._message = client_pb2.StreamFaultsRequest()
        self.in_flight = self.unsent = self._stored_bytes = 0
        for fault in faults.values():
            _tell(fault.waits, error)
        _tell(list(accesses.values()), error)

    def _outcome(self, outcome: client_pb2.Outcome) -> None:
        if outcome.HasField("yielded"):
            self.yields += 1
            return
        fault = self._faults.pop(outcome.fault_id, None)
        if fault is None:
            return  # an answer to nothing that was asked changes nothing
        self.in_flight -= 1
        if fault.page_count == 1:
            del self._by_page[fault.key]
        error: UsmError | None = None
        if outcome.HasField("allocated"):
            if fault.table is not None:
                fault.table.mark(fault.key[1], fault.page_count)
                for run in outcome.allocated.runs:
                    fault.table.mark(run.first_page, run.page_count)
        elif outcome.HasField("failure"):
            error = error_of_failure(outcome.failure)
        else:
            error = InternalError("a fault was answered without an outcome; use a lib_usm of usmd's version")
        _tell(fault.waits, error)

    def _accessed(self, accessed: client_pb2.AccessOutcome) -> None:
        wait = self._accesses.pop(accessed.access_id, None)
        if wait is None:
            return
        self.in_flight -= 1
        wait.answer = accessed
        failed = accessed.WhichOneof("outcome") in (None, "failure")
        wait.answered(error_of_failure(accessed.failure) if failed else None)


def _tell(waits: Sequence[Wait], error: UsmError | None) -> None:
    for wait in waits:
        wait.answered(None if error is None else again(error))
