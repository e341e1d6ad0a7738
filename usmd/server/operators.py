"""The operators' socket: usmd accepts its connections, asks the kernel who made them, and passes them on to gRPC.

gRPC does not show who is at the other end of a Unix socket, but it shows the name of that end. So each connection goes
on to gRPC's own socket from a socket with a name of its own, by which a call tells whose it is. gRPC's socket is for
usmd's own user: a connection that does not come from here has no such name.

A connection beyond the limits is not passed on: it gets one line with the reason, which gRPC cannot take for an answer.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, cast

from usm_wire.conventions import REFUSAL
from usmd import log
from usmd.server.admission import Context
from usmd.server.allowance import LIMIT_OF_FILES, Allowance, Complaints
from usmd.server.identity import bound, peer_of
from usmd.server.listener import Listener

CLOSE_SECONDS: Final = 1.0
"""How long operators may take to read the last bytes at the end."""
_NAMED: Final = "unix-abstract:"
"""Begins gRPC's address of a peer that has a name."""


class Operator(NamedTuple):
    """A process at the other end of the operators' socket, and its user, as the kernel vouches for them."""

    pid: int
    uid: int


class Operators:
    """Listens for operators, and knows the callers of gRPC's socket at `inner`."""

    def __init__(self, inner: Path, of_user: int, in_all: int) -> None:
        """`of_user`: connections of one user, who gets three quarters of `in_all` at most, so that others get in."""
        self._inner = inner
        share = in_all * 3 // 4
        allows = LIMIT_OF_FILES if share < of_user else "server.max_user_connections"
        self._allowance = Allowance("admin", min(of_user, share), in_all, counted="connections", allows=allows)
        self._complaints = Complaints(_tell)
        self._by_name: dict[str, Operator] = {}
        """Operators by the name of the socket from which their connection goes on."""
        self._ends: set[_End] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None

    def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the start."""
        self._listener = Listener(bound(path, mode, socket.SOCK_STREAM), self._accepted, _refused)

    def caller(self, context: Context) -> Operator | None:
        """The operator who makes a call; None for a process that has found gRPC's own socket."""
        return self._by_name.get(context.peer().removeprefix(_NAMED))

    def _accepted(self, peer: socket.socket) -> None:
        pid, uid, _ = peer_of(peer)
        if (why := self._allowance.enter(uid, pid)) is not None:
            _turn_away(peer, why)
            return
        name = f"usmd-{secrets.token_hex(16)}"
        try:
            onward = self._onward(name)
        except OSError as error:
            self._allowance.leave(uid, waiting=True)
            self._failed(peer, Operator(pid, uid), error)
            return
        self._by_name[name] = Operator(pid, uid)
        task = asyncio.get_running_loop().create_task(self._join(name, peer, onward))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def _onward(self, name: str) -> socket.socket:
        """A connection to gRPC's socket from one with this name. Raises OSError."""
        onward = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            onward.setblocking(False)
            onward.bind(f"\0{name}")
            onward.connect(str(self._inner))
        except OSError:  # gRPC, which accepts on threads of its own, does not
            onward.close()
            raise
        return onward

    async def _join(self, name: str, peer: socket.socket, onward: socket.socket) -> None:
        """Pass bytes on both ways, until one end closes."""
        operator = self._by_name[name]
        near, far = _End(self._ends), _End(self._ends)
        near.other, far.other = far, near
        near.on_both_lost = far.on_both_lost = lambda: self._ended(name)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: far, sock=onward)
            await loop.connect_accepted_socket(lambda: near, peer)
        except OSError as error:  # the loop does not take one of them over
            near.gone.set_result(None)
            if not far._connected:
                onward.close()
                far.gone.set_result(None)
            if far.gone.done():
                self._ended(name)
            else:
                far.transport.abort()
            self._failed(peer, operator, error)

    def _failed(self, peer: socket.socket, operator: Operator, error: OSError) -> None:
        """Close a connection that cannot be passed on."""
        why = error.strerror or str(error)
        _turn_away(peer, why)
        self._complaints.add(operator.uid, operator.pid, why)

    def _ended(self, name: str) -> None:
        """Both ends of a connection are closed. Until then it counts: an operator who does not read keeps one open."""
        self._allowance.leave(self._by_name.pop(name).uid, waiting=True)

    async def close(self) -> None:
        """Stop listening, and wait until the connections have ended, which gRPC does; close those left after a while.

        A second call does nothing.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await asyncio.gather(*self._joining, return_exceptions=True)
        if self._ends:
            await asyncio.wait({end.gone for end in self._ends}, timeout=CLOSE_SECONDS)
        for end in list(self._ends):
            end.transport.abort()


class _End(asyncio.Protocol):
    """One end of a connection: what it reads, the other end writes. An end that does not read stops the other."""

    def __init__(self, ends: set[_End]) -> None:
        self._ends = ends
        self._early = bytearray()
        """What came for this end before it was connected."""
        self.other = self
        self.transport: asyncio.Transport
        self._connected = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""
        self.on_both_lost = _nothing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self._connected = True
        self._ends.add(self)
        if self._early:
            self.transport.write(self._early)
        if self.other.gone.done():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Have the other end write it."""
        if self.other._connected:
            self.other.transport.write(data)
        else:
            self.other._early += data

    def pause_writing(self) -> None:
        """Read nothing more for this end until it has written what it has."""
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read for it again."""
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        """Close the other end, once that has written what it has."""
        self.gone.set_result(None)
        self._ends.discard(self)
        if self.other._connected:
            self.other.transport.close()
        if self.other.gone.done():
            self.on_both_lost()


def _nothing() -> object:
    """Do nothing: the default of `on_both_lost`."""


def _turn_away(peer: socket.socket, why: str) -> None:
    """Close a connection, with the reason for its peer."""
    with suppress(OSError):  # the peer is gone
        peer.send(f"{REFUSAL}{why}\n".encode())
    peer.close()


def _tell(uid: int | None, pid: int | None, why: str, count: int) -> None:
    log.event("operators_socket_refused", error=why, uid=uid, pid=pid, connections=count)


def _refused(error: str) -> None:
    log.event("operators_socket_refused", error=error)
