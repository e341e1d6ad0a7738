"""How a session brings in pages of its regions: faults, loads and stores, by blocking calls and on polled streams.

lib_usm.steps has the steps of each; lib_usm.blocking_runner and lib_usm.asyncio_runner wait for them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol, SupportsIndex, TypeVar

from lib_usm import steps
from lib_usm.address import Address
from lib_usm.arguments import counted, shown, whole
from lib_usm.asyncio_runner import AsyncioRunner
from lib_usm.blocking_runner import BlockingRunner
from lib_usm.channel import SessionChannel
from lib_usm.errors import (
    ClosedError,
    InvalidArgument,
    OutOfRange,
    WrongType,
)
from lib_usm.local_stream import LocalStream
from lib_usm.memory import Memory
from lib_usm.message_stream import MessageStream
from lib_usm.pager import Pager, Stream
from lib_usm.session import Session, SessionRegion
from lib_usm.session_events import SessionEvents
from lib_usm.steps import StepsRegion
from lib_usm.waits import FaultRange

_T = TypeVar("_T")
_STREAM_METHOD = "/usm.v1.ClientService/StreamFaults"


class PagedRegion(SessionRegion, StepsRegion, Protocol):
    """The part of a region that a session needs to bring in its pages."""

    def byte_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """A range of bytes as ints. Raises WrongType and OutOfRange."""


class PagingSession(Session):
    """A session that brings in pages."""

    def __init__(
        self,
        address: Address | None = None,
        *,
        name: str | None = None,
        alloc: str | None = None,
        evict: str | None = None,
    ) -> None:
        self._asyncio_runners: dict[asyncio.AbstractEventLoop, AsyncioRunner] = {}
        super().__init__(address, name=name, alloc=alloc, evict=evict)
        # The partial does not refer to the client, so that the client can be dropped.
        self._opener = partial(
            _open_pager, self._memory, str(self._where.path), self.channel, self.limits.max_batch_faults
        )
        self._events = SessionEvents(self._opener)
        self.threads = BlockingRunner(self._opener, self._calls, self.channel.explained)
        """The runner of threads that wait."""

    def open_pager(self) -> tuple[Stream, Pager]:
        """Open a fault stream on its own connection, for one scheduler; it ends with the session. Raises UsmError."""
        self.check_open()
        return self._opener()

    def asyncio_runner(self) -> AsyncioRunner:
        """The runner for tasks of the running asyncio loop. Raises InvalidArgument outside of asyncio, and UsmError."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidArgument("this is awaited in a coroutine of a LocalManager, or of asyncio") from None
        self.check_open()
        for other in [other for other in self._asyncio_runners if other.is_closed()]:
            self._asyncio_runners.pop(other).close()  # else each asyncio.run would leave a stream open
        runner = self._asyncio_runners.get(loop)
        if runner is None or runner.ended:
            runner = self._asyncio_runners[loop] = AsyncioRunner(self.open_pager, loop)
        return runner

    def load(self, region: PagedRegion, offset: SupportsIndex, n: SupportsIndex) -> bytes:
        """Return bytes of a region: `Region.read` outside of uThreads."""
        self._check_own(region)
        start, length = region.byte_range(offset, n)
        return self.threads.run(lambda place: steps.read(place, region, start, length))

    def store(self, region: PagedRegion, offset: SupportsIndex, data: memoryview) -> None:
        """Store bytes into a region: `Region.write` outside of uThreads."""
        self._check_own(region)
        start, _ = region.byte_range(offset, len(data))
        self.threads.run(lambda place: steps.write(place, region, start, data))

    def ensure(
        self, region: PagedRegion, first_page: SupportsIndex, page_count: SupportsIndex, *, write: bool = False
    ) -> None:
        """Make pages of `region` resident, as `Region.ensure` does. `write`: the caller will write to them."""
        self._check_own(region)
        first, count = page_range(region, first_page, page_count)
        self.threads.run(lambda place: steps.ensure(place, region, first, count, write=write))

    def _end_streams(self) -> None:
        self._events.close()
        for runner in self._asyncio_runners.values():
            runner.close()
        self.threads.close(ClosedError(f"the client of {self.address} was closed"))

    def _check_own(self, region: PagedRegion) -> None:
        """Raise WrongType or InvalidArgument unless `region` is this session's. Raises what its `check_open` raises."""
        session = getattr(region, "session", None)
        if not isinstance(session, PagingSession):
            raise WrongType(f"{shown(region)} is not a region; use one that `mmap` of this client gave")
        if session is not self:
            raise InvalidArgument(f"{region!r} belongs to another client; use the client that made it")
        region.check_open()

    def _fault_range(self, region: PagedRegion, first_page: int, page_count: int) -> FaultRange:
        """The range to file as one fault. Raises InvalidArgument for more than `max_fault_pages` pages."""
        if page_count > self.limits.max_fault_pages:
            raise InvalidArgument(
                f"a fault of {page_count} pages is too large; at most {self.limits.max_fault_pages} pages of "
                f"{self.page_size} bytes are allowed: fault in parts, or use fault_many"
            )
        return region.table, region.region_id, first_page, page_count


def _open_pager(
    memory: Memory | None, path: str, channel: SessionChannel, max_batch_faults: int
) -> tuple[Stream, Pager]:
    stream: Stream
    if memory is None:
        stream = MessageStream(path, _STREAM_METHOD, channel.metadata)
    else:
        stream = LocalStream(memory.open_stream())
    return stream, Pager(stream, max_batch_faults)


def page_range(
    region: PagedRegion, first_page: SupportsIndex, page_count: SupportsIndex, *, least: int = 0
) -> tuple[int, int]:
    """A range of at least `least` pages as ints. Raises WrongType and OutOfRange."""
    first, count = whole(first_page, "first page"), whole(page_count, "number of pages")
    if not (0 <= first <= region.page_count and least <= count <= region.page_count - first):
        raise OutOfRange(
            f"a range of {counted(count, 'page')} from page {first} on does not lie in the region, which has "
            f"{counted(region.page_count, 'page')}"
        )
    return first, count
