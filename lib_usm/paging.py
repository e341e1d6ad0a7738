"""How a session brings pages of its regions: faults, loads and stores, by calls that wait and on streams that do not.

What a fault stream is, is in lib_usm.faults and lib_usm.pager; what moves bytes in lib_usm.transfer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, SupportsIndex

from lib_usm.address import Address
from lib_usm.arguments import counted, shown, whole
from lib_usm.asyncio_pager import AsyncioPager
from lib_usm.errors import InvalidArgument, OutOfRange, UsmError, WrongType
from lib_usm.faults import Answer, FaultRange
from lib_usm.message_stream import MessageStream
from lib_usm.page_table import PageTable
from lib_usm.pager import Pager
from lib_usm.session import Session, SessionRegion, interruptible
from lib_usm.transfer import Transfer

_STREAM_METHOD = "/usm.v1.ClientService/StreamFaults"


class PagedRegion(SessionRegion, Protocol):
    """What is needed of a region to bring its pages."""

    table: PageTable

    @property
    def session(self) -> PagingSession:
        """The session that made it."""

    def check_open(self) -> None:
        """Raise ClosedError after its end, and what ended the session."""

    def why(self, error: UsmError) -> UsmError:
        """What a failed use of it is raised as."""

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs of pages (first page, pages) that are not known to be resident, none over `longest` pages."""

    def byte_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """A range of its bytes as ints. Raises WrongType and OutOfRange."""


class PagingSession(Session):
    """A session that brings pages."""

    def __init__(self, address: Address | None = None, *, name: str | None = None) -> None:
        self._asyncio_pagers: dict[asyncio.AbstractEventLoop, AsyncioPager] = {}
        super().__init__(address, name=name)
        self.transfer = Transfer(self.channel, self._faults, self.limits, self.window)

    def open_pager(self) -> tuple[MessageStream, Pager]:
        """A fault stream with a connection of its own, for one scheduler; it ends with the session. Raises UsmError."""
        self.check_open()
        stream = MessageStream(str(self._where.path), _STREAM_METHOD, self.channel.metadata)
        return stream, Pager(stream, self.limits.max_batch_faults)

    def asyncio_pager(self) -> AsyncioPager:
        """Where tasks of the running asyncio loop fault. Raises InvalidArgument outside of asyncio, and UsmError."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InvalidArgument("this is awaited in a coroutine of a LocalManager, or of asyncio") from None
        self.check_open()
        for other in [other for other in self._asyncio_pagers if other.is_closed()]:
            self._asyncio_pagers.pop(other).close()  # or each asyncio.run would leave a stream open
        pager = self._asyncio_pagers.get(loop)
        if pager is None or pager.ended:
            pager = self._asyncio_pagers[loop] = AsyncioPager(self.open_pager, loop)
        return pager

    @interruptible
    def load(self, region: PagedRegion, offset: SupportsIndex, n: SupportsIndex) -> bytes:
        """Return bytes of a region that has no buffer; `Region.read` calls it."""
        start, length = region.byte_range(offset, n)
        try:
            return self.transfer.load(region.region_id, region.table, start, length)
        except UsmError as error:
            raise region.why(error) from None

    @interruptible
    def store(self, region: PagedRegion, offset: SupportsIndex, data: memoryview) -> None:
        """Store bytes into a region that has no buffer; `Region.write` calls it."""
        start, _ = region.byte_range(offset, len(data))
        try:
            self.transfer.store(region.region_id, region.table, start, data)
        except UsmError as error:
            raise region.why(error) from None

    def ensure(
        self, region: PagedRegion, first_page: SupportsIndex, page_count: SupportsIndex, *, write: bool = False
    ) -> None:
        """Make pages of `region` resident; `Region.ensure` calls it. `write` says that a write will follow."""
        self._check_own(region)
        longest = self.limits.max_fault_pages
        ranges = [
            self._fault_range(region, page, count)
            for page, count in region.absent_runs(*page_range(region, first_page, page_count), longest)
        ]
        if ranges:
            for answer in self._answers(ranges, write):
                if isinstance(answer, UsmError):
                    raise region.why(answer)

    @interruptible
    def _answers(self, ranges: list[FaultRange], write: bool, yields: bool = False) -> list[Answer]:
        """Fault, and wait for the answers."""
        batch = self._faults.file(ranges, write, yields)
        self._faults.wait(batch)
        return batch.results()

    def _end_streams(self) -> None:
        for pager in self._asyncio_pagers.values():
            pager.close()

    def _check_own(self, region: PagedRegion) -> None:
        """Raise WrongType or InvalidArgument unless `region` is of this session, and what its `check_open` raises."""
        session = getattr(region, "session", None)
        if not isinstance(session, PagingSession):
            raise WrongType(f"{shown(region)} is no region; use one that `mmap` of this client gave")
        if session is not self:
            raise InvalidArgument(f"{region!r} belongs to another client; use the client that made it")
        region.check_open()

    def _fault_range(self, region: PagedRegion, first_page: int, page_count: int) -> FaultRange:
        """What one fault is filed with. Raises InvalidArgument for more pages than it may have."""
        if page_count > self.limits.max_fault_pages:
            raise InvalidArgument(
                f"a fault of {page_count} pages is too large; at most {self.limits.max_fault_pages} pages of "
                f"{self.page_size} bytes are allowed: fault in parts, or use fault_many"
            )
        return region.table, region.region_id, first_page, page_count


def page_range(
    region: PagedRegion, first_page: SupportsIndex, page_count: SupportsIndex, *, least: int = 0
) -> tuple[int, int]:
    """A range of at least `least` pages. Raises WrongType and OutOfRange."""
    first, count = whole(first_page, "first page"), whole(page_count, "number of pages")
    if not (0 <= first <= region.page_count and least <= count <= region.page_count - first):
        raise OutOfRange(
            f"a range of {counted(count, 'page')} from page {first} on does not lie in the region, which has "
            f"{counted(region.page_count, 'page')}"
        )
    return first, count
