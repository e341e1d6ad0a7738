"""A client: one session with the daemon, its regions, hints and faults.

How faults travel is in lib_usm.faults, how bytes travel in lib_usm.transfer, which errors there are in lib_usm.errors.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, cast

from lib_usm.address import resolve_address
from lib_usm.channel import SessionChannel
from lib_usm.errors import (
    ClosedError,
    ForkedChild,
    InvalidArgument,
    InvalidHint,
    OutOfRange,
    UsmError,
    again,
)
from lib_usm.faults import FaultRange, FaultStream, allocated
from lib_usm.identity import Identity
from lib_usm.outcomes import Allocated, Outcome, Yielded
from lib_usm.pb.usm.v1 import client_pb2
from lib_usm.region import Region
from lib_usm.transfer import Limits, Transfer

_DETACH_TIMEOUT_SECONDS = 5.0
_MAX_NAME_CHARACTERS = 64


class Hint(NamedTuple):
    """A hint as the daemon took it: byte ranges are rounded outward to pages."""

    hint_id: int
    """Number of the hint in usmctl; 0 when hints were removed, and for WILLNEED or DONTNEED alone, done at once."""
    first_page: int
    page_count: int
    over_budget_pages: int
    """Resident pages that asked for EVICTION=DENY beyond the budget and remain evictable."""


class Client:
    """A session; `lib_usm.connect` makes one. Use it from any thread, and close it, or use it as a context manager.

    A client does not survive fork(): in the child each call raises ForkedChild, and `close` leaves the parent's
    session alone. When the session is over each call raises what ended it: SessionKilled, ConnectionLost, ClosedError.
    An interrupt (Ctrl-C) during a wait for a fault may end the session. Calls wait as long as memory takes: only
    `wait` has a timeout.
    """

    def __init__(self, address: str | None = None, *, name: str | None = None) -> None:
        where = resolve_address(address)
        self._pid = os.getpid()
        self._close_lock = threading.Lock()
        self._closed = False
        with contextlib.ExitStack() as undo:
            self._identity = Identity(where)
            undo.callback(self._identity.close)
            self._channel = SessionChannel(where)
            undo.callback(self._channel.close)
            label = _encodable(name, "client name", InvalidArgument) if name is not None else default_name()
            session = self._channel.attach(label, self._identity.ticket)
            self._limits = Limits(session.page_size, session.max_transfer_bytes, session.max_fault_pages)
            self._faults = FaultStream(self._channel.open_faults, session.max_batch_faults)
            undo.pop_all()
        self.transfer = Transfer(self._channel, self._faults, self._limits)
        self.address = str(where)
        """Where the daemon listens, as unix:PATH."""
        self.process_id = session.process_id
        """Number of this session in usmctl."""

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    @property
    def page_size(self) -> int:
        """Bytes in a page."""
        return self._limits.page_size

    @property
    def max_fault_pages(self) -> int:
        """Most pages that one fault may cover."""
        return self._limits.max_fault_pages

    def mmap(self, length: int, *, name: str | None = None) -> Region:
        """Make a region of `length` zero bytes; no memory is used until it is touched.

        `name` is for people, at most 64 printable characters. Raises InvalidArgument or LimitExceeded.
        """
        self.check_open()
        if not 1 <= operator.index(length) <= sys.maxsize:
            raise InvalidArgument(f"a region of {length} bytes cannot be made; allowed is 1 to {sys.maxsize}")
        label = _encodable("" if name is None else name, "region name", InvalidArgument)
        message = self._channel.call(
            self._channel.stub.MapRegion, client_pb2.MapRegionRequest(length=length, name=label)
        )
        return Region(self, message, self.page_size)

    def usm_hint(self, region: Region, text: str, offset: int = 0, length: int | None = None) -> Hint:
        """Say something about `length` bytes from `offset` on (None: to the end), e.g. "PRIORITY=HIGH; FHP=64KiB".

        The newest hint on a byte replaces the older ones; empty text removes them. Raises InvalidHint, which names the
        key, the value and what is allowed, or OutOfRange.
        """
        self._check_own(region)
        n = max(len(region) - offset, 0) if length is None else length
        _check_not_empty(region, offset, n)
        request = client_pb2.HintRegionRequest(
            region_id=region.region_id, offset=offset, length=n, text=_encodable(text, "hint", InvalidHint)
        )
        answer = self._channel.call(self._channel.stub.HintRegion, request)
        return Hint(answer.hint_id, answer.first_page, answer.page_count, answer.over_budget_pages)

    def fault(self, region: Region, offset: int, n: int, *, write: bool = False, wait: bool = True) -> Outcome:
        """Make the pages of the `n` bytes from `offset` on resident, at most `max_fault_pages` of them.

        With `wait` it returns Allocated when they are. Without, it returns as soon as the daemon answers: Allocated,
        or Yielded, whose token is for `wait`. `write` says that a write will follow. Raises OutOfRange, OutOfMemory,
        DataLoss, SwapIOError or Unmapped.
        """
        self._check_own(region)
        _check_not_empty(region, offset, n)
        first_page, page_count = region.pages(offset, n)
        fault_range = self._fault_range(region, first_page, page_count)
        batch = self._faults.file([fault_range], write, yields=not wait)
        self._faults.wait(batch)
        answer = batch.results()[0]
        return answer if isinstance(answer, Yielded) else allocated(answer)

    def fault_many(
        self, requests: Sequence[tuple[Region, int, int]], write: bool = False
    ) -> list[Allocated | UsmError]:
        """Fault in page ranges (region, first page, number of pages), in one batch, and wait for all of them.

        Returns an entry for each request, in order: Allocated, or the error of that fault, which is not raised.
        """
        self.check_open()
        ranges: list[FaultRange] = []
        last: Region | None = None
        for region, first_page, page_count in requests:
            if region is not last:
                self._check_own(region)
                last = region
            if not (first_page >= 0 and 1 <= page_count <= region.page_count - first_page):
                raise OutOfRange(
                    f"{page_count} pages from page {first_page} on do not lie in the region, "
                    f"which has {region.page_count} pages"
                )
            ranges.append(self._fault_range(region, first_page, page_count))
        batch = self._faults.file(ranges, write)
        self._faults.wait(batch)
        return cast("list[Allocated | UsmError]", batch.results())  # a batch that waits through yields has none

    def wait(self, token: int, timeout: float | None = None) -> Allocated:
        """Wait for the fault that yielded `token`, at most `timeout` seconds; the token is then used up.

        Raises the error of the fault, UnknownToken, or WaitTimeout, after which the token may be waited for again. Of
        yields that nobody waits for the newest 65,536 are remembered.
        """
        self._check_process()
        return self._faults.wait_token(token, timeout)

    def close(self) -> None:
        """End the session: its regions and all their bytes are given back. May be called again."""
        if os.getpid() != self._pid:
            # Only this copy of the descriptor is ours; by it the daemon would miss the parent's death.
            self._identity.close()
            return
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
        if self._faults.end is None:
            # A daemon that does not answer ends the session all the same, when the stream goes.
            with contextlib.suppress(UsmError):
                self._channel.call(
                    self._channel.stub.Detach, client_pb2.DetachRequest(), timeout=_DETACH_TIMEOUT_SECONDS
                )
        self._faults.close()
        self._channel.close()
        self._identity.close()

    def unmap(self, region: Region) -> None:
        """Give `region` back; `Region.close` calls it. With an ended session there is nothing left to give back."""
        self._check_process()
        if not self._closed and self._channel.killed is None and self._faults.end is None:
            self._channel.call(
                self._channel.stub.UnmapRegion, client_pb2.UnmapRegionRequest(region_id=region.region_id)
            )

    def check_open(self) -> None:
        """Raise ForkedChild, ClosedError, or what ended the session; nothing while the session lives."""
        self._check_process()
        if self._closed:
            raise ClosedError(f"the client of {self.address} was closed")
        end = self._channel.killed or self._faults.end
        if end is not None:
            raise again(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.process_id} of {self.address}{', closed' if self._closed else ''}>"

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedChild(
                f"this client was made by process {self._pid} before fork(); "
                "in the child (as with multiprocessing's fork method) make one of its own, or start children by spawn"
            )

    def _check_own(self, region: Region) -> None:
        if not isinstance(region, Region):
            raise InvalidArgument(f"{region!r} is no region; use one that `mmap` of this client gave")
        if region.client is not self:
            raise InvalidArgument(f"{region!r} belongs to another client; use the client that made it")
        region.check_open()

    def _fault_range(self, region: Region, first_page: int, page_count: int) -> FaultRange:
        if page_count > self._limits.max_fault_pages:
            raise InvalidArgument(
                f"a fault of {page_count} pages is too large; at most {self._limits.max_fault_pages} pages of "
                f"{self.page_size} bytes are allowed: fault in parts, or use fault_many"
            )
        return region.table, region.region_id, first_page, page_count


def default_name() -> str:
    """Name of the running program without suffix, or "python"; policies may be assigned by it."""
    stem = Path(sys.argv[0] if sys.argv else "").stem
    printable = "".join(character for character in stem if character.isprintable())[:_MAX_NAME_CHARACTERS]
    return "python" if not printable or printable.startswith("-") else printable


def _check_not_empty(region: Region, offset: int, n: int) -> None:
    region.check_range(offset, n)
    if n == 0:
        raise OutOfRange(f"0 bytes at offset {offset} are no range; at least 1 byte is needed")


def _encodable(text: str, what: str, error: type[UsmError]) -> str:
    if not isinstance(text, str):
        raise error(f"{what} {text!r} is a {type(text).__name__}; a str is needed")
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise error(f"{what} {text!r} cannot be encoded as UTF-8: {cause.reason}") from cause
    return text
