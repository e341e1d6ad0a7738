"""Fault streams without gRPC: a client of the memory socket gets one end of a pair of sockets; usmd serves the other.

The messages are those of StreamFaults, and FaultStream serves them as it serves a call; see usm_wire.local_stream. A
message and its way through HTTP/2 and back takes gRPC several times as long as the fault that it asks for.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

import grpc.aio
from google.protobuf.message import Message

from usm_wire.local_stream import END, MAX_REQUEST_BYTES, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2
from usmd import log
from usmd.errors import LimitExceeded, UsmdError
from usmd.server.engine import Engine
from usmd.server.fault_stream import FaultStream
from usmd.server.few_a_turn import FewATurn
from usmd.server.memory_packets import reply_of
from usmd.server.rpc import Malformed, safe_parser
from usmd.server.sessions import Session, Sessions
from usmd.server.transfers import Transfers

MOST_AHEAD: Final = 64 << 10
"""No more is taken from a client while more than so many bytes wait to be used."""
CLOSE_SECONDS: Final = 1.0
"""How long a client has to read its last messages."""
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

    def open(self, session: Session) -> socket.socket:
        """Serve a new stream of a session; returns the client's end. Raises LimitExceeded."""
        uid = self._engine.core.state.processes[session.process_id].uid
        for taken, allowed, whose in (
            (list(self._served.values()).count(uid), self._most * 3 // 4, f"user {uid} has"),
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
        wire = LocalWire(self._sessions.stream_ends)
        try:
            stream = FaultStream(self._engine, self._transfers, self._sessions, session, wire)
        except UsmdError:
            ours.close()
            theirs.close()
            raise
        task = asyncio.get_running_loop().create_task(_serve(stream, wire, ours))
        self._served[task] = uid
        task.add_done_callback(self._served.pop)
        return theirs


async def _serve(stream: FaultStream, wire: LocalWire, connection: socket.socket) -> None:
    error: UsmdError | None = None
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: wire, connection)
        await stream.run()
    except UsmdError as ended:
        error = ended
    except Exception:  # noqa: BLE001 - logged with its traceback, and the stream ends
        log.event("defect", exc_info=True, method="usmd local fault stream")
        error = UsmdError("a defect of usmd; its log has the details")
    finally:
        stream.close()
        wire.close(error)
        if not wire.connected:
            connection.close()


class LocalWire(asyncio.Protocol):
    """The daemon's end of a stream: reads requests and writes responses, as gRPC's context of a call does."""

    def __init__(self, ends: FewATurn) -> None:
        """`ends` spreads the ends of connections over turns of the loop."""
        self._ends = ends
        self._received = bytearray()
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._arrival: asyncio.Future[None] | None = None
        """Done when something has arrived, for `read`."""
        self._room: asyncio.Future[None] | None = None
        """Done when the client has read, for `write`; None while there is room."""
        self.connected = False
        """Whether the loop has taken the connection over."""
        self._paused = False
        self._over = True

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self.connected, self._over = True, False

    def data_received(self, data: bytes) -> None:
        """Keep what has arrived; nobody reads more until it has been used."""
        self._received += data
        if self._arrival is not None:
            _finish(self._arrival)
        elif len(self._received) > MOST_AHEAD:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Close, in a turn for that: the client has closed its end, or will send no more."""
        self._ends.call(self._transport.close)
        return True  # else it would be closed in this turn

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        """End: the client has closed its end, or usmd this one."""
        self._over = True
        for waited in (self._arrival, self._room):
            if waited is not None:
                _finish(waited)

    def pause_writing(self) -> None:
        """Let `write` wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let `write` go on."""
        if self._room is not None:
            _finish(self._room)
            self._room = None

    # Called by FaultStream

    async def read(self) -> object:
        """The next message, Malformed in its place, or grpc.aio.EOF; lets other work of the loop have its turn."""
        received = self._received
        if len(received) >= PREFIX.size:
            await asyncio.sleep(0)  # a client that sends without end shares the loop
        while True:
            if len(received) >= PREFIX.size:
                kind, length = PREFIX.unpack_from(received)
                if kind != MESSAGE:
                    return Malformed(f"a message of kind {kind} on a fault stream; allowed is {MESSAGE}")
                if length > MAX_REQUEST_BYTES:
                    return Malformed(
                        f"a message of {length} bytes on a local fault stream; allowed are {MAX_REQUEST_BYTES}, and "
                        "more by StreamFaults"
                    )
                end = PREFIX.size + length
                if len(received) >= end:
                    data = bytes(received[PREFIX.size : end])
                    del received[:end]
                    return _parse(data)
            if self._over:
                return grpc.aio.EOF
            await self._arrive()

    async def _arrive(self) -> None:
        self._arrival = self._loop.create_future()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        try:
            await self._arrival
        finally:
            self._arrival = None

    async def write(self, message: Message) -> None:
        """Write a message, unless the client is gone; waits while it does not read."""
        if self._over:
            return  # which `read` reports
        data = message.SerializeToString()
        self._transport.write(PREFIX.pack(MESSAGE, len(data)) + data)
        if self._room is not None:
            await self._room

    def close(self, error: UsmdError | None) -> None:
        """Close the connection when the client has read everything, the error too if there is one, or in a second."""
        if self._over:
            return
        if error is not None:
            data = reply_of(error).SerializeToString()
            self._transport.write(PREFIX.pack(END, len(data)) + data)
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(CLOSE_SECONDS, self._transport.abort)


def _finish(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)
