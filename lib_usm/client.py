"""The objects that applications hold: Client, a session with the daemon, and Region.

lib_usm.session has the session, lib_usm.paging the way pages are brought in, lib_usm.region what a region does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import SupportsFloat, SupportsIndex, cast

from lib_usm import pins, steps
from lib_usm.arguments import check_function, encodable, seconds, share, shown, whole
from lib_usm.errors import (
    ClosedError,
    InvalidArgument,
    InvalidHint,
    LimitExceeded,
    NotFound,
    OutOfRange,
    UnknownToken,
    UsmError,
    WaitTimeout,
    WrongType,
)
from lib_usm.hints import Hint, Kept, ask_kept, give_hint
from lib_usm.limits import limit_reached
from lib_usm.mapping import Mapping
from lib_usm.outcomes import Allocated, Outcome, Yielded, allocated
from lib_usm.paging import PagingSession, page_range
from lib_usm.pin import Pin, PinAsync
from lib_usm.pressure import Pressure
from lib_usm.region import RegionBytes
from lib_usm.session import interruptible
from lib_usm.session_events import at_home
from lib_usm.user_warnings import warn
from lib_usm.waits import FaultRange
from usm_wire.pb.usm.v1 import client_pb2


class Client(PagingSession):
    """A session, made by `lib_usm.connect`. Any thread may use it. Close it, or use it as a context manager.

    A client does not survive fork(): in the child each call raises ForkedChild, and `close` leaves the parent's session
    alone. After the session has ended, each call raises the reason: SessionKilled, ConnectionLost, ClosedError. Calls
    wait without a time limit; only `wait` has a timeout. An interrupt (Ctrl-C, or any exception of a signal handler)
    ends the call, and neither the session nor its data.
    """

    @interruptible
    def mmap(
        self, length: SupportsIndex, *, name: str | None = None, reserve: bool = False, fhp: str | None = None
    ) -> Region:
        """Make a region of `length` zero bytes; it uses no memory until it is touched.

        `fhp`: bytes that a fault brings in, as in the hint `FHP=`, for example "128K", or "AUTO"; None: no hint.
        `name` is for operators, at most 64 printable characters. If the session's regions together exceed memory and
        swap, mmap issues a UserWarning, because pages written beyond that cannot be kept; with `reserve` it raises
        LimitExceeded instead. Nothing is set aside: all sessions share memory and swap. Raises InvalidArgument,
        LimitExceeded, and InvalidHint for an `fhp` that is not allowed.
        """
        self.check_open()
        size = whole(length, "length")
        if not 1 <= size <= sys.maxsize:
            raise InvalidArgument(f"a region of {size} bytes cannot be made; allowed is 1 to {sys.maxsize}")
        label = encodable("" if name is None else name, "region name", InvalidArgument)
        hint = "" if fhp is None else f"FHP={encodable(fhp, 'fhp', InvalidHint)}"
        if ";" in hint:
            raise InvalidHint(f"fhp={fhp!r} is not allowed; allowed is a size such as 64K, or AUTO")
        too_much = self._too_much(size)
        if too_much and reserve:
            raise LimitExceeded(f"{too_much}; make fewer or smaller regions, or give usmd more swap")
        self._settle()
        message = self.channel.call(self.channel.stub.MapRegion, client_pb2.MapRegionRequest(length=size, name=label))
        mapping = None
        if self._memory is not None:
            try:
                mapping = self._memory.map(message.region_id, message.length, message.page_count)
            except UsmError:  # before OSError, because some UsmErrors are OSErrors
                self._unmap(message.region_id)
                self.check_open()  # if another thread has closed the client, that is the better error
                raise
            except OSError as error:
                self._unmap(message.region_id)
                doing = f"a region of {size} bytes cannot be mapped"
                raise limit_reached(error, doing, size) or LimitExceeded(f"{doing}: {error}") from None
            mapping.memory.session = self
        region = Region(self, message, mapping)
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
        if hint:
            try:
                give_hint(self.channel, region.region_id, repr(region), hint, 0, size)
            except BaseException:  # raised again; there is no region without what was asked for
                region.close()
                raise
        return region

    def _settle(self) -> None:
        """Wait until the daemon has unmapped the regions dropped before, so that their memory and swap are free."""
        while self._given_back and not self._over():
            with contextlib.suppress(IndexError, NotFound):
                self._unmap(self._given_back.popleft())

    def _too_much(self, size: int) -> str:
        """The warning about another region of `size` bytes; empty if memory and swap can hold the session's regions."""
        capacity = self._capacity
        mapped = sum(region.page_count for region in list(self._regions.values()) if not region.closed)
        total = (mapped + -(-size // self.page_size)) * self.page_size
        if not capacity or total <= capacity:
            return ""
        return (
            f"with a region of {_size(size)} this session maps {_size(total)}, and usmd at {self.address} has "
            f"memory and swap for {_size(capacity)}, which all sessions share"
        )

    @interruptible
    def usm_hint(
        self, region: Region, text: str, offset: SupportsIndex = 0, length: SupportsIndex | None = None
    ) -> Hint:
        """Give a hint on `length` bytes from `offset` (None: to the end), e.g. "PRIORITY=HIGH; FHP=64KiB".

        The newest hint on a byte replaces older ones; empty text removes them. Raises OutOfRange, and InvalidHint,
        which names the key, the value and the allowed values. Issues a UserWarning for a key that no policy of the
        process acts on, and for resident pages that EVICTION=DENY cannot keep within the budget. If pages that are
        brought in later exceed the budget, the session's next call issues a UserWarning. `kept` returns the current
        counts.
        """
        self._check_own(region)
        start, n = _not_empty(region, offset, length)
        with _use_of(region):
            return give_hint(self.channel, region.region_id, repr(region), text, start, n)

    @interruptible
    def kept(self) -> Kept:
        """Pages that EVICTION=DENY and pins keep in memory, and the budget that both share."""
        self.check_open()
        return ask_kept(self.channel)

    def on_draining(self, callback: Callable[[float], object]) -> None:
        """Call `callback(seconds)` once if usmd is about to end all sessions, `seconds` before it does.

        That is when notice is given by `usmctl drain --notice` or `server.drain_notice`; without one the session ends
        at once. Until then everything works, except that no new session begins: save what must outlive usmd. If the
        notice has been given already, `callback` is called at once. A notice that is cut short is not told again.

        Where it is called: if this is called in a task of asyncio, in its loop, as by `call_soon`. If in a uThread, as
        another uThread of its LocalManager, while that runs. Else on a thread of lib_usm for that alone, named
        usm-events, which may take its time, use regions, spawn uThreads, and close the client. An exception there is
        reported by `threading.excepthook`. `callback` is kept until the session ends. Raises InvalidArgument for what
        cannot be called or is a coroutine function, and LimitExceeded if there is no descriptor or thread for this.
        """
        check_function(callback)
        home = at_home(callback)
        self.call(lambda: self._hear_draining(home))

    def on_pressure(self, callback: Callable[[Pressure], object], threshold: SupportsFloat = 0.5) -> None:
        """Call `callback(pressure)` whenever faults of this client wait much, and when they do no more.

        `threshold`: share of time, above 0 and up to 1. The callback is called when faults of the client have waited
        for so much of the last 10 seconds (`pressure.above`), and again when it is less than three quarters of that.
        `pressure.some` and `pressure.full` say how much it is then. It is a moment to work on less data at a time, or
        to hint what may go (`EVICTION=ALLOW`, `DONTNEED`). docs/monitoring.md says what counts.

        Where it is called, how long it is kept, and what is raised: as of `on_draining`. A client may have 16 different
        thresholds, each with any number of callbacks.
        """
        check_function(callback)
        part = share(threshold, "threshold")
        home = at_home(callback)
        self.call(lambda: self._hear_pressure(home, part))

    def _hear_pressure(self, callback: Callable[[Pressure], object], threshold: float) -> None:
        self.check_open()
        ask_kept(self.channel)  # as for `_hear_draining`
        self._events.on_pressure(callback, threshold)

    def _hear_draining(self, callback: Callable[[float], object]) -> None:
        self.check_open()
        ask_kept(self.channel)  # once this is answered, the daemon has the session's own stream, which must come first
        self._events.on_draining(callback)

    def fault(
        self, region: Region, offset: SupportsIndex, n: SupportsIndex, *, write: bool = False, wait: bool = True
    ) -> Outcome:
        """Make the pages of `n` bytes from `offset` resident, at most `max_fault_pages` pages.

        With `wait`, returns Allocated once they are resident. Without, returns the daemon's answer at once: Allocated,
        or Yielded, whose token is for `wait`. `write`: the caller will write to them. Raises OutOfRange, OutOfMemory,
        DataLoss, SwapIOError or Unmapped.
        """
        self._check_own(region)
        first_page, page_count = region.pages(*_not_empty(region, offset, n))
        fault_range = self._fault_range(region, first_page, page_count)
        answer = self.threads.run(lambda place: steps.faults(place, [fault_range], write=write, yields=not wait))[0]
        if isinstance(answer, UsmError):
            raise region.why(answer)
        return answer if isinstance(answer, Yielded) else allocated(answer)

    def fault_many(
        self, requests: Iterable[tuple[Region, SupportsIndex, SupportsIndex]], write: bool = False
    ) -> list[Allocated | UsmError]:
        """Fault in page ranges (region, first page, number of pages) in one batch, and wait for all.

        Returns one entry for each request, in order: Allocated, or the error of that fault, which is not raised.
        """
        self.check_open()
        ranges: list[FaultRange] = []
        last: Region | None = None
        for request in requests:
            try:
                region, first_page, page_count = request
            except (TypeError, ValueError):
                raise WrongType(
                    f"{shown(request)} is not a request; (region, first page, number of pages) is needed"
                ) from None
            if region is not last or region is None:
                self._check_own(region)
                last = region
            if type(first_page) is type(page_count) is int and page_count == 1 and 0 <= first_page < region.page_count:
                ranges.append((region.table, region.region_id, first_page, 1))  # the usual case, in a third of the time
            else:
                ranges.append(self._fault_range(region, *page_range(region, first_page, page_count, least=1)))
        return cast(
            "list[Allocated | UsmError]",
            self.threads.run(lambda place: steps.faults(place, ranges, write=write, yields=False)),
        )  # no Yielded, because the batch waits for its yields

    def wait(self, token: SupportsIndex, timeout: SupportsFloat | SupportsIndex | None = None) -> Allocated:
        """Wait for the fault that yielded `token`, at most `timeout` seconds. The token can be used once.

        Raises the error of the fault, UnknownToken, or WaitTimeout, after which the token is still valid. The newest
        65,536 yields without a `wait` are kept.
        """
        self.check_process()
        number, limit = whole(token, "token"), seconds(timeout, "timeout")
        try:
            return self.threads.run(lambda place: steps.completion(place, number), limit)
        except UnknownToken:
            self.check_open()  # if the session has ended, that is the better error
            raise
        except TimeoutError as error:
            if isinstance(error, UsmError):
                raise
            text = f"the fault of token {number} was not completed within {limit} s; wait for it again"
            raise WaitTimeout(text) from None

    def pin(self, region: RegionBytes, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """Keep pages in memory; `Region.pin` calls this."""
        self._check_own(region)
        pins.pin(region, *page_range(region, first_page, page_count))

    async def pin_async(self, region: RegionBytes, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """As `pin`, while other tasks run; `Region.pin_async` calls this."""
        self._check_own(region)
        await pins.pin_async(region, *page_range(region, first_page, page_count))

    def unpin(self, region: RegionBytes, first_page: SupportsIndex, page_count: SupportsIndex) -> None:
        """End a pin. Does nothing if the session has ended or the region is closed."""
        pins.unpin(region, *page_range(region, first_page, page_count))


class Region(RegionBytes):
    """A region, made by `Client.mmap`. Bytes are zero until written; indexes and slices work as for a bytearray.

    An integer may be of any type that Python accepts as an index, NumPy's too; a float raises WrongType. Any thread may
    call each method. In addition to the errors named, each raises ClosedError after `close`, and the reason for the
    session's end (SessionKilled, ConnectionLost, ...) after that.
    """

    def __init__(self, client: Client, message: client_pb2.Region, mapping: Mapping | None) -> None:
        super().__init__(client, message, mapping)
        self._client = client

    @property
    def client(self) -> Client:
        """The client that made the region."""
        return self._client

    def hint(self, text: str, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> Hint:
        """Give a hint on the `n` bytes (None: to the end) from `offset`; see Client.usm_hint."""
        return self._client.usm_hint(self, text, offset, n)

    def pin(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> Pin:
        """Keep the pages of the `n` bytes (None: to the end) from `offset` in memory, from now on.

        The pin ends with a `with` block of the returned object, else with its `release` or the region. Raises
        LimitExceeded if the budget, which EVICTION=DENY shares, is too small, and the errors of `ensure`.
        """
        first_page, page_count = self.page_range(offset, n)
        self._client.pin(self, first_page, page_count)
        return Pin(self, first_page, page_count)

    def pin_async(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> PinAsync:
        """As `pin`, for a coroutine: `async with region.pin_async(...)`, or `await`. Other tasks run while it waits."""
        first_page, page_count = self.page_range(offset, n)
        self.check_open()
        return PinAsync(self, first_page, page_count)

    def evict(self, offset: SupportsIndex = 0, n: SupportsIndex | None = None) -> None:
        """Ask for the eviction of the pages of the `n` bytes (None: to the end) from `offset`, without waiting for it.

        No byte is lost. Pages that are pinned, unevictable, or about to be used stay.
        """
        start, length = self.byte_range(offset, n)
        if length:
            self._client.usm_hint(self, "DONTNEED", start, length)


@contextlib.contextmanager
def _use_of(region: Region) -> Iterator[None]:
    """A use of the region: converts its errors with `region.why`."""
    try:
        yield
    except UsmError as error:
        raise region.why(error) from None


def _not_empty(region: Region, offset: SupportsIndex, n: SupportsIndex | None) -> tuple[int, int]:
    """A range of at least 1 byte; `n` None: to the end. Raises WrongType and OutOfRange."""
    start, length = region.byte_range(offset, n)
    if not length:
        raise OutOfRange(f"0 bytes at offset {start} are not a range; at least 1 byte is needed")
    return start, length


def _size(count: int) -> str:
    """Bytes for people."""
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
