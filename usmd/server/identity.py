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
from pathlib import Path
from typing import Final

from usm_wire.conventions import TICKET_REFUSAL
from usmd.errors import UnknownSession
from usmd.server.admission import QUEUE_SECONDS, STRANGER_SECONDS, Turns
from usmd.server.allowance import Allowance

MAX_CONNECTIONS: Final = 4096
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

    __slots__ = ("_writer", "gid", "on_gone", "pid", "reads", "uid")

    def __init__(self, writer: asyncio.StreamWriter, pid: int, uid: int, gid: int) -> None:
        self._writer = writer
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.on_gone: Callable[[], None] | None = None
        self.reads = Turns(1, STRANGER_SECONDS, QUEUE_SECONDS)
        """The turn of the call that claims it."""

    def close(self) -> None:
        """Close the connection, which no session needs any more."""
        self._writer.close()


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
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

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

    async def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the start."""
        self._server = await asyncio.start_unix_server(self._connected, sock=bound(path, mode, socket.SOCK_STREAM))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: socket.socket = writer.get_extra_info("socket")
        pid, uid, gid = peer_of(connection)
        if (why := self._allowance.enter(uid, pid)) is not None:
            writer.write(f"{TICKET_REFUSAL}{why}\n".encode())
            writer.close()
            return
        identity = Identity(writer, pid, uid, gid)
        ticket = secrets.token_urlsafe(24)
        self._unclaimed[ticket] = identity
        self._connections.add(writer)
        expiry = asyncio.get_running_loop().call_later(self._timeout, self._expire, ticket, uid, writer)
        try:
            writer.write(f"{ticket}\n".encode())
            while await reader.read(4096):
                pass  # only the end counts
        except ConnectionError:
            pass  # a reset is an end
        finally:
            expiry.cancel()
            waiting = self._unclaimed.pop(ticket, None) is not None
            self._allowance.leave(uid, waiting=waiting)
            self._connections.discard(writer)
            writer.close()
            if identity.on_gone is not None:
                identity.on_gone()

    def _expire(self, ticket: str, uid: int, writer: asyncio.StreamWriter) -> None:
        if self._unclaimed.pop(ticket, None) is not None:
            self._allowance.settle(uid)
            writer.close()

    async def close(self) -> None:
        """Stop listening and close all connections, which calls `on_gone` of claimed identities."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.close()
