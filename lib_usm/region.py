"""A region: a range of managed memory, used like a bytearray of fixed length.

Every range is checked here, before anything is sent. How the bytes travel is in lib_usm.transfer.
"""

from __future__ import annotations

import asyncio
import math
import operator
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex, TypeVar, cast, overload

from lib_usm import steps
from lib_usm.errors import ClosedError, InUse, InvalidArgument, NoBuffer, OutOfRange
from lib_usm.mapping import Mapping
from lib_usm.page_table import PageTable
from lib_usm.pb.usm.v1 import client_pb2
from lib_usm.running import running
from lib_usm.steps import Place, Steps

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray
    from typing_extensions import Buffer

    from lib_usm.client import Client

_ITERATION_BYTES = 1 << 16
_T = TypeVar("_T")


class _Done:
    """Awaited, it is over at once."""

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]  # an iterator is all that `await` needs


DONE: Final = _Done()


def _in_asyncio() -> bool:
    """The calling code runs in asyncio's loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Region:
    """Made by `Client.mmap`. Bytes are zero until written; indexes and slices mean what they mean for a bytearray.

    Each method may be called from any thread. Besides what it names, each raises ClosedError after `close`, and what
    ended the session (SessionKilled, ConnectionLost, ...) when that is over.
    """

    def __init__(
        self, client: Client, message: client_pb2.Region, page_size: int, mapping: Mapping | None = None
    ) -> None:
        self._client = client
        self._mapping = mapping
        self._page_size = page_size
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
    def client(self) -> Client:
        """The client that made the region."""
        return self._client

    @property
    def closed(self) -> bool:
        """The region was given back."""
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

    def ndarray(
        self, dtype: DTypeLike, shape: SupportsIndex | tuple[int, ...] | None = None, offset: int = 0
    ) -> NDArray[Any]:
        """A NumPy array over the bytes from `offset` on; `shape` None: one dimension, as many as there is room for.

        Raises NoBuffer, OutOfRange where the array would not lie in the region, and ImportError without NumPy.
        """
        import numpy as np

        item = np.dtype(dtype)
        view = self._mapped().buffer()
        self.check_range(offset, 0)
        if shape is None:
            shape = (self._length - offset) // item.itemsize if item.itemsize else 0
        dimensions = (operator.index(shape),) if isinstance(shape, SupportsIndex) else tuple(shape)
        count = math.prod(dimensions)
        self.check_range(offset, count * item.itemsize)
        return np.frombuffer(view, item, count, offset).reshape(dimensions)

    @property
    def mapping(self) -> Mapping | None:
        """Where the region is mapped into this process; None where it is not."""
        return self._mapping

    def _mapped(self) -> Mapping:
        self.check_open()
        if self._mapping is None:
            raise NoBuffer(f"{self!r} has no buffer: {self._client.why_no_buffer}")
        return self._mapping

    def ensure(self, offset: int = 0, n: int | None = None) -> Awaitable[None]:
        """Make the pages of the `n` bytes (None: to the end) from `offset` on resident, and wait for them.

        Unlike by a touch, other Python threads run meanwhile. For a moment after that the pages are not evicted. In a
        coroutine, of a LocalManager or of asyncio, write `await region.ensure(...)`, which lets others run; elsewhere
        all is done when this returns. Raises OutOfRange, OutOfMemory, DataLoss or SwapIOError.
        """
        first_page, page_count = self._page_range(offset, n)
        if not page_count:
            return DONE
        self.check_open()
        if self._known_resident(first_page, page_count):
            return DONE

        def todo(place: Place) -> Steps[None]:
            return steps.ensure(place, self, first_page, page_count)

        kthread = running.kthread
        if kthread is not None and kthread.owns(self):
            if not kthread.switching:
                return self._awaitable(todo)
            kthread.drive(todo(kthread.place()))
        elif kthread is None and _in_asyncio():
            return self._awaitable(todo)
        else:
            self._client.ensure(self, first_page, page_count)
        return DONE

    def _awaitable(self, todo: Callable[[Place], Steps[_T]]) -> Awaitable[_T]:
        """What a coroutine awaits to have steps done."""
        kthread = running.kthread
        if kthread is not None:
            if not kthread.owns(self):
                raise InvalidArgument(f"{self!r} belongs to another client than the LocalManager that runs this code")
            return cast("Awaitable[_T]", todo(kthread.place()))
        return self._client.asyncio_pager().run(todo)

    def read_async(self, offset: int, n: int) -> Awaitable[bytes]:
        """As `read`, for a coroutine to await: of a LocalManager of this client, or of asyncio.

        Errors are raised as exceptions where `read` of a mapped region would end in SIGBUS.
        """
        self.check_range(offset, n)
        self.check_open()
        return self._awaitable(lambda place: steps.read(place, self, offset, n))

    def write_async(self, offset: int, data: Buffer) -> Awaitable[None]:
        """As `write`, for a coroutine to await: of a LocalManager of this client, or of asyncio."""
        content = bytes(data)
        self.check_range(offset, len(content))
        self.check_open()
        return self._awaitable(lambda place: steps.write(place, self, offset, memoryview(content)))

    @contextmanager
    def pin(self, offset: int = 0, n: int | None = None) -> Iterator[None]:
        """Keep the pages of the `n` bytes (None: to the end) from `offset` on in memory inside the `with` block.

        Raises LimitExceeded beyond the budget, which EVICTION=DENY shares, and as `ensure` does.
        """
        first_page, page_count = self._page_range(offset, n)
        self._client.pin(self, first_page, page_count)
        try:
            yield
        finally:
            self._client.unpin(self, first_page, page_count)

    def evict(self, offset: int = 0, n: int | None = None) -> None:
        """Ask for the eviction of the pages of the `n` bytes (None: to the end) from `offset` on; does not wait for it.

        No byte is lost. Pages that are pinned, denied, or about to be used stay.
        """
        if self._page_range(offset, n)[1]:
            self._client.usm_hint(self, "DONTNEED", offset, n)

    def resident(self, offset: int = 0, n: int | None = None) -> bool:
        """Whether the pages of the `n` bytes (None: to the end) from `offset` on are all in memory; without a call.

        A mapped region knows. For another it is what this client last heard: it may be out of date.
        """
        first_page, page_count = self._page_range(offset, n)
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

    def _page_range(self, offset: int, n: int | None) -> tuple[int, int]:
        """First page and number of pages of a range of bytes, which may be empty. Raises OutOfRange."""
        length = max(self._length - offset, 0) if n is None else n
        self.check_range(offset, length)
        return self.pages(offset, length) if length else (0, 0)

    def read(self, offset: int, n: int) -> bytes:
        """Return the `n` bytes from `offset` on, faulting in what is absent.

        Raises OutOfRange, OutOfMemory, DataLoss or SwapIOError; where the region is mapped into this process, what is
        absent is touched without a call, and all but OutOfRange is SIGBUS: `ensure` before where that matters.
        """
        self.check_range(offset, n)
        self.check_open()
        kthread = running.kthread
        if kthread is not None and kthread.serves(self):
            return kthread.drive(steps.read(kthread.place(), self, offset, n))
        if self._mapping is not None:
            return bytes(self._mapping.view[offset : offset + n])
        return self._client.transfer.load(self.region_id, self.table, offset, n) if n else b""

    def write(self, offset: int, data: Buffer) -> None:
        """Store `data` (anything with a contiguous buffer) from `offset` on, faulting in what is absent.

        Raises as `read` does. After an error, a part from the start of `data` may have been stored.
        """
        with memoryview(data) as buffer, buffer.cast("B") as view:
            self.check_range(offset, len(view))
            self.check_open()
            kthread = running.kthread
            if kthread is not None and kthread.serves(self):
                kthread.drive(steps.write(kthread.place(), self, offset, view))
            elif self._mapping is not None:
                self._mapping.view[offset : offset + len(view)] = view
            elif len(view):
                self._client.transfer.store(self.region_id, self.table, offset, view)

    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...
    def __getitem__(self, key: slice | SupportsIndex) -> bytes | int:
        if isinstance(key, slice):
            start, stop = self._bounds(key)
            return self.read(start, stop - start)
        return self.read(self._index(key), 1)[0]

    @overload
    def __setitem__(self, key: slice, value: Buffer) -> None: ...
    @overload
    def __setitem__(self, key: SupportsIndex, value: int) -> None: ...
    def __setitem__(self, key: slice | SupportsIndex, value: Buffer | int) -> None:
        if isinstance(value, int):
            if isinstance(key, slice):
                raise InvalidArgument(f"a slice of a region takes bytes, not the number {value}")
            if not 0 <= value <= 255:
                raise InvalidArgument(f"byte value {value} cannot be stored; allowed is 0 to 255")
            self.write(self._index(key), bytes((value,)))
            return
        if not isinstance(key, slice):
            raise InvalidArgument(f"one byte of a region takes a number of 0 to 255, not {type(value).__name__}")
        start, stop = self._bounds(key)
        with memoryview(value) as view:
            if view.nbytes != stop - start:
                raise InvalidArgument(
                    f"{view.nbytes} bytes cannot replace the {stop - start} bytes at {start}: a region keeps its length"
                )
        self.write(start, value)

    def __iter__(self) -> Iterator[int]:
        # Without this, iteration would ask the daemon byte by byte.
        for start in range(0, self._length, _ITERATION_BYTES):
            yield from self.read(start, min(_ITERATION_BYTES, self._length - start))

    def close(self) -> None:
        """Give the region back; waiting faults of its pages fail with Unmapped. May be called again."""
        if not self._closed:
            self._client.check_process()
            if self._mapping is not None:
                self._mapping.close(repr(self))
            self._closed = True
            self._client.unmap(self)

    def unmap(self) -> bool:
        """Unmap the bytes from this process, because the session ends; False where they are in use, and stay."""
        if self._mapping is None or self._closed:
            return True
        try:
            self._mapping.close(repr(self))
        except InUse:
            return False
        self._closed = True
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Region {self.region_id}{name}, {self._length} bytes{', closed' if self._closed else ''}>"

    def check_open(self) -> None:
        """Raise ClosedError after `close`, ForkedChild, and what ended the session when it is over."""
        self._client.check_open()
        if self._closed:
            raise ClosedError(f"region {self.region_id} was closed")

    def check_range(self, offset: int, n: int) -> None:
        """Raise OutOfRange unless the `n` bytes from `offset` on lie in the region."""
        if not (0 <= operator.index(offset) <= self._length and 0 <= operator.index(n) <= self._length - offset):
            raise OutOfRange(f"{n} bytes at offset {offset} do not lie in the region, which has {self._length} bytes")

    def pages(self, offset: int, n: int) -> tuple[int, int]:
        """First page and number of pages that cover the `n` (at least 1) bytes from `offset` on."""
        first = offset // self._page_size
        return first, -(-(offset + n) // self._page_size) - first

    def _index(self, key: SupportsIndex) -> int:
        index = operator.index(key)
        if not -self._length <= index < self._length:
            raise OutOfRange(f"index {index} lies outside the region, which has {self._length} bytes")
        return index + self._length if index < 0 else index

    def _bounds(self, key: slice) -> tuple[int, int]:
        start, stop, step = key.indices(self._length)
        if step != 1:
            raise InvalidArgument(f"slice step {step} is not supported; allowed is 1")
        return start, max(start, stop)
