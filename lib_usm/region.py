"""The bytes of a region: a range of managed memory, used like a bytearray of fixed length.

All ranges are checked here, before anything is sent. lib_usm.byte_sequence has the methods of a bytearray. Bytes travel
by lib_usm.transfer, and for a mapped region by lib_usm.mapped.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar

from lib_usm import arrays, mapped, steps
from lib_usm.arguments import content, counted, whole
from lib_usm.byte_sequence import ByteSequence, Strided
from lib_usm.errors import (
    ClosedError,
    ForkedChild,
    InUse,
    InvalidArgument,
    NoBuffer,
    NotFound,
    OutOfRange,
    UsmError,
    again,
)
from lib_usm.mapping import Mapping
from lib_usm.page_table import PageTable
from lib_usm.paging import PagingSession
from lib_usm.runner import WaitingRunner
from lib_usm.steps import Place, Steps
from lib_usm.uncopyable import Uncopyable
from lib_usm.uthread import running
from usm_wire.pb.usm.v1 import client_pb2

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Buffer

_T = TypeVar("_T")


class RegionBytes(Uncopyable, ByteSequence):
    """The bytes of a region and its end; see lib_usm.client.Region."""

    instead = "copy its bytes (`bytes(region)`, `region[a:b]`), or use the region as it is; in another process, connect"

    def __init__(self, session: PagingSession, message: client_pb2.Region, mapping: Mapping | None = None) -> None:
        self._session = session
        self._mapping = mapping
        self._page_size = session.page_size
        self._closed = False
        self.table = PageTable(message.page_count)
        self.region_id = message.region_id
        """Number of the region in usmctl."""
        self.address = message.address
        """First address in the process's managed address space, in bytes."""
        self.name = message.name
        """Name for operators; may be empty."""
        self.page_count = message.page_count
        """Number of pages of the region."""
        self._length = message.length

    @property
    def session(self) -> PagingSession:
        """The session that made the region: its client."""
        return self._session

    @property
    def closed(self) -> bool:
        """True if the region was given back, or will be when its last array is gone."""
        return self._closed

    def __len__(self) -> int:
        return self._length

    @property
    def buffer(self) -> memoryview:
        """The bytes of the region, writable. A touch of a page that is not in memory waits in the kernel.

        That wait blocks the process's other Python threads too, unless the touching code has released the interpreter
        lock. `ensure` does not block them, and raises an error where a touch would end in SIGBUS. Raises NoBuffer.
        """
        return self._mapped().buffer()

    def __buffer__(self, flags: int, /) -> memoryview:
        """As `buffer`. From Python 3.12 on, `memoryview(region)` calls this."""
        return self.buffer

    def ndarray(self, dtype: DTypeLike = "u1", shape: arrays.Shape = None, offset: SupportsIndex = 0) -> NDArray[Any]:
        """A NumPy array over the bytes from `offset`; `shape` None: one dimension that takes all the room.

        One length in the shape may be -1: it takes the room that is left. Raises NoBuffer, OutOfRange if the array does
        not fit into the region, InvalidArgument, and ImportError without NumPy.
        """
        mapping = self._mapped()
        start, room = self.byte_range(offset, None)
        item, dimensions = arrays.layout(dtype, shape, room)
        self.byte_range(start, arrays.size(item, dimensions))
        return arrays.over(mapping.buffer(), item, dimensions, start)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """An array of the region's bytes for NumPy, over the same memory unless `copy`.

        Raises NoBuffer if the region is not mapped, unless a copy is asked for (`np.array(region)`).
        """
        if copy and self._mapping is None:
            return arrays.copied(self.read(0, self._length), dtype)
        return arrays.converted(self.ndarray(), dtype, copy=copy)

    @property
    def mapping(self) -> Mapping | None:
        """The mapping of the region into this process; None if it is not mapped."""
        return self._mapping

    def _mapped(self) -> Mapping:
        self.check_open()
        if self._mapping is None:
            raise NoBuffer(f"{self!r} has no buffer: {self._session.why_no_buffer}")
        return self._mapping

    def ensure(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> None:
        """Make the pages of the `n` bytes (None: to the end) from `offset` resident, and wait for them.

        Unlike a touch, it lets other Python threads run meanwhile, and in a greenlet of a LocalManager other uThreads.
        In a coroutine it blocks the loop; use `ensure_async` there. The pages are not evicted for a moment afterwards.

        Raises ------ OutOfRange, OutOfMemory, DataLoss or SwapIOError.

        """
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        if not page_count or self._known_resident(first_page, page_count):
            return
        kthread = running.kthread
        greenlet = kthread is not None and kthread.switching and kthread.owns(self)
        runner: WaitingRunner = kthread.greenlets if kthread is not None and greenlet else self._session.threads
        runner.run(lambda place: steps.ensure(place, self, first_page, page_count))

    def ensure_async(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> Coroutine[Any, Any, None]:
        """As `ensure`, for a coroutine of a LocalManager of this client, or of asyncio."""
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        return self.ensure_pages_async(first_page, page_count)

    def ensure_pages_async(self, first_page: int, page_count: int) -> Coroutine[Any, Any, None]:
        """As `ensure_async`, for a range of pages that was checked."""
        return self._when_awaited(lambda place: steps.ensure(place, self, first_page, page_count))

    async def _when_awaited(self, todo: Callable[[Place], Steps[_T]]) -> _T:
        """Run steps in the task that awaits this."""
        kthread = running.kthread
        if kthread is None:
            return await self._session.asyncio_runner().run(todo)
        if not kthread.owns(self):
            raise InvalidArgument(f"{self!r} belongs to another client than the LocalManager that runs this code")
        return await kthread.coroutines.run(todo)

    def _runner(self) -> WaitingRunner:
        """The runner of an access by the calling code."""
        kthread = running.kthread
        if kthread is not None and kthread.serves(self):
            return kthread.greenlets
        threads = self._session.threads
        return threads if self._mapping is None else threads.copying

    def read_async(self, offset: SupportsIndex, n: SupportsIndex) -> Coroutine[Any, Any, bytes]:
        """As `read`, for a coroutine of a LocalManager of this client, or of asyncio."""
        start, length = self.byte_range(offset, n)
        self.check_open()
        return self._when_awaited(lambda place: steps.read(place, self, start, length))

    def write_async(self, offset: SupportsIndex, data: Buffer) -> Coroutine[Any, Any, None]:
        """As `write`, for a coroutine of a LocalManager of this client, or of asyncio.

        `data` is copied at once: later changes to it are not stored.
        """
        with self._content(data) as view:
            start, _ = self.byte_range(offset, len(view))
            self.check_open()
            copied = memoryview(bytes(view))
        return self._when_awaited(lambda place: steps.write(place, self, start, copied))

    def resident(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> bool:
        """True if the pages of the `n` bytes (None: to the end) from `offset` are all in memory. Makes no call.

        For a mapped region this is exact. For another it is this client's last knowledge, which may be stale.
        """
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        return self._known_resident(first_page, page_count)

    def _known_resident(self, first_page: int, page_count: int) -> bool:
        if self._mapping is not None:
            return self._mapping.resident(first_page, page_count)
        return not self.table.absent_runs(first_page, first_page + page_count, max(page_count, 1))

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs (first page, pages) of pages that `resident` denies, each at most `longest` pages."""
        if self._mapping is not None:
            return self._mapping.absent_runs(first_page, page_count, longest)
        return self.table.absent_runs(first_page, first_page + page_count, longest)

    def read(self, offset: SupportsIndex, n: SupportsIndex) -> bytes:
        """Return the `n` bytes from `offset`, faulting in absent pages.

        Raises OutOfRange, OutOfMemory, DataLoss or SwapIOError.
        """
        start, length = self.byte_range(offset, n)
        self.check_open()
        if not length:
            return b""
        mapping = self._mapping
        if mapping is not None and mapped.resident(mapping, self._page_size, start, length):
            return bytes(mapping.view[start : start + length])
        return self._runner().run(lambda place: steps.read(place, self, start, length))

    def write(self, offset: SupportsIndex, data: Buffer) -> None:
        """Store `data` (any buffer, in C order, or a region) at `offset`, faulting in absent pages.

        Raises WrongType and the errors of `read`. After an error, a part of `data` may have been stored.
        """
        with self._content(data) as view:
            start, length = self.byte_range(offset, len(view))
            self.check_open()
            if not length:
                return
            mapping = self._mapping
            if mapping is not None and mapped.resident(mapping, self._page_size, start, length):
                mapping.view[start : start + length] = view
            else:
                self._runner().run(lambda place: steps.write(place, self, start, view))

    def _content(self, data: Buffer) -> memoryview:
        return content(bytes(data) if isinstance(data, ByteSequence) else data)

    def _write_strided(self, place: Strided, data: memoryview) -> None:
        self.check_open()
        far = place.step >= self._page_size  # then some pages in between need not be brought in
        mapping = self._mapping
        if mapping is not None and not far and running.kthread is None:
            self._session.threads.copying.run(lambda each: steps.write_strided(each, self, mapping, place, data))
            return
        # Another thread may write the bytes in between, so they are not read and written back.
        for index in range(place.n):
            self.write(place.start + index * place.step, data[index : index + 1])

    def close(self) -> None:
        """Give the region back. Waiting faults of its pages raise Unmapped. May be called again.

        Raises InUse while arrays or memoryviews of it are in use; then nothing has changed. An access by another thread
        at this moment completes, or raises ClosedError, or Unmapped if it waits for a page.
        """
        if not self._closed:
            self._session.check_process()
            self._session.call(self._close)

    def _close(self) -> None:
        memory = None if self._mapping is None else self._mapping.close(repr(self))
        self._closed = True
        mine = self._session.holdings.take(self.region_id)
        owner = None if memory is None else weakref.ref(memory)
        del memory
        if mine:
            self._session.unmap(self, owner)

    def let_go(self) -> None:
        """Refuse all further use. The region is given back when its last array or memoryview is gone."""
        self._closed = True
        if self._mapping is not None:
            self._mapping.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except InUse:
            self.let_go()
        except ForkedChild:
            return  # the region is the parent's, which still uses it
        except UsmError:
            if error is None:
                raise

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Region {self.region_id}{name}, {counted(self._length, 'byte')}{', closed' if self._closed else ''}>"

    def why(self, error: UsmError) -> UsmError:
        """The error to raise for a failed use: ClosedError if the region or its client was closed meanwhile."""
        if self._session.closed and not isinstance(error, ClosedError):
            return ClosedError(f"the client of {self._session.address} was closed")
        if self._closed and isinstance(error, NotFound):
            return ClosedError(f"region {self.region_id} was closed")
        return again(error)

    def check_open(self) -> None:
        """Raise ClosedError after `close`, ForkedChild, and the reason if the session has ended."""
        self._session.check_open()
        if self._closed:
            raise ClosedError(f"region {self.region_id} was closed")

    def byte_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """The range as ints; `n` None: to the end.

        Raises WrongType, and OutOfRange unless the range is in the region.
        """
        start = whole(offset, "offset")
        length = max(self._length - start, 0) if n is None else whole(n, "number of bytes")
        if not (0 <= start <= self._length and 0 <= length <= self._length - start):
            raise OutOfRange(
                f"a range of {counted(length, 'byte')} at offset {start} does not lie in the region, which has "
                f"{counted(self._length, 'byte')}"
            )
        return start, length

    def page_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """First page and number of pages of a range of bytes, which may be empty. Raises what `byte_range` raises."""
        start, length = self.byte_range(offset, n)
        return self.pages(start, length) if length else (0, 0)

    def pages(self, offset: int, n: int) -> tuple[int, int]:
        """First page and number of pages that cover the `n` bytes (at least 1) from `offset`."""
        first = offset // self._page_size
        return first, -(-(offset + n) // self._page_size) - first
