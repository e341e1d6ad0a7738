"""The bytes of a region: a range of managed memory, used like a bytearray of fixed length.

Every range is checked here, before anything is sent. What of a bytearray it has is in lib_usm.byte_sequence; how the
bytes travel is in lib_usm.transfer, and for a region that is mapped into this process in lib_usm.mapped.
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
    """The bytes of a region, and its life; see lib_usm.client.Region."""

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
        """Name for people; may be empty."""
        self.page_count = message.page_count
        """Pages that cover the region."""
        self._length = message.length

    @property
    def session(self) -> PagingSession:
        """The session that made the region: its client."""
        return self._session

    @property
    def closed(self) -> bool:
        """The region was given back, or will be when the last array of it goes."""
        return self._closed

    def __len__(self) -> int:
        return self._length

    @property
    def buffer(self) -> memoryview:
        """The bytes of the region, writable; a touch of a page that is not in memory waits for it in the kernel.

        While it waits, this process's other Python threads wait as well, unless the touch is in code that lets them
        run; `ensure` does not have that drawback, and raises an error where a touch ends in SIGBUS. Raises NoBuffer.
        """
        return self._mapped().buffer()

    def __buffer__(self, flags: int, /) -> memoryview:
        """As `buffer`; Python asks for it from 3.12 on, so that `memoryview(region)` works there."""
        return self.buffer

    def ndarray(self, dtype: DTypeLike = "u1", shape: arrays.Shape = None, offset: SupportsIndex = 0) -> NDArray[Any]:
        """A NumPy array over the bytes from `offset` on; `shape` None: one dimension, as many as there is room for.

        A length of -1 in the shape is as many as there is room for, too. Raises NoBuffer, OutOfRange where the array
        would not lie in the region, InvalidArgument, and ImportError without NumPy.
        """
        mapping = self._mapped()
        start, room = self.byte_range(offset, None)
        item, dimensions = arrays.layout(dtype, shape, room)
        self.byte_range(start, arrays.size(item, dimensions))
        return arrays.over(mapping.buffer(), item, dimensions, start)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """What NumPy makes of a region: an array of its bytes, over the same memory unless `copy`.

        Raises NoBuffer where that cannot be, unless a copy is asked for (`np.array(region)`).
        """
        if copy and self._mapping is None:
            return arrays.copied(self.read(0, self._length), dtype)
        return arrays.converted(self.ndarray(), dtype, copy=copy)

    @property
    def mapping(self) -> Mapping | None:
        """Where the region is mapped into this process; None where it is not."""
        return self._mapping

    def _mapped(self) -> Mapping:
        self.check_open()
        if self._mapping is None:
            raise NoBuffer(f"{self!r} has no buffer: {self._session.why_no_buffer}")
        return self._mapping

    def ensure(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> None:
        """Make the pages of the `n` bytes (None: to the end) from `offset` on resident, and wait for them.

        Unlike by a touch, other Python threads run meanwhile, and in a greenlet of a LocalManager other uThreads. A
        coroutine that calls it keeps its loop: `ensure_async` lets others run. For a moment after that the pages are
        not evicted. Raises OutOfRange, OutOfMemory, DataLoss or SwapIOError.
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
        """As `ensure`, for a coroutine to await: of a LocalManager of this client, or of asyncio."""
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        return self.ensure_pages_async(first_page, page_count)

    def ensure_pages_async(self, first_page: int, page_count: int) -> Coroutine[Any, Any, None]:
        """As `ensure_async`, for pages counted from the start of the region, which are there."""
        return self._when_awaited(lambda place: steps.ensure(place, self, first_page, page_count))

    async def _when_awaited(self, todo: Callable[[Place], Steps[_T]]) -> _T:
        """Do steps where this is awaited."""
        kthread = running.kthread
        if kthread is None:
            return await self._session.asyncio_runner().run(todo)
        if not kthread.owns(self):
            raise InvalidArgument(f"{self!r} belongs to another client than the LocalManager that runs this code")
        return await kthread.coroutines.run(todo)

    def _runner(self) -> WaitingRunner:
        """What runs the steps of an access for the calling code."""
        kthread = running.kthread
        if kthread is not None and kthread.serves(self):
            return kthread.greenlets
        threads = self._session.threads
        return threads if self._mapping is None else threads.copying

    def read_async(self, offset: SupportsIndex, n: SupportsIndex) -> Coroutine[Any, Any, bytes]:
        """As `read`, for a coroutine to await: of a LocalManager of this client, or of asyncio."""
        start, length = self.byte_range(offset, n)
        self.check_open()
        return self._when_awaited(lambda place: steps.read(place, self, start, length))

    def write_async(self, offset: SupportsIndex, data: Buffer) -> Coroutine[Any, Any, None]:
        """As `write`, for a coroutine to await: of a LocalManager of this client, or of asyncio.

        `data` is copied at once: what is done to it later is not stored.
        """
        with self._content(data) as view:
            start, _ = self.byte_range(offset, len(view))
            self.check_open()
            copied = memoryview(bytes(view))
        return self._when_awaited(lambda place: steps.write(place, self, start, copied))

    def resident(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> bool:
        """Whether the pages of the `n` bytes (None: to the end) from `offset` on are all in memory; without a call.

        A mapped region knows. For another it is what this client last heard: it may be out of date.
        """
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        return self._known_resident(first_page, page_count)

    def _known_resident(self, first_page: int, page_count: int) -> bool:
        if self._mapping is not None:
            return self._mapping.resident(first_page, page_count)
        return not self.table.absent_runs(first_page, first_page + page_count, max(page_count, 1))

    def absent_runs(self, first_page: int, page_count: int, longest: int) -> list[tuple[int, int]]:
        """Runs of pages (first page, pages) that `resident` would not call so, none over `longest` pages."""
        if self._mapping is not None:
            return self._mapping.absent_runs(first_page, page_count, longest)
        return self.table.absent_runs(first_page, first_page + page_count, longest)

    def read(self, offset: SupportsIndex, n: SupportsIndex) -> bytes:
        """Return the `n` bytes from `offset` on, faulting in what is absent.

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
        """Store `data` (anything with a buffer, in C order; or a region) from `offset` on, faulting in what is absent.

        Raises WrongType, and as `read` does. After an error, a part of `data` may have been stored.
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
        far = place.step >= self._page_size  # where pages lie between that need not come
        mapping = self._mapping
        if mapping is not None and not far and running.kthread is None:
            self._session.threads.copying.run(lambda each: steps.write_strided(each, self, mapping, place, data))
            return
        # Bytes between them are another thread's to write: they are not read and written back.
        for index in range(place.n):
            self.write(place.start + index * place.step, data[index : index + 1])

    def close(self) -> None:
        """Give the region back; waiting faults of its pages fail with Unmapped. May be called again.

        Raises InUse, and has changed nothing, while arrays or memoryviews of it are in use. What other threads do with
        it at this moment is done to its end, or raises ClosedError, or Unmapped where it waits for a page.
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
        """Refuse every further use; the region is given back when its last array or memoryview goes."""
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
            return  # the region is the parent's, which goes on with it
        except UsmError:
            if error is None:
                raise

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Region {self.region_id}{name}, {counted(self._length, 'byte')}{', closed' if self._closed else ''}>"

    def why(self, error: UsmError) -> UsmError:
        """What a failed use of the region is raised as: ClosedError, where it or its client was closed meanwhile."""
        if self._session.closed and not isinstance(error, ClosedError):
            return ClosedError(f"the client of {self._session.address} was closed")
        if self._closed and isinstance(error, NotFound):
            return ClosedError(f"region {self.region_id} was closed")
        return again(error)

    def check_open(self) -> None:
        """Raise ClosedError after `close`, ForkedChild, and what ended the session when it is over."""
        self._session.check_open()
        if self._closed:
            raise ClosedError(f"region {self.region_id} was closed")

    def byte_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """The range as ints, `n` None: to the end. Raises WrongType, and OutOfRange unless it lies in the region."""
        start = whole(offset, "offset")
        length = max(self._length - start, 0) if n is None else whole(n, "number of bytes")
        if not (0 <= start <= self._length and 0 <= length <= self._length - start):
            raise OutOfRange(
                f"a range of {counted(length, 'byte')} at offset {start} does not lie in the region, which has "
                f"{counted(self._length, 'byte')}"
            )
        return start, length

    def page_range(self, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
        """First page and number of pages of a range of bytes, which may be empty. Raises as `byte_range` does."""
        start, length = self.byte_range(offset, n)
        return self.pages(start, length) if length else (0, 0)

    def pages(self, offset: int, n: int) -> tuple[int, int]:
        """First page and number of pages that cover the `n` (at least 1) bytes from `offset` on."""
        first = offset // self._page_size
        return first, -(-(offset + n) // self._page_size) - first
