"""A session with the daemon: its connections, what they bring of its regions' bytes, and its end.

How its pages come is in lib_usm.paging, which errors there are in lib_usm.errors. Regions are made in lib_usm.client.
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
# Of regions given back without a call so many may still be under way.
_MAX_GIVEN_BACK = 64
_MAX_NAME_CHARACTERS = 64
_REAL = "userfaultfd"


class SessionRegion(Protocol):
    """What a session needs of a region, to end it."""

    region_id: int

    @property
    def closed(self) -> bool:
        """It was given back."""

    @property
    def page_count(self) -> int:
        """Pages that cover it."""

    @property
    def mapping(self) -> Mapping | None:
        """Where it is mapped into this process; None where it is not."""

    def let_go(self) -> None:
        """Refuse every further use."""


def interruptible(method: Callable[Concatenate[_SessionT, _P], _T]) -> Callable[Concatenate[_SessionT, _P], _T]:
    """Have a method that waits for the daemon be interrupted without harm, see lib_usm.calls."""

    @functools.wraps(method)
    def make(self: _SessionT, /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        return self.call(functools.partial(method, self, *args, **keywords))

    return make


class Session(Uncopyable):
    """What lib_usm.Client is made of; see there on threads, fork() and interrupts."""

    instead = "connect in the other process, or use this client as it is"

    def __init__(self, address: Address | None = None, *, name: str | None = None) -> None:
        self._where = where = resolve_address(address)
        self._pid = os.getpid()
        self._close_lock = threading.Lock()
        self._closed = False
        self._memory: Memory | None = None
        self._regions: weakref.WeakValueDictionary[int, SessionRegion] = weakref.WeakValueDictionary()
        # Regions that were given back without a call, newest last; see `_settle`.
        self._given_back: deque[int] = deque(maxlen=_MAX_GIVEN_BACK)
        check_reachable(where)
        check_room(f"{where} cannot be connected to")
        with contextlib.ExitStack() as undo:
            self._identity = Identity(where)
            undo.callback(self._identity.close)
            label = encodable(name, "client name", InvalidArgument) if name is not None else default_name()
            ticket = self._identity.ticket
            self.channel, session = forked.guarded(lambda: _attach(where, label, ticket))
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
            """Empty where regions have a buffer, that is, are mapped into this process; else why not."""
            undo.pop_all()
        self.address = str(where)
        """Where the daemon listens, as unix:PATH."""
        self.process_id = session.process_id
        """Number of this session in usmctl."""
        self._dropped = weakref.finalize(
            self, _drop, repr(self), self._calls, self.channel, self._stream, self._identity, self._memory
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
        """Whether a system call that meets a missing page of a buffer waits for it; else it fails with EFAULT.

        Without that, call `Region.ensure` before a buffer is given to `readinto`, `send` and the like.
        """
        return self._memory is not None and self._memory.way != "user-mode"

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
                _hang_up(self._calls, self._stream, self._identity)  # threads that others would wait for have ended
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
        self._end_streams()
        if self._stream.end is None:
            # A daemon that does not answer ends the session all the same, when the stream goes.
            with contextlib.suppress(UsmError):
                self.channel.call(self.channel.stub.Detach, client_pb2.DetachRequest(), timeout=_DETACH_TIMEOUT_SECONDS)
        self._stream.close()
        self.channel.close()
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

    def _end_streams(self) -> None:
        """End the streams beside the session's own, for those that wait on them."""

    def _let_go(self, regions: Iterable[SessionRegion]) -> list[str]:
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

    def call(self, function: Callable[[], _T], undo: Callable[[_T], None] | None = None) -> _T:
        """Call a function that an interrupt must not stop in the middle, see lib_usm.calls."""
        return self._calls.make(function, undo)

    def _over(self) -> bool:
        return self._closed or self.channel.killed is not None or self._stream.end is not None

    @interruptible
    def unmap(self, region: SessionRegion, memory: weakref.ref[MappedBytes] | None = None) -> None:
        """Give `region` back, which holds no longer; `Region.close` calls it.

        While another thread still copies out of its `memory`, that is put off to the end of the copy. With an ended
        session there is nothing left to give back.
        """
        if memory is None or memory() is None or not self.holdings.put_back(region.region_id, repr(region), memory):
            self._unmap(region.region_id)

    def _unmap(self, region_id: int) -> None:
        if not self._over():
            self.channel.call(self.channel.stub.UnmapRegion, client_pb2.UnmapRegionRequest(region_id=region_id))

    def check_open(self) -> None:
        """Raise ForkedChild, ClosedError, or what ended the session; nothing while the session lives."""
        self.check_process()
        end = self.channel.killed or self._stream.end
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


def _drop(
    name: str, calls: Calls, channel: SessionChannel, stream: SessionStream, identity: Identity, memory: Memory | None
) -> None:
    """End the session of a client that nothing refers to any more, without waiting, in the middle of anything."""
    over = stream.end is not None or channel.killed is not None
    _hang_up(calls, stream, identity)
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


def _hang_up(calls: Calls, stream: SessionStream, identity: Identity) -> None:
    """End a session without waiting."""
    calls.stop()
    stream.hang_up()
    identity.close()


def _giver(stream: SessionStream, given_back: deque[int]) -> Callable[[int], None]:
    """What gives regions back without a call, and notes them; it does not refer to the client, which may then go."""

    def give_back(region_id: int) -> None:
        stream.give_back(region_id)
        given_back.append(region_id)

    return give_back


def default_name() -> str:
    """Name of the running program without suffix, or "python"; policies may be assigned by it."""
    stem = Path(sys.argv[0] if sys.argv else "").stem
    printable = "".join(character for character in stem if character.isprintable())[:_MAX_NAME_CHARACTERS]
    return "python" if not printable or printable.startswith("-") else printable
