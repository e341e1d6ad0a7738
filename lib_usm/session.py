"""A session with the daemon: its connections, the regions that it keeps, and its end.

lib_usm.paging brings in pages. lib_usm.client makes regions.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar

from lib_usm import forked
from lib_usm.address import Address, SocketAddress, resolve_address
from lib_usm.arguments import encodable
from lib_usm.calls import Calls
from lib_usm.channel import SessionChannel
from lib_usm.errors import (
    ClosedError,
    ForkedChild,
    InvalidArgument,
    LimitExceeded,
    UsmError,
    again,
)
from lib_usm.holdings import Holdings
from lib_usm.identity import Identity
from lib_usm.limits import check_room, limit_reached
from lib_usm.mapping import MappedBytes, Mapping, session_ended
from lib_usm.memory import Memory
from lib_usm.reach import check_reachable
from lib_usm.session_stream import SessionStream
from lib_usm.transfer import Limits, Window
from lib_usm.uncopyable import Uncopyable
from lib_usm.user_warnings import warn
from usm_wire.pb.usm.v1 import client_pb2

_P = ParamSpec("_P")
_SessionT = TypeVar("_SessionT", bound="Session")
_T = TypeVar("_T")
_DETACH_TIMEOUT_SECONDS = 5.0
_COPY_TIMEOUT_SECONDS = 1.0
# Most regions given back without a call that `_settle` waits for.
_MAX_GIVEN_BACK = 64
_MAX_NAME_CHARACTERS = 64
_REAL = "userfaultfd"


class SessionRegion(Protocol):
    """The part of a region that a session needs to end it."""

    region_id: int

    @property
    def closed(self) -> bool:
        """True if it was given back."""

    @property
    def page_count(self) -> int:
        """Number of its pages."""

    @property
    def mapping(self) -> Mapping | None:
        """Its mapping into this process; None if it is not mapped."""

    def let_go(self) -> None:
        """Refuse all further use."""


def interruptible(method: Callable[Concatenate[_SessionT, _P], _T]) -> Callable[Concatenate[_SessionT, _P], _T]:
    """Make a method that waits for the daemon safe to interrupt; see lib_usm.calls."""

    @functools.wraps(method)
    def make(self: _SessionT, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        return self.call(functools.partial(method, self, *args, **keywords))

    return make


class Session(Uncopyable):
    """The base of lib_usm.Client, which describes threads, fork() and interrupts."""

    instead = "connect in the other process, or use this client as it is"

    def __init__(
        self,
        address: Address | None = None,
        *,
        name: str | None = None,
        alloc: str | None = None,
        evict: str | None = None,
    ) -> None:
        self._where = where = resolve_address(address)
        self._pid = os.getpid()
        self._close_lock = threading.Lock()
        self._closed = False
        self._memory: Memory | None = None
        self._regions: weakref.WeakValueDictionary[int, SessionRegion] = weakref.WeakValueDictionary()
        # Regions given back without a call, newest last; see `_settle`.
        self._given_back: deque[int] = deque(maxlen=_MAX_GIVEN_BACK)
        check_reachable(where)
        check_room(f"{where} cannot be connected to")
        with contextlib.ExitStack() as undo:
            self._identity = Identity(where)
            undo.callback(self._identity.close)
            label = encodable(name, "client name", InvalidArgument) if name is not None else default_name()
            policies = [_policy("alloc", alloc), _policy("evict", evict)]
            ticket = self._identity.ticket
            self.channel, session = forked.guarded(lambda: _attach(where, label, ticket, *policies))
            undo.callback(self.channel.close)
            self.limits = Limits(
                session.page_size, session.max_transfer_bytes, session.max_fault_pages, session.max_batch_faults
            )
            self.window = Window(self.limits)
            """Pages that loads and stores fault ahead."""
            self._capacity = session.capacity_bytes
            self._stream = self.channel.open_stream()
            undo.callback(self._stream.close)
            self._calls = Calls(warn)
            undo.callback(self._calls.stop)
            self._calls.start()
            self.holdings = Holdings(_giver(self._stream, self._given_back))
            """Regions that the daemon keeps for this client."""
            self.why_no_buffer = self._connect_memory(where, session)
            """Why regions have no buffer, that is, are not mapped into this process; empty if they have one."""
            undo.pop_all()
        self.address = str(where)
        """The daemon's address as unix:PATH."""
        self.process_id = session.process_id
        """Number of this session in usmctl."""
        self._dropped = weakref.finalize(
            self, _drop, repr(self), self._calls, self.channel, self._stream, self._identity, self._memory
        )
        self._dropped.atexit = False

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    @property
    def ended(self) -> bool:
        """True if the session has ended, by `close` or by an error that the next call raises."""
        return self._over()

    @property
    def page_size(self) -> int:
        """Bytes in a page."""
        return self.limits.page_size

    @property
    def max_fault_pages(self) -> int:
        """Most pages that one fault may cover."""
        return self.limits.max_fault_pages

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
        """True if a system call that touches a missing page of a buffer waits for it; if false, it fails with EFAULT.

        If false, call `Region.ensure` before a buffer is passed to `readinto`, `send` and the like.
        """
        return self._memory is not None and self._memory.way != "user-mode"

    def close(self) -> None:
        """End the session, and give back its regions with all their bytes. May be called again."""
        if os.getpid() != self._pid:
            # Close only this process's copies of the descriptors, which would hide the parent's death from the daemon.
            self._identity.close()
            if self._memory is not None:
                self._memory.close()
            return
        if sys.is_finalizing():
            self._closed = True
            if self._dropped.detach() is not None:
                _hang_up(self._calls, self._stream, self._identity)  # the threads that could make calls have ended
            return
        try:
            self._calls.make(self._close)
        except LimitExceeded:
            self._close()  # no thread can be started, for example because the program ends
        self._calls.stop()

    def _close(self) -> None:
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            regions = list(self._regions.values())
        self._dropped.detach()
        in_use = self._let_go(regions)
        self._end_streams()
        if self._stream.end is None:
            # If the daemon does not answer, the session ends with the stream.
            with contextlib.suppress(UsmError):
                self.channel.call(self.channel.stub.Detach, client_pb2.DetachRequest(), timeout=_DETACH_TIMEOUT_SECONDS)
        self._stream.close()
        self.channel.close()
        self._identity.close()
        if in_use:
            session_ended(self)
            # If the descriptors were closed, the arrays would read as zeros.
            if self._memory is not None:
                self._memory.leave_open()
            warn(
                f"arrays or memoryviews of {', '.join(in_use)} are in use, and a touch of them is SIGBUS from now on; "
                "delete them before the client is closed"
            )
        elif self._memory is not None:
            self._memory.close()

    def _end_streams(self) -> None:
        """End the streams beside the session's own, and the waits on them."""

    def _let_go(self, regions: Iterable[SessionRegion]) -> list[str]:
        """Unmap regions at the session's end; returns the names of those that stay mapped because they are in use."""
        reading = []
        for region in regions:
            mapping = region.mapping
            region.let_go()
            if mapping is not None and not mapping.lent:
                reading.append(region.region_id)
            elif mapping is None:
                self.holdings.take(region.region_id)
        # Another thread may be copying, and its copy must end before the session does.
        self.holdings.wait_for(reading, _COPY_TIMEOUT_SECONDS)
        return self.holdings.names()

    def call(self, function: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Call a function that an interrupt must not stop halfway; see lib_usm.calls."""
        return self._calls.make(function, undo)

    def _over(self) -> bool:
        return self._closed or self.channel.killed is not None or self._stream.end is not None

    @interruptible
    def unmap(self, region: SessionRegion, memory: weakref.ref[MappedBytes] | None = None) -> None:
        """Give `region` back, after the caller took it from `holdings`; `Region.close` calls this.

        While another thread copies out of its `memory`, the region is given back at the end of that copy. After the
        session's end this does nothing.
        """
        if memory is None or memory() is None or not self.holdings.put_back(region.region_id, repr(region), memory):
            self._unmap(region.region_id)

    def _unmap(self, region_id: int) -> None:
        if not self._over():
            self.channel.call(self.channel.stub.UnmapRegion, client_pb2.UnmapRegionRequest(region_id=region_id))

    def check_open(self) -> None:
        """Raise ForkedChild, ClosedError, or the reason if the session has ended."""
        self.check_process()
        end = self.channel.killed or self._stream.end
        if self._closed:  # checked after `end` was read, because a close also ends the stream
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
        """Raise ForkedChild in any process but the one that made the client."""
        if os.getpid() != self._pid:
            raise ForkedChild(
                f"this client was made by process {self._pid} before fork(); "
                "in the child (as with multiprocessing's fork method) make one of its own, or start children by spawn"
            )


def _drop(
    name: str, calls: Calls, channel: SessionChannel, stream: SessionStream, identity: Identity, memory: Memory | None
) -> None:
    """End the session of a dropped client, without waiting; a finalizer calls this at any moment."""
    over = stream.end is not None or channel.killed is not None
    _hang_up(calls, stream, identity)
    if memory is not None:
        memory.close()
    if not over:
        warnings.warn(f"{name} was not closed; close it, or use it in a `with` block", ResourceWarning, stacklevel=2)


def _policy(kind: str, specification: str | None) -> str:
    """A policy that the application chooses, as it is sent; empty for None. Raises InvalidArgument and WrongType."""
    if specification is None:
        return ""
    text = encodable(specification, f"{kind} policy", InvalidArgument)
    if not text.strip():
        raise InvalidArgument(f"{kind} policy {specification!r} is empty; give a name, or None for usmd's choice")
    return text


def _attach(
    where: SocketAddress, name: str, ticket: str, alloc: str, evict: str
) -> tuple[SessionChannel, client_pb2.AttachResponse]:
    """Begin a session. Raises what `SessionChannel.attach` raises."""
    channel = SessionChannel(where)
    try:
        return channel, channel.attach(name, ticket, alloc, evict)
    except BaseException:
        channel.close()
        raise


def _hang_up(calls: Calls, stream: SessionStream, identity: Identity) -> None:
    """End a session without waiting."""
    calls.stop()
    stream.hang_up()
    identity.close()


def _giver(stream: SessionStream, given_back: deque[int]) -> Callable[[int], None]:
    """A function that gives regions back without a call and records them. It does not refer to the client."""

    def give_back(region_id: int) -> None:
        stream.give_back(region_id)
        given_back.append(region_id)

    return give_back


def default_name() -> str:
    """Name of the running program without suffix, else "python"; rules for policies may match it."""
    stem = Path(sys.argv[0] if sys.argv else "").stem
    printable = "".join(character for character in stem if character.isprintable())[:_MAX_NAME_CHARACTERS]
    return "python" if not printable or printable.startswith("-") else printable
