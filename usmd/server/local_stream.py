"""Fault streams without gRPC: a client of the memory socket gets one end of a pair of sockets; usmd serves the other.

The messages are those of StreamFaults, and FaultStream serves them as it serves a call; see usm_wire.local_stream. A
message and its way through HTTP/2 and back takes gRPC several times as long as the fault that it asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import Final

import grpc.aio
from google.protobuf.message import Message

from usm_wire.local_stream import END, MAX_REQUEST_BYTES, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2
from usmd import log
from usmd.errors import LimitExceeded, UsmdError
from usmd.server.engine import Engine
from usmd.server.fault_stream import FaultStream
from usmd.server.memory_packets import reply_of
from usmd.server.rpc import Malformed, safe_parser
from usmd.server.sessions import Session, Sessions
from usmd.server.transfers import Transfers

_RECEIVE_BYTES: Final = 64 << 10
_parse = safe_parser(client_pb2.StreamFaultsRequest.FromString, "StreamFaultsRequest", MAX_REQUEST_BYTES)


class LocalStreams:
    """The streams that were handed over, while they are served: at most `most`, and of a user three quarters."""

    def __init__(self, engine: Engine, sessions: Sessions, most: int) -> None:
        self._engine = engine
        self._sessions = sessions
        self._most = most
        self._transfers = Transfers(engine)
        self._served: dict[asyncio.Task[None], int | None] = {}
        """The users of the tasks that serve them."""
        self._of_user: Counter[int | None] = Counter()

    def open(self, session: Session) -> socket.socket:
        """Serve a new stream of a session; returns the client's end. Raises LimitExceeded."""
        uid = self._engine.core.state.processes[session.process_id].uid
        for taken, allowed, whose in (
            (self._of_user[uid], self._most * 3 // 4, f"user {uid} has"),
            (len(self._served), self._most, "all users have"),
        ):
            if taken >= allowed:
                raise LimitExceeded(
                    f"{whose} {taken} local fault streams, each of which takes a descriptor of usmd; allowed are "
                    f"{allowed}, a share of the daemon's limit of open files (LimitNOFILE of its unit, ulimit -n)"
                )
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise LimitExceeded(f"usmd has no descriptors for another fault stream: {error.strerror}") from error
        wire = LocalWire(ours)
        try:
            stream = FaultStream(self._engine, self._transfers, self._sessions, session, wire)
        except UsmdError:
            ours.close()
            theirs.close()
            raise
        task = asyncio.get_running_loop().create_task(_serve(stream, wire))
        self._served[task] = uid
        self._of_user[uid] += 1
        task.add_done_callback(self._over)
        return theirs

    def _over(self, task: asyncio.Task[None]) -> None:
        uid = self._served.pop(task)
        self._of_user[uid] -= 1
        if not self._of_user[uid]:
            del self._of_user[uid]


async def _serve(stream: FaultStream, wire: LocalWire) -> None:
    error: UsmdError | None = None
    try:
        await stream.run()
    except ConnectionError:
        pass  # the client is gone, with outcomes unread
    except UsmdError as ended:
        error = ended
    except Exception:  # noqa: BLE001 - logged with its traceback, and the stream ends
        log.event("defect", exc_info=True, method="usmd local fault stream")
        error = UsmdError("a defect of usmd; its log has the details")
    finally:
        wire.close(error)


class LocalWire:
    """The daemon's end of a stream: reads requests and writes responses, as gRPC's context of a call does."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._received = bytearray()
        self._writing = False
        """A message may be written in part."""
        self._loop = asyncio.get_running_loop()

    async def read(self) -> object:
        """The next message, Malformed in its place, or grpc.aio.EOF; lets other work of the loop have its turn."""
        received = self._received
        if len(received) < PREFIX.size:
            if not await self._receive():
                return grpc.aio.EOF
        else:
            await asyncio.sleep(0)  # a client that sends without end shares the loop
        while True:
            if len(received) >= PREFIX.size:
                kind, length = PREFIX.unpack_from(received)
                if kind != MESSAGE:
                    return Malformed(f"a message of kind {kind} on a fault stream; allowed is {MESSAGE}")
                if length > MAX_REQUEST_BYTES:
                    return Malformed(
                        f"a message of {length} bytes on a local fault stream; allowed are "
                        f"{MAX_REQUEST_BYTES}, and more by StreamFaults"
                    )
                end = PREFIX.size + length
                if len(received) >= end:
                    with memoryview(received) as view:
                        data = bytes(view[PREFIX.size : end])
                    del received[:end]
                    return _parse(data)
            if not await self._receive():
                return grpc.aio.EOF

    async def _receive(self) -> bool:
        """Take in what has arrived, or wait for it; returns False at the end."""
        try:
            data = await self._loop.sock_recv(self._socket, _RECEIVE_BYTES)
        except OSError:
            return False
        self._received += data
        return bool(data)

    async def write(self, message: Message) -> None:
        """Write a message; waits while the client does not read. Raises ConnectionError if the client is gone."""
        data = message.SerializeToString()
        self._writing = True
        await self._loop.sock_sendall(self._socket, PREFIX.pack(MESSAGE, len(data)) + data)
        self._writing = False

    def close(self, error: UsmdError | None) -> None:
        """Close the connection; the client reads the error, if there is one and it has read what came before."""
        if error is not None and not self._writing:
            data = reply_of(error).SerializeToString()
            with contextlib.suppress(OSError):  # the client does not read, or is gone
                self._socket.send(PREFIX.pack(END, len(data)) + data)
        self._socket.close()
