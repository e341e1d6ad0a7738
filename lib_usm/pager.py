"""Faults, loads and stores of many waiters on one stream: gathers them into messages, and distributes the answers.

Only one thread at a time may use a pager. It never waits: the runner that polls the stream calls `receive`, and each
`Wait` wakes its waiter. A fault on a page whose fault is in flight joins that fault.
"""

from __future__ import annotations

from typing import Final, Protocol

from google.protobuf.message import DecodeError

from lib_usm.errors import InternalError, UnknownToken, UsmError, again
from lib_usm.outcomes import Allocated, Answer, Yielded, decoded
from lib_usm.page_table import PageTable
from lib_usm.user_warnings import warn_over_budget
from lib_usm.waits import Fault, FaultsWait, TokenWait, Wait
from usm_wire.pb.usm.v1 import client_pb2

_MAX_STORED_BYTES: Final = 1 << 19
"""A message with this many bytes to store is sent at once."""
_MAX_ACCESSES: Final = 1024
_LEAST_PACKED: Final = 16
"""So many faults on single pages of a region are sent as a PageBatch; for fewer it gains little."""
_MAX_TOKENS: Final = 1 << 16
"""Most yields without a waiter that are kept; beyond that the oldest is forgotten."""


class Stream(Protocol):
    """Messages each way: a lib_usm.polled_stream.PolledStream."""

    end: UsmError | None
    """Why the stream ended; None before."""

    def fileno(self) -> int:
        """The descriptor to poll for reading; -1 once it is closed."""

    @property
    def wants_to_send(self) -> bool:
        """True if the descriptor is to be polled for writing too; then call `receive`."""

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon has room."""

    def receive(self) -> list[bytes]:
        """Return the messages that have arrived, without waiting."""

    def close(self, error: UsmError | None = None) -> None:
        """End the call with `error` (None: ClosedError)."""


class Pager:
    """The requests on `stream`, at most `max_batch_faults` in a message."""

    def __init__(self, stream: Stream, max_batch_faults: int) -> None:
        self._stream = stream
        self._most = min(max_batch_faults, _MAX_ACCESSES)
        """Most requests in a message."""
        self._next_id = 1
        self._faults: dict[int, Fault] = {}
        self._explicit: dict[int, FaultsWait] = {}
        self._by_page: dict[tuple[int, int], Fault] = {}
        self._accesses: dict[int, Wait] = {}
        self._yielded: dict[int, Fault] = {}
        """Yielded faults by token."""
        self._message = client_pb2.StreamFaultsRequest()
        self._stored_bytes = self._over_budget = 0
        self.former_end: UsmError | None = None
        """Why the previous stream ended; its yielded faults are lost."""
        self.in_flight = 0
        """Requests without an answer."""
        self.unsent = 0
        """Requests that wait for `flush`."""
        self.faults_sent = 0
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
        """File a fault; see lib_usm.waits."""
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
        filed = Fault(table, key, page_count)
        filed.waits.append(wait)
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
        self.faults_sent += 1
        self._filed()

    def faults(self, wait: FaultsWait, *, write: bool) -> None:
        """File a fault on each range of `wait`."""
        count = len(wait.ranges)
        wait.remaining += count
        if self._stream.end is not None:
            wait.remaining -= count - 1
            wait.answered(again(self._stream.end))
            return
        first_id = wait.first_id = self._next_id
        self._next_id += count
        self._explicit.update(dict.fromkeys(range(first_id, self._next_id), wait))
        self.in_flight += count
        self.faults_sent += count
        if count >= _LEAST_PACKED:
            region_id = wait.ranges[0][1]
            pages = [first_page for _, region, first_page, pages in wait.ranges if pages == 1 and region == region_id]
            if len(pages) == count:
                self._file_pages(first_id, region_id, pages, write=write)
                return
        add = self._message.faults.add
        for fault_id, (_, region_id, first_page, page_count) in enumerate(wait.ranges, first_id):
            message = add()  # setting the fields takes two thirds of the time of keyword arguments
            message.fault_id = fault_id
            message.region_id = region_id
            message.first_page = first_page
            message.page_count = page_count
            if write:
                message.write = True
            self.unsent += 1
            if self.unsent >= self._most:
                self.flush()
                add = self._message.faults.add

    def _file_pages(self, first_id: int, region_id: int, pages: list[int], *, write: bool) -> None:
        """File faults on single pages of a region, as batches of the messages that have room for them."""
        done = 0
        while done < len(pages):
            part = pages[done : done + self._most - self.unsent]
            self._message.page_batches.add(
                first_fault_id=first_id + done, region_id=region_id, pages=part, write=write
            )  # fmt: skip
            done += len(part)
            self.unsent += len(part)
            if self.unsent >= self._most:
                self.flush()

    def load(self, region_id: int, offset: int, length: int, wait: Wait) -> None:
        """File a load; its outcome will be in `wait.answer`."""
        access = self._access(wait)
        if access is not None:
            access.load.region_id = region_id
            access.load.offset = offset
            access.load.length = length
            self._filed()

    def store(self, region_id: int, offset: int, data: bytes, wait: Wait) -> None:
        """File a store; its outcome will be in `wait.answer`."""
        access = self._access(wait)
        if access is not None:
            access.store.region_id = region_id
            access.store.offset = offset
            access.store.data = data
            self._stored_bytes += len(data)
            self._filed()

    def take(self, wait: TokenWait) -> None:
        """Have `wait` receive the completion of the yield that its token names."""
        wait.remaining += 1
        fault = self._yielded.get(wait.token)
        if fault is None or fault.waits:
            text = f"no yielded fault of this client has token {wait.token}, or it was waited for already"
            end = self._stream.end or self.former_end
            wait.answered(UnknownToken(text) if end is None else again(end))
            return
        wait.fault = fault
        if fault.answer is None:
            fault.waits.append(wait)
        else:
            del self._yielded[wait.token]
            wait.took(fault.answer)

    def leave(self, wait: Wait) -> None:
        """Detach the waiter from a wait. If the wait was for a yield, that may be waited for again."""
        wait.waiter = None
        if isinstance(wait, TokenWait) and wait.fault is not None:
            fault, wait.fault = wait.fault, None
            if wait.remaining:
                fault.waits.clear()
            elif wait.error is None:
                fault.answer = wait.completion
                self._yielded[wait.token] = fault

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
        if self.unsent >= self._most or self._stored_bytes >= _MAX_STORED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the filed requests as one message."""
        if self.unsent:
            self._stream.send(self._message.SerializeToString())
            self._message = client_pb2.StreamFaultsRequest()
            self._stored_bytes = 0
            self.unsent = 0
            self.batches += 1

    def receive(self) -> None:
        """Receive answers and wake their waiters. If the stream has ended, all waits end with its error."""
        for message in self._stream.receive():
            try:
                response = client_pb2.StreamFaultsResponse.FromString(message)
            except DecodeError:
                self._stream.close(InternalError("the daemon's answer on the fault stream cannot be decoded"))
                break
            if response.over_budget_pages:
                self._over_budget = response.over_budget_pages
            for outcome in response.outcomes:
                self._outcome(outcome)
            for allocated in response.allocated_pages:
                self._pages_allocated(allocated.first_fault_id, list(allocated.frames))
            for accessed in response.accessed:
                self._accessed(accessed)
        if self._stream.end is not None:
            self.fail_all(self._stream.end)

    def warn(self) -> None:
        """Warn the application if the daemon has reported pages that EVICTION=DENY cannot keep."""
        if self._over_budget:
            pages, self._over_budget = self._over_budget, 0
            warn_over_budget(pages)

    def fail_all(self, error: UsmError) -> None:
        """End all waits with `error`."""
        faults, self._faults, self._by_page = self._faults, {}, {}
        accesses, self._accesses = self._accesses, {}
        explicit, self._explicit = self._explicit, {}
        self._message = client_pb2.StreamFaultsRequest()
        self.in_flight = self.unsent = self._stored_bytes = 0
        for fault in faults.values():
            for wait in fault.waits:
                wait.answered(again(error))
            fault.answer = again(error)
            fault.waits.clear()
        for wait in (*explicit.values(), *accesses.values()):
            wait.answered(again(error))

    def _outcome(self, outcome: client_pb2.Outcome) -> None:
        # This runs for every fault, so its time is part of the cost of each page.
        fault_id = outcome.fault_id
        answer = decoded(outcome)
        wait = self._explicit.pop(fault_id, None)
        if wait is None:
            self._joined_outcome(fault_id, answer, outcome)
            return
        index = fault_id - wait.first_id
        table, region_id, first_page, page_count = wait.ranges[index]
        if isinstance(answer, Allocated):
            _mark(table, first_page, page_count, outcome.allocated)
        elif isinstance(answer, Yielded):
            self.yields += 1
            if not wait.yields:
                self._explicit[fault_id] = wait
                return
            self.in_flight += 1
            self._remember(fault_id, Fault(table, (region_id, first_page), page_count, answer.token))
        self.in_flight -= 1
        wait.took(answer, index)

    def _pages_allocated(self, first_id: int, frames: list[int]) -> None:
        """Outcomes of faults that follow each other in one wait, each on a single page of one region."""
        count, explicit = len(frames), self._explicit
        wait = explicit.get(first_id)
        if wait is None:
            return  # no request has this id
        for fault_id in range(first_id, first_id + count):
            explicit.pop(fault_id, None)
        index = first_id - wait.first_id
        ranges = wait.ranges[index : index + count]
        pages = [first_page for _, _, first_page, _ in ranges]
        ranges[0][0].mark_all(pages)
        self.in_flight -= count
        wait.took_all(list(map(Allocated, zip(pages, frames, strict=True))), index)

    def _joined_outcome(self, fault_id: int, answer: Answer, outcome: client_pb2.Outcome) -> None:
        """The outcome of a fault that several waits may have joined, or that has yielded to an explicit wait."""
        if isinstance(answer, Yielded):
            self.yields += 1
            return
        fault = self._faults.pop(fault_id, None)
        if fault is None:
            return  # no request has this id
        self.in_flight -= 1
        if self._by_page.get(fault.key) is fault:
            del self._by_page[fault.key]
        if isinstance(answer, Allocated) and fault.table is not None:
            _mark(fault.table, fault.key[1], fault.page_count, outcome.allocated)
        if fault.token and not fault.waits:
            fault.answer = answer
            return
        self._yielded.pop(fault.token, None)
        waits, fault.waits = fault.waits, []
        for each in waits:
            each.took(again(answer) if isinstance(answer, UsmError) else answer)

    def _remember(self, fault_id: int, fault: Fault) -> None:
        """Keep a yielded fault for a later `take`."""
        self._faults[fault_id] = self._yielded[fault.token] = fault
        while len(self._yielded) > _MAX_TOKENS:
            del self._yielded[next(iter(self._yielded))]

    def _accessed(self, accessed: client_pb2.AccessOutcome) -> None:
        wait = self._accesses.pop(accessed.access_id, None)
        if wait is None:
            return
        self.in_flight -= 1
        wait.accessed(accessed)


def _mark(table: PageTable, first_page: int, page_count: int, allocated: client_pb2.Allocated) -> None:
    """Mark the pages of a fault, and those that were brought in with it, resident."""
    table.mark(first_page, page_count)
    runs = allocated.runs
    # One run of that length is the fault's own range, as in most answers.
    if len(runs) != 1 or runs[0].page_count != page_count:
        for run in runs:
            table.mark(run.first_page, run.page_count)
