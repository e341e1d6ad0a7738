"""Moves bytes between an application and a region, as an MMU would: fault what is absent, move, go on where it stopped.

Ranges are checked by the region before they come here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lib_usm.channel import SessionChannel
from lib_usm.errors import InternalError, OutOfMemory, Thrashing
from lib_usm.faults import FaultRange, FaultStream, allocated
from lib_usm.page_table import PageTable
from lib_usm.pb.usm.v1 import client_pb2

# A page that is gone this often between its fault and its use will not stay; an error is better than a hang.
_MAX_FRUITLESS_ROUNDS = 1000


class Limits(NamedTuple):
    """What the daemon said at attach: bytes a page, bytes a Load or Store, pages a fault."""

    page_size: int
    max_transfer_bytes: int
    max_fault_pages: int


class Moved(NamedTuple):
    """One Load or Store: bytes moved, and the absent pages that it met."""

    byte_count: int
    absent_pages: Sequence[int]


class Transfer:
    """Loads and stores of one session, for several threads."""

    def __init__(self, channel: SessionChannel, faults: FaultStream, limits: Limits) -> None:
        self._channel = channel
        self._faults = faults
        self._limits = limits
        # Pages faulted ahead of the position. It shrinks when memory cannot hold so many at a time, and grows again.
        self._max_window = limits.max_transfer_bytes // limits.page_size + 2
        self._window = self._max_window

    def load(self, region_id: int, table: PageTable, offset: int, length: int) -> bytes:
        """Return the `length` bytes from `offset` on."""
        pieces: list[bytes] = []

        def move(start: int, stop: int) -> Moved:
            request = client_pb2.LoadRequest(region_id=region_id, offset=start, length=stop - start)
            answer = self._channel.call(self._channel.stub.Load, request)
            pieces.append(answer.data)
            return Moved(len(answer.data), answer.absent_pages)

        self._move_all(region_id, table, offset, offset + length, move, write=False)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def store(self, region_id: int, table: PageTable, offset: int, data: memoryview) -> None:
        """Store `data` from `offset` on. When it raises, a part from the start of `data` may have been stored."""

        def move(start: int, stop: int) -> Moved:
            piece = bytes(data[start - offset : stop - offset])
            request = client_pb2.StoreRequest(region_id=region_id, offset=start, data=piece)
            answer = self._channel.call(self._channel.stub.Store, request)
            return Moved(answer.stored, answer.absent_pages)

        self._move_all(region_id, table, offset, offset + len(data), move, write=True)

    def _move_all(
        self,
        region_id: int,
        table: PageTable,
        position: int,
        end: int,
        move: Callable[[int, int], Moved],
        *,
        write: bool,
    ) -> None:
        page_size = self._limits.page_size
        fruitless = 0
        while position < end:
            first_page = position // page_size
            window = self._window
            stop = min(end, position + self._limits.max_transfer_bytes, (first_page + window) * page_size)
            end_page = -(-stop // page_size)
            absent = table.absent_runs(first_page, end_page, self._limits.max_fault_pages)
            ranges = [(table, region_id, page, page_count) for page, page_count in absent]
            too_wide = bool(ranges) and not self._fault_in(ranges, write=write, final=end_page == first_page + 1)
            if not too_wide:
                moved = move(position, stop)
                for page in moved.absent_pages:
                    table.clear(page)
                _check(moved, position, stop, first_page)
                if moved.byte_count:
                    position += moved.byte_count
                    fruitless = 0
                    if position == stop:
                        self._window = min(self._max_window, window + max(1, window // 8))
                    continue
                # The first page was faulted in just now and is gone again: memory does not hold the whole window.
                too_wide = bool(absent) and absent[0][0] == first_page
            if too_wide:
                self._window = max(1, (end_page - first_page) // 2)
            fruitless += 1
            if fruitless == _MAX_FRUITLESS_ROUNDS:
                raise Thrashing(
                    f"page {first_page} of region {region_id} was evicted {fruitless} times before it could be "
                    "used; the daemon needs more memory, or fewer processes that use it"
                )

    def _fault_in(self, ranges: list[FaultRange], *, write: bool, final: bool) -> bool:
        """Fault in `ranges` and wait. False when memory is short and a smaller window (not `final`) may do."""
        batch = self._faults.file(ranges, write)
        self._faults.wait(batch)
        short: OutOfMemory | None = None
        for answer in batch.results():
            try:
                allocated(answer)
            except OutOfMemory as error:
                short = short or error
        if short is not None and final:
            raise short
        return short is None


def _check(moved: Moved, position: int, stop: int, first_page: int) -> None:
    """Refuse an answer that breaks the contract: it would loop for ever, or lose bytes."""
    if moved.byte_count > stop - position:
        raise InternalError(f"the daemon moved {moved.byte_count} bytes where {stop - position} were asked for")
    if not moved.byte_count and first_page not in moved.absent_pages[:1]:
        raise InternalError(f"the daemon moved no byte from {position} on and did not call page {first_page} absent")
