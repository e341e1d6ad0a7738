"""The identity socket: here the kernel vouches for a client's pid and uid, and reports its death.

gRPC over a Unix socket knows no peer, so a client first connects here. It reads one line: a ticket for Attach, or "!"
and the reason of a refusal. It keeps the connection open; when that closes, the session ends. Bytes that a client
writes are dropped.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from usm_wire.conventions import REFUSAL
from usmd import log
from usmd.errors import UnknownSession
from usmd.server.admission import QUEUE_SECONDS, STRANGER_SECONDS, Turns
from usmd.server.allowance import Allowance
from usmd.server.few_ready import FewReady
from usmd.server.listener import Listener

MAX_CONNECTIONS: Final = 4096
READ_A_TURN: Final = 4
"""Connections that are read in one turn of the loop, because very many clients may end at the same time."""
READ_BYTES: Final = 4096
_PEER = struct.Struct("iII")


def bound(path: Path, mode: int, kind: socket.SocketKind) -> socket.socket:
    """A Unix socket bound to `path`, which has this file mode from the start. Raises OSError."""
    listener = socket.socket(socket.AF_UNIX, kind)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def peer_of(connection: socket.socket) -> tuple[int, int, int]:
    """Process, user and group at the other end of a Unix socket, as the kernel vouches for them."""
    pid, uid, gid = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid, gid


class Identity:
    """The peer of a connection. `on_gone` is called when that closes, once a session has claimed the identity."""

    __slots__ = ("close", "gid", "on_gone", "pid", "reads", "uid")

    def __init__(self, close: Callable[[], None], pid: int, uid: int, gid: int) -> None:
        self.close = close
        """Closes the connection, which no session needs any more; a second call does nothing."""
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.on_gone: Callable[[], None] | None = None
        self.reads = Turns(1, STRANGER_SECONDS, QUEUE_SECONDS)
        """The turn of the call that claims it."""


class Identities:
    """Tickets that can be claimed, each once, within `timeout` seconds."""

    def __init__(
        self,
        *,
        timeout: float,
        of_user: int = MAX_CONNECTIONS,
        in_all: int = MAX_CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`of_user`: unclaimed connections of one user; `in_all`: connections."""
        self._timeout = timeout
        self._allowance = Allowance("identity", of_user, min(in_all, MAX_CONNECTIONS), clock)
        self._unclaimed: dict[str, Identity] = {}
        self._connections: dict[_Connection, None] = {}
        self._ready = FewReady(READ_A_TURN)
        self._listener: Listener | None = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def turns(self, ticket: str) -> Turns | None:
        """The turns of the calls that show this ticket; None if it cannot be claimed."""
        identity = self._unclaimed.get(ticket)
        return None if identity is None else identity.reads

    def find(self, ticket: str) -> Identity:
        """Claim the identity of a ticket; raises UnknownSession if the ticket is unknown, used or too old."""
        identity = self._unclaimed.pop(ticket, None)
        if identity is None:
            raise UnknownSession(
                "this identity ticket is unknown, used or too old; connect to the identity socket again"
            )
        self._allowance.settle(identity.uid)
        return identity

    def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the start."""
        self._listener = Listener(bound(path, mode, socket.SOCK_STREAM), self._accepted, _refused)

    def _accepted(self, peer: socket.socket) -> None:
        pid, uid, gid = peer_of(peer)
        if (why := self._allowance.enter(uid, pid)) is not None:
            with suppress(OSError):  # the peer is gone
                peer.send(f"{REFUSAL}{why}\n".encode())
            peer.close()
            return
        ticket = secrets.token_urlsafe(24)
        expiry = asyncio.get_running_loop().call_later(self._timeout, self._expire, ticket)
        connection = _Connection(peer, ticket, expiry)
        connection.identity = self._unclaimed[ticket] = Identity(lambda: self._end(connection), pid, uid, gid)
        self._connections[connection] = None
        self._ready.add(peer.fileno(), lambda: self._read(connection))
        with suppress(OSError):  # the peer is gone, as its end will say
            peer.send(f"{ticket}\n".encode())

    def _read(self, connection: _Connection) -> None:
        """Drop what a peer has written; only the end counts."""
        try:
            ended = not connection.peer.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            ended = True  # a reset is an end
        if ended:
            self._end(connection)

    def _expire(self, ticket: str) -> None:
        identity = self._unclaimed.get(ticket)
        if identity is not None:
            identity.close()

    def _end(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection]
        identity = connection.identity
        connection.expiry.cancel()
        self._allowance.leave(identity.uid, waiting=self._unclaimed.pop(connection.ticket, None) is not None)
        self._ready.remove(connection.peer.fileno())
        connection.peer.close()
        if identity.on_gone is not None:
            identity.on_gone()

    def close(self) -> None:
        """Stop listening and close all connections, which calls `on_gone` of claimed identities."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            self._end(connection)
        self._ready.close()


class _Connection:
    """A connection whose peer has a ticket."""

    __slots__ = ("expiry", "identity", "peer", "ticket")
    identity: Identity

    def __init__(self, peer: socket.socket, ticket: str, expiry: asyncio.TimerHandle) -> None:
        self.peer = peer
        self.ticket = ticket
        self.expiry = expiry
        """Closes it, unless its ticket is claimed before."""


def _refused(error: str) -> None:
    log.event("identity_socket_refused", error=error)
