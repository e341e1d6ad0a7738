"""A client: one session with the daemon, its regions, hints and faults.

How faults travel is in lib_usm.faults, how bytes travel in lib_usm.transfer, which errors there are in lib_usm.errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Concatenate, NamedTuple, ParamSpec, Self, SupportsFloat, SupportsIndex, TypeVar, cast

from lib_usm import forked
from lib_usm.address import Address, SocketAddress, resolve_address
from lib_usm.arguments import counted, kind_of, seconds, shown, whole
from lib_usm.asyncio_pager import AsyncioPager
from lib_usm.calls import Calls
from lib_usm.channel import SessionChannel
from lib_usm.errors import (
    ClosedError,
    ForkedChild,
    InvalidArgument,
    InvalidHint,
    LimitExceeded,
    NotFound,
    OutOfRange,
    Thrashing,
    UsmError,
    WrongType,
    again,
)
from lib_usm.faults import Answer, FaultRange, FaultStream, allocated
from lib_usm.holdings import Holdings
from lib_usm.identity import Identity
from lib_usm.limits import check_room, limit_reached
from lib_usm.mapping import MappedBytes, session_ended
from lib_usm.memory import Memory
from lib_usm.message_stream import MessageStream
from lib_usm.outcomes import Allocated, Outcome, Yielded
from lib_usm.pager import Pager
from lib_usm.pb.usm.v1 import client_pb2
from lib_usm.reach import check_reachable
from lib_usm.region import Region
from lib_usm.transfer import Limits, Transfer
from lib_usm.uncopyable import Uncopyable
from lib_usm.user_warnings import warn, warn_over_budget

_P = ParamSpec("_P")
_T = TypeVar("_T")
_DETACH_TIMEOUT_SECONDS = 5.0
_COPY_TIMEOUT_SECONDS = 1.0
_MAX_NAME_CHARACTERS = 64
# Of regions given back without a call so many may still be under way.
_MAX_GIVEN_BACK = 64
_REAL = "userfaultfd"
_STREAM_METHOD = "/usm.v1.ClientService/StreamFaults"
# A page that is gone this often between its fault and its pin will not stay.
_MAX_PIN_ROUNDS = 1000


class Hint(NamedTuple):
    """A hint as the daemon took it: byte ranges are rounded outward to pages."""

    hint_id: int
    """Number of the hint in usmctl; 0 when hints were removed, and for WILLNEED or DONTNEED alone, done at once."""
    first_page: int
    page_count: int
    over_budget_pages: int
    """Resident pages that asked for EVICTION=DENY beyond the budget and remain evictable."""
    unheeded_keys: tuple[str, ...] = ()
    """Keys that no policy of the process acts on, as far as its policies say what they heed."""


class Kept(NamedTuple):
    """What a session keeps in memory, in pages."""

    denied_pages: int
    """Kept by EVICTION=DENY."""
    pinned_pages: int
    budget_pages: int
    """May be kept, both ways together."""
    room_pages: int
    """May still be kept now; other sessions may have used the budget that all share."""
    refused_pages: int
    """Asked for EVICTION=DENY beyond the budget, each time that they did; they are evictable."""


@contextlib.contextmanager
def _use_of(region: Region) -> Iterator[None]:
    """A use of the region, whose failure is raised as what it means for the region."""
    try:
        yield
    except UsmError as error:
        raise region.why(error) from None


def _call(method: Callable[Concatenate[Client, _P], _T]) -> Callable[Concatenate[Client, _P], _T]:
    """Have a method that waits for the daemon be interrupted without harm, see lib_usm.calls."""

    @functools.wraps(method)
    def make(self: Client, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        return self._calls.make(functools.partial(method, self, *args, **keywords))

    return make


class Client(Uncopyable):
    """A session; `lib_usm.connect` makes one. Use it from any thread, and close it, or use it as a context manager.

    A client does not survive fork(): in the child each call raises ForkedChild, and `close` leaves the parent's
    session alone. When the session is over each call raises what ended it: SessionKilled, ConnectionLost, ClosedError.
    Calls wait as long as memory takes: only `wait` has a timeout. An interrupt (Ctrl-C, or whatever a signal handler
    raises) ends a call, and neither the session nor its data.
    """

    instead = "connect in the other process, or use this client as it is"

    def __init__(self, address: Address | None = None, *, name: str | None = None) -> None:
        self._where = where = resolve_address(address)
        self._pid = os.getpid()
        self._close_lock = threading.Lock()
        self._closed = False
        self._memory: Memory | None = None
        self._regions: weakref.WeakValueDictionary[int, Region] = weakref.WeakValueDictionary()
        # Regions that were given back without a call, newest last; see `_settle`.
        self._given_back: deque[int] = deque(maxlen=_MAX_GIVEN_BACK)
        self._asyncio_pagers: dict[asyncio.AbstractEventLoop, AsyncioPager] = {}
        check_reachable(where)
        check_room(f"{where} cannot be connected to")
        with contextlib.ExitStack() as undo:
            self._identity = Identity(where)
            undo.callback(self._identity.close)
            label = _encodable(name, "client name", InvalidArgument) if name is not None else default_name()
            ticket = self._identity.ticket
            self._channel, session = forked.guarded(lambda: _attach(where, label, ticket))
            undo.callback(self._channel.close)
            self._limits = Limits(
                session.page_size, session.max_transfer_bytes, session.max_fault_pages, session.max_batch_faults
            )
            self._capacity = session.capacity_bytes
            self._faults = FaultStream(self._channel.open_faults, session.max_batch_faults)
            undo.callback(self._faults.close)
            self._calls = Calls(self._faults.abandon, warn)
            undo.callback(self._calls.stop)
            self._calls.start()
            self.holdings = Holdings(_giver(self._faults, self._given_back))
            """Regions that the daemon keeps for this client."""
            self.why_no_buffer = self._connect_memory(where, session)
            """Empty where regions have a buffer, that is, are mapped into this process; else why not."""
            undo.pop_all()
        self.transfer = Transfer(self._channel, self._faults, self._limits)
        self.address = str(where)
        """Where the daemon listens, as unix:PATH."""
        self.process_id = session.process_id
        """Number of this session in usmctl."""
        self._dropped = weakref.finalize(
            self, _drop, repr(self), self._calls, self._channel, self._faults, self._identity, self._memory
        )
        self._dropped.atexit = False

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closed

    @property
    def ended(self) -> bool:
        """The session is over, by `close` or by what the next call raises."""
        return self._over()

    @property
    def page_size(self) -> int:
        """Bytes in a page."""
        return self._limits.page_size

    @property
    def max_fault_pages(self) -> int:
        """Most pages that one fault may cover."""
        return self._limits.max_fault_pages

    def _connect_memory(self, where: SocketAddress, session: client_pb2.AttachResponse) -> str:
        if session.mechanism != _REAL:
            return f"usmd at {where} has simulated memory; run it with real memory (`usmctl doctor` says if it can)"
        try:
            self._memory = Memory(where, session.session_token)
        except LimitExceeded:
            raise
        except (OSError, UsmError) as error:
            limit = None if isinstance(error, UsmError) else limit_reached(error, f"{where} cannot be connected to")
            if limit is not None:
                raise limit from None
            return f"this process cannot have its page faults served: {error}; `usmctl doctor` says what to do"
        return ""

    @property
    def faults_of_system_calls(self) -> bool:
        """Whether a system call that meets a missing page of a buffer waits for it; else it fails with EFAULT.

        Without that, call `Region.ensure` before a buffer is given to `readinto`, `send` and the like.
        """
        return self._memory is not None and self._memory.way != "user-mode"

    @_call
    def mmap(self, length: SupportsIndex, *, name: str | None = None, reserve: bool = False) -> Region:
        """Make a region of `length` zero bytes; no memory is used until it is touched.

        `name` is for people, at most 64 printable characters. When the session's regions come to more than memory and
        swap together, there is a UserWarning, because pages that are written beyond that cannot be had; with `reserve`
        it is LimitExceeded. Nothing is set aside: other sessions use the same memory and swap. Raises InvalidArgument
        or LimitExceeded.
        """
        self.check_open()
        size = whole(length, "length")
        if not 1 <= size <= sys.maxsize:
            raise InvalidArgument(f"a region of {size} bytes cannot be made; allowed is 1 to {sys.maxsize}")
        label = _encodable("" if name is None else name, "region name", InvalidArgument)
        too_much = self._too_much(size)
        if too_much and reserve:
            raise LimitExceeded(f"{too_much}; make fewer or smaller regions, or give usmd more swap")
        self._settle()
        message = self._channel.call(self._channel.stub.MapRegion, client_pb2.MapRegionRequest(length=size, name=label))
        mapping = None
        if self._memory is not None:
            try:
                mapping = self._memory.map(message.region_id, message.length, message.page_count)
            except UsmError:  # some of which are OSErrors
                self._unmap(message.region_id)
                self.check_open()  # another thread may have closed the client, which says more
                raise
            except OSError as error:
                self._unmap(message.region_id)
                doing = f"a region of {size} bytes cannot be mapped"
                raise limit_reached(error, doing, size) or LimitExceeded(f"{doing}: {error}") from None
            mapping.memory.session = self
        region = Region(self, message, self.page_size, mapping)
        if mapping is not None and self._identity.descriptor >= 0:
            whose = f"{region!r} of process {self.process_id}"
            mapping.explain_sigbus(self.page_size, self._identity.descriptor, whose)
        self.holdings.keep(region.region_id, repr(region), region if mapping is None else mapping.memory)
        with self._close_lock:
            closed = self._closed
            self._regions[region.region_id] = region
        if closed:
            region.let_go()
            raise ClosedError(f"the client of {self.address} was closed")
        if too_much:
            warn(f"{too_much}: what is written beyond that cannot be kept")
        return region

    def _settle(self) -> None:
        """Wait until the daemon has unmapped what was dropped before: its memory and swap are free for what follows."""
        while self._given_back and not self._over():
            with contextlib.suppress(IndexError, NotFound):
                self._unmap(self._given_back.popleft())

    def _too_much(self, size: int) -> str:
        """What to say of another region of `size` bytes: empty when memory and swap can hold the session's regions."""
        capacity = self._capacity
        mapped = sum(region.page_count for region in list(self._regions.values()) if not region.closed)
        total = (mapped + -(-size // self.page_size)) * self.page_size
        if not capacity or total <= capacity:
            return ""
        return (
            f"with a region of {_size(size)} this session maps {_size(total)}, and usmd at {self.address} has "
            f"memory and swap for {_size(capacity)}, which all sessions share"
        )

    @_call
    def usm_hint(
        self, region: Region, text: str, offset: SupportsIndex = 0, length: SupportsIndex | None = None
    ) -> Hint:
        """Say something about `length` bytes from `offset` on (None: to the end), e.g. "PRIORITY=HIGH; FHP=64KiB".

        The newest hint on a byte replaces the older ones; empty text removes them. Raises InvalidHint, which names the
        key, the value and what is allowed, or OutOfRange. Issues a UserWarning for a key that no policy of the process
        acts on, and for resident pages that EVICTION=DENY cannot keep within the budget. Pages that come in later and
        find no budget left are told of by a UserWarning of the session's next call; `kept` says how things stand.
        """
        self._check_own(region)
        start, n = _not_empty(region, offset, length)
        request = client_pb2.HintRegionRequest(
            region_id=region.region_id, offset=start, length=n, text=_encodable(text, "hint", InvalidHint)
        )
        with _use_of(region):
            answer = self._channel.call(self._channel.stub.HintRegion, request)
        unheeded = tuple(answer.unheeded_keys)
        if unheeded:
            warn(
                f"no policy of this process acts on {' or '.join(unheeded)} of the hint {text!r} on {region!r}; "
                "`usmctl policies` shows which there are, `usmctl policy set` gives the process others"
            )
        if answer.over_budget_pages:
            warn_over_budget(answer.over_budget_pages)
        return Hint(answer.hint_id, answer.first_page, answer.page_count, answer.over_budget_pages, unheeded)

    @_call
    def kept(self) -> Kept:
        """What this session keeps in memory by EVICTION=DENY and by pins, of the budget that both share."""
        self.check_open()
        answer = self._channel.call(self._channel.stub.GetKept, client_pb2.GetKeptRequest())
        return Kept(
            answer.denied_pages, answer.pinned_pages, answer.budget_pages, answer.room_pages, answer.refused_pages
        )

    def fault(
        self, region: Region, offset: SupportsIndex, n: SupportsIndex, *, write: bool = False, wait: bool = True
    ) -> Outcome:
        """Make the pages of the `n` bytes from `offset` on resident, at most `max_fault_pages` of them.

        With `wait` it returns Allocated when they are. Without, it returns as soon as the daemon answers: Allocated,
        or Yielded, whose token is for `wait`. `write` says that a write will follow. Raises OutOfRange, OutOfMemory,
        DataLoss, SwapIOError or Unmapped.
        """
        self._check_own(region)
        first_page, page_count = region.pages(*_not_empty(region, offset, n))
        fault_range = self._fault_range(region, first_page, page_count)
        answer = self._answers([fault_range], write, yields=not wait)[0]
        if isinstance(answer, UsmError):
            raise region.why(answer)
        return answer if isinstance(answer, Yielded) else allocated(answer)

    def fault_many(
        self, requests: Iterable[tuple[Region, SupportsIndex, SupportsIndex]], write: bool = False
    ) -> list[Allocated | UsmError]:
        """Fault in page ranges (region, first page, number of pages), in one batch, and wait for all of them.

        Returns an entry for each request, in order: Allocated, or the error of that fault, which is not raised.
        """
        self.check_open()
        ranges: list[FaultRange] = []
        last: Region | None = None
        for request in requests:
            try:
                region, first_page, page_count = request
            except (TypeError, ValueError):
                raise WrongType(
                    f"{shown(request)} is no request; (region, first page, number of pages) is needed"
                ) from None
            if region is not last or region is None:
                self._check_own(region)
                last = region
            ranges.append(self._fault_range(region, *_pages(region, first_page, page_count, least=1)))
        return cast(
            "list[Allocated | UsmError]", self._answers(ranges, write)
        )  # a batch that waits through yields has none

    def wait(self, token: SupportsIndex, timeout: SupportsFloat | SupportsIndex | None = None) -> Allocated:
        """Wait for the fault that yielded `token`, at most `timeout` seconds; the token is then used up.

        Raises the error of the fault, UnknownToken, or WaitTimeout, after which the token may be waited for again. Of
        yields that nobody waits for the newest 65,536 are remembered.
        """
        self.check_process()
        number, limit = whole(token, "token"), seconds(timeout, "timeout")
        batch = self._calls.make(
            lambda: self._faults.take(number, limit), lambda taken: self._faults.put_back(number, taken)
        )
        return allocated(batch.results()[0])

    def close(self) -> None:
        """End the session: its regions and all their bytes are given back. May be called again."""
        if os.getpid() != self._pid:
            # Only these copies of the descriptors are ours; by them the daemon would miss the parent's death.
            self._identity.close()
            if self._memory is not None:
                self._memory.close()
            return
        if sys.is_finalizing():
            self._closed = True
            if self._dropped.detach() is not None:
                _hang_up(self._calls, self._faults, self._identity)  # threads that others would wait for have ended
            return
        try:
            self._calls.make(self._close)
        except LimitExceeded:
            self._close()  # no thread can be started, or not any more, as the program ends
        self._calls.stop()

    def _close(self) -> None:
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            regions = list(self._regions.values())
        self._dropped.detach()
        in_use = self._let_go(regions)
        if self._faults.end is None:
            # A daemon that does not answer ends the session all the same, when the stream goes.
            with contextlib.suppress(UsmError):
                self._channel.call(
                    self._channel.stub.Detach, client_pb2.DetachRequest(), timeout=_DETACH_TIMEOUT_SECONDS
                )
        for pager in self._asyncio_pagers.values():
            pager.close()
        self._faults.close()
        self._channel.close()
        self._identity.close()
        if in_use:
            session_ended(self)
            # Without the descriptors the arrays would be zeros.
            if self._memory is not None:
                self._memory.leave_open()
            warn(
                f"arrays or memoryviews of {', '.join(in_use)} are in use, and a touch of them is SIGBUS from now on; "
                "delete them before the client is closed"
            )
        elif self._memory is not None:
            self._memory.close()

    def _let_go(self, regions: Iterable[Region]) -> list[str]:
        """Unmap regions from this process, because the session ends; returns names of those that stay, being in use."""
        reading = []
        for region in regions:
            mapping = region.mapping
            region.let_go()
            if mapping is not None and not mapping.lent:
                reading.append(region.region_id)
            elif mapping is None:
                self.holdings.take(region.region_id)
        # Another thread may be in the middle of a copy, which must not outlive the session.
        self.holdings.wait_for(reading, _COPY_TIMEOUT_SECONDS)
        return self.holdings.names()

    def open_pager(self) -> tuple[MessageStream, Pager]:
        """A fault stream with a connection of its own, for one scheduler; it ends with the session. Raises UsmError."""
        self.check_open()
        stream = MessageStream(str(self._where.path), _STREAM_METHOD, self._channel.metadata)
        return stream, Pager(stream, self._limits.max_batch_faults)

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
            pager = self._asyncio_pagers[loop] = AsyncioPager(self, loop)
        return pager

    @_call
    def load(self, region: Region, offset: SupportsIndex, n: SupportsIndex) -> bytes:
        """Return bytes of a region that has no buffer; `Region.read` calls it."""
        start, length = region.byte_range(offset, n)
        try:
            return self.transfer.load(region.region_id, region.table, start, length)
        except UsmError as error:
            raise region.why(error) from None

    @_call
    def store(self, region: Region, offset: SupportsIndex, data: memoryview) -> None:
        """Store bytes into a region that has no buffer; `Region.write` calls it."""
        start, _ = region.byte_range(offset, len(data))
        try:
            self.transfer.store(region.region_id, region.table, start, data)
        except UsmError as error:
            raise region.why(error) from None

    def ensure(
        self, region: Region, first_page: SupportsIndex, page_count: SupportsIndex, *, write: bool = False
    ) -> None:
        """Make pages of `region` resident; `Region.ensure` calls it. `write` says that a write will follow."""
        self._check_own(region)
        longest = self._limits.max_fault_pages
        ranges = [
            self._fault_range(region, page, count)
            for page, count in region.absent_runs(*_pages(region, first_page, page_count), longest)
        ]
        if ranges:
            for answer in self._answers(ranges, write):
                if isinstance(answer, UsmError):
                    raise region.why(answer)

    @_call
    def _answers(self, ranges: list[FaultRange], write: bool, yields: bool = False) -> list[Answer]:
        """Fault, and wait for the answers."""
        batch = self._faults.file(ranges, write, yields)
        self._faults.wait(batch)
        return batch.results()

    def call(self, function: Callable[[], None]) -> None:
        """Call a function that an interrupt must not stop in the middle, see lib_usm.calls."""
        self._calls.make(function)

    def pin(self, region: Region, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """Have pages stay in memory; `Region.pin` calls it."""
        self._check_own(region)
        page, n = _pages(region, first_page, page_count)
        self._calls.make(lambda: self._pin(region, page, n), lambda _: self.unpin(region, page, n))

    def _pin(self, region: Region, page: int, n: int) -> None:
        for first, count in self._parts(page, n):
            try:
                self._pin_part(region, first, count, page + n - first)
            except BaseException:
                self.unpin(region, page, first - page)
                raise

    async def pin_async(self, region: Region, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """As `pin`, and others run while pages come; `Region.pin_async` calls it."""
        self._check_own(region)
        page, n = _pages(region, first_page, page_count)
        for first, count in self._parts(page, n):
            try:
                await self._pin_part_async(region, first, count, page + n - first)
            except BaseException:
                self.unpin(region, page, first - page)
                raise

    def _pin_part(self, region: Region, first: int, count: int, planned: int) -> None:
        for _ in range(_MAX_PIN_ROUNDS):
            if self._pin_resident(region, first, count, planned):
                return
            self.ensure(region, first, count)
        if self._pin_resident(region, first, count, planned):
            return
        raise _not_together(region, first, count)

    async def _pin_part_async(self, region: Region, first: int, count: int, planned: int) -> None:
        for _ in range(_MAX_PIN_ROUNDS):
            if self._pin_resident(region, first, count, planned):
                return
            await region.ensure_pages_async(first, count)
        if self._pin_resident(region, first, count, planned):
            return
        raise _not_together(region, first, count)

    def _pin_resident(self, region: Region, first: int, count: int, planned: int) -> bool:
        """Pin pages if all are resident; False, and nothing is pinned, if some are not.

        Raises LimitExceeded if the budget has no room for the `planned` pages from `first` on: before any comes in.
        """
        self._check_own(region)
        request = client_pb2.PinRegionRequest(
            region_id=region.region_id, first_page=first, page_count=count, planned_page_count=planned
        )
        with _use_of(region):
            absent = self._channel.call(self._channel.stub.PinRegion, request).absent_pages
        for page in absent:
            region.table.clear(page)
        return not absent

    @_call
    def unpin(self, region: Region, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """End a pin; with an ended session, or a closed region, there is none."""
        for first, count in self._parts(*_pages(region, first_page, page_count)):
            if self._over() or region.closed:
                return
            request = client_pb2.UnpinRegionRequest(region_id=region.region_id, first_page=first, page_count=count)
            self._channel.call(self._channel.stub.UnpinRegion, request)

    def _parts(self, first_page: int, page_count: int) -> list[tuple[int, int]]:
        """A range of pages in parts that one call takes."""
        longest, end = self._limits.max_fault_pages, first_page + page_count
        return [(page, min(longest, end - page)) for page in range(first_page, end, longest)]

    def _over(self) -> bool:
        return self._closed or self._channel.killed is not None or self._faults.end is not None

    @_call
    def unmap(self, region: Region, memory: weakref.ref[MappedBytes] | None = None) -> None:
        """Give `region` back, which holds no longer; `Region.close` calls it.

        While another thread still copies out of its `memory`, that is put off to the end of the copy. With an ended
        session there is nothing left to give back.
        """
        if memory is None or memory() is None or not self.holdings.put_back(region.region_id, repr(region), memory):
            self._unmap(region.region_id)

    def _unmap(self, region_id: int) -> None:
        if not self._over():
            self._channel.call(self._channel.stub.UnmapRegion, client_pb2.UnmapRegionRequest(region_id=region_id))

    def check_open(self) -> None:
        """Raise ForkedChild, ClosedError, or what ended the session; nothing while the session lives."""
        self.check_process()
        end = self._channel.killed or self._faults.end
        if self._closed:  # looked at last, for a close ends the rest as well
            raise ClosedError(f"the client of {self.address} was closed")
        if end is not None:
            raise again(end)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Warning:
            if error is None:
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<Client {self.process_id} of {self.address}{', closed' if self._closed else ''}>"

    def check_process(self) -> None:
        """Raise ForkedChild in a process that did not make the client."""
        if os.getpid() != self._pid:
            raise ForkedChild(
                f"this client was made by process {self._pid} before fork(); "
                "in the child (as with multiprocessing's fork method) make one of its own, or start children by spawn"
            )

    def _check_own(self, region: Region) -> None:
        if not isinstance(region, Region):
            raise WrongType(f"{shown(region)} is no region; use one that `mmap` of this client gave")
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


def _drop(
    name: str, calls: Calls, channel: SessionChannel, faults: FaultStream, identity: Identity, memory: Memory | None
) -> None:
    """End the session of a client that nothing refers to any more, without waiting, in the middle of anything."""
    over = faults.end is not None or channel.killed is not None
    _hang_up(calls, faults, identity)
    if memory is not None:
        memory.close()
    if not over:
        warnings.warn(f"{name} was not closed; close it, or use it in a `with` block", ResourceWarning, stacklevel=2)


def _attach(where: SocketAddress, name: str, ticket: str) -> tuple[SessionChannel, client_pb2.AttachResponse]:
    """Begin a session. Raises what `SessionChannel.attach` does."""
    channel = SessionChannel(where)
    try:
        return channel, channel.attach(name, ticket)
    except BaseException:
        channel.close()
        raise


def _hang_up(calls: Calls, faults: FaultStream, identity: Identity) -> None:
    """End a session without waiting."""
    calls.stop()
    faults.hang_up()
    identity.close()


def _giver(faults: FaultStream, given_back: deque[int]) -> Callable[[int], None]:
    """What gives regions back without a call, and notes them; it does not refer to the client, which may then go."""

    def give_back(region_id: int) -> None:
        faults.give_back(region_id)
        given_back.append(region_id)

    return give_back


def default_name() -> str:
    """Name of the running program without suffix, or "python"; policies may be assigned by it."""
    stem = Path(sys.argv[0] if sys.argv else "").stem
    printable = "".join(character for character in stem if character.isprintable())[:_MAX_NAME_CHARACTERS]
    return "python" if not printable or printable.startswith("-") else printable


def _not_empty(region: Region, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
    """A range of at least 1 byte, `n` None: to the end. Raises WrongType and OutOfRange."""
    start, length = region.byte_range(offset, n)
    if not length:
        raise OutOfRange(f"0 bytes at offset {start} are no range; at least 1 byte is needed")
    return start, length


def _pages(region: Region, first_page: SupportsIndex, page_count: SupportsIndex, *, least: int = 0) -> tuple[int, int]:
    """A range of at least `least` pages. Raises WrongType and OutOfRange."""
    first, count = whole(first_page, "first page"), whole(page_count, "number of pages")
    if not (0 <= first <= region.page_count and least <= count <= region.page_count - first):
        raise OutOfRange(
            f"a range of {counted(count, 'page')} from page {first} on does not lie in the region, which has "
            f"{counted(region.page_count, 'page')}"
        )
    return first, count


def _not_together(region: Region, first: int, count: int) -> Thrashing:
    return Thrashing(
        f"pages {first} to {first + count - 1} of {region!r} are not in memory together, {_MAX_PIN_ROUNDS} times "
        "tried; the daemon needs more memory, or pin less"
    )


def _encodable(text: str, what: str, error: type[UsmError]) -> str:
    if not isinstance(text, str):
        raise error(f"{what} {text!r} is {kind_of(text)}; a str is needed")
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise error(f"{what} {text!r} cannot be encoded as UTF-8: {cause.reason}") from None
    return text


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
