"""The operators' socket: usmd accepts its connections, asks the kernel who made them, and passes them on to gRPC.

gRPC does not show who is at the other end of a Unix socket, but it shows the name of that end. So each connection goes
on to gRPC's own socket from a socket with a name of its own, by which a call tells whose it is. gRPC's socket is for
usmd's own user: a connection that does not come from here has no such name.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from pathlib import Path
from typing import Final, NamedTuple, cast

from usmd import log
from usmd.server.admission import Context
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

    def __init__(self, inner: Path) -> None:
        self._inner = inner
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
        name = f"usmd-{secrets.token_hex(16)}"
        try:
            onward = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            peer.close()
            _refused(error.strerror or str(error))
            return
        try:
            onward.setblocking(False)
            onward.bind(f"\0{name}")
            onward.connect(str(self._inner))
        except OSError as error:  # gRPC, which accepts on threads of its own, does not
            onward.close()
            peer.close()
            _refused(error.strerror or str(error))
            return
        self._by_name[name] = Operator(pid, uid)
        task = asyncio.get_running_loop().create_task(self._join(name, peer, onward))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _join(self, name: str, peer: socket.socket, onward: socket.socket) -> None:
        """Pass bytes on both ways, until one end closes."""
        near, far = _End(self._ends), _End(self._ends)
        near.other, far.other = far, near
        far.on_lost = lambda: self._by_name.pop(name)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(lambda: far, sock=onward)
            await loop.connect_accepted_socket(lambda: near, peer)
        except OSError as error:  # the loop does not take one of them over
            peer.close()
            if far._connected:
                far.transport.abort()
            else:
                onward.close()
                del self._by_name[name]
            _refused(error.strerror or str(error))

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
        self.on_lost = _nothing

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
        self.on_lost()
        if self.other._connected:
            self.other.transport.close()


def _nothing() -> object:
    """Do nothing: the default of `on_lost`."""


def _refused(error: str) -> None:
    log.event("operators_socket_refused", error=error)
