"""One gRPC call with a stream of messages each way, on a connection of its own and without a thread.

gRPC's own client moves each message through threads that need Python's interpreter lock, for which they wait 5 ms and
more while a uThread computes. This one only acts when it is called, so that a scheduler polls it between two uThreads.
HTTP/2 is spoken by the h2 library. What the messages say is not known here, see lib_usm.pager.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
from typing import Final
from urllib.parse import unquote

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lib_usm.errors import (
    ClosedError,
    ConnectionLost,
    InternalError,
    UsmError,
    again,
    error_of_status,
)
from lib_usm.identity import connect
from lib_usm.reach import unreachable

_CONNECT_SECONDS: Final = 5.0
_PREFIX_BYTES: Final = 5
"""A message's prefix: one byte that says whether it is compressed, then its length in four."""
_MAX_MESSAGE_BYTES: Final = 16 << 20
_FRAME_HEADER_BYTES: Final = 9
_MAX_FRAME_BYTES: Final = 1 << 14
"""Of a frame's content; HTTP/2's usual limit, which h2 keeps to."""
_GOAWAY: Final = 7
_WINDOW: Final = 8 << 20
_RECEIVE_BYTES: Final = 1 << 18
_CODES: Final = {str(code.value[0]): code for code in grpc.StatusCode}


class MessageStream:
    """A call of `method` (/package.Service/Method) over the Unix socket at `path`. Raises DaemonUnavailable.

    Nothing blocks but the constructor. Poll `fileno` for reading, and for writing too where `wants_to_send` says so.
    """

    def __init__(self, path: str, method: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self.end: UsmError | None = None
        """Why the call ended; None while it goes on."""
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._frames = bytearray()
        self._unsent = bytearray()
        self._trailers: dict[str, str] = {}
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise unreachable(error, f"the socket {path}") from None
        try:
            connect(self._socket, path, _CONNECT_SECONDS)
        except OSError as error:
            self._socket.close()
            raise unreachable(error, f"the socket {path}") from None
        self._socket.setblocking(False)
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False)
        self._http = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._http.local_settings = h2.settings.Settings(
            client=True, initial_values={codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: _WINDOW}
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)
        self._stream = self._http.get_next_available_stream_id()
        self._http.send_headers(
            self._stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", method),
                (":authority", "localhost"),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                *metadata,
            ],
        )
        self._push()

    def fileno(self) -> int:
        """The descriptor of the connection; -1 when it is closed."""
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        """Something waits until the connection can be written to: call `receive` then."""
        return bool(self._unsent)

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon takes more; after the end it is dropped."""
        if self.end is not None:
            return
        self._outgoing += b"\0"
        self._outgoing += len(message).to_bytes(4, "big")
        self._outgoing += message
        self._push()

    def receive(self) -> list[bytes]:
        """The messages that have come, and send what can be sent; after the last ones `end` is set."""
        if self.end is not None:
            return []
        closed = False
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            closed = not data
        except BlockingIOError:
            data = b""
        except OSError as error:
            self._stop(ConnectionLost(f"the connection to the daemon broke: {error.strerror}; connect again"))
            return []
        if data:
            self._take(data)
        messages = self._messages()
        if closed:
            self._stop(ConnectionLost("the daemon closed the connection; connect again"))
        elif self.end is None:
            self._push()
        return messages

    def close(self, error: UsmError | None = None) -> None:
        """End the call; `end` is `error`, which is ClosedError unless given. May be called again."""
        if self.end is None:
            with contextlib.suppress(h2.exceptions.H2Error, OSError):
                self._http.reset_stream(self._stream, h2.errors.ErrorCodes.CANCEL)
                self._socket.send(self._unsent + self._http.data_to_send())
            self._stop(error or ClosedError("the stream was closed"))

    def _take(self, data: bytes) -> None:
        try:
            events = self._http.receive_data(self._whole_frames(data))
        except h2.exceptions.H2Error as error:
            self._stop(InternalError(f"the daemon's answer is no HTTP/2: {error}"))
            return
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self._incoming += event.data or b""
                if event.flow_controlled_length:
                    with contextlib.suppress(h2.exceptions.StreamClosedError):
                        self._http.acknowledge_received_data(event.flow_controlled_length, self._stream)
            elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                self._trailers.update((str(name), str(value)) for name, value in event.headers or ())
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                self._stop(self._why())
            elif isinstance(event, h2.events.ConnectionTerminated) and event.error_code:
                self._stop(ConnectionLost(f"the daemon ended the connection (HTTP/2 error {event.error_code})"))

    def _whole_frames(self, data: bytes) -> bytes:
        """The frames that have come whole, without a GOAWAY that is no error.

        A server that drains sends that first and then ends its calls, each with a status; h2 takes nothing after it.
        """
        frames = self._frames
        frames += data
        whole, start = bytearray(), 0
        while len(frames) - start >= _FRAME_HEADER_BYTES:
            stop = start + _FRAME_HEADER_BYTES + int.from_bytes(frames[start : start + 3], "big")
            if len(frames) < stop:
                if stop - start > _FRAME_HEADER_BYTES + _MAX_FRAME_BYTES:
                    whole += frames[start:]  # which h2 refuses
                    start = len(frames)
                break
            drains = frames[start + 3] == _GOAWAY and not any(frames[start + 13 : start + 17])
            if not drains:
                whole += frames[start:stop]
            start = stop
        del frames[:start]
        return bytes(whole)

    def _messages(self) -> list[bytes]:
        """The whole messages of what has come."""
        messages = []
        incoming, start = self._incoming, 0
        while len(incoming) - start >= _PREFIX_BYTES:
            length = int.from_bytes(incoming[start + 1 : start + _PREFIX_BYTES], "big")
            if incoming[start] or length > _MAX_MESSAGE_BYTES:
                self._stop(InternalError(f"a message of {length} bytes, compressed or too long, came from the daemon"))
                break
            stop = start + _PREFIX_BYTES + length
            if len(incoming) < stop:
                break
            messages.append(bytes(incoming[start + _PREFIX_BYTES : stop]))
            start = stop
        del incoming[:start]
        return messages

    def _push(self) -> None:
        """Send as much as the daemon's window and the socket take."""
        http = self._http
        try:
            while self._outgoing:
                room = min(http.local_flow_control_window(self._stream), http.max_outbound_frame_size)
                if room <= 0:
                    break
                part = bytes(self._outgoing[:room])
                http.send_data(self._stream, part)
                del self._outgoing[:room]
            self._unsent += http.data_to_send()
            if self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except (h2.exceptions.H2Error, OSError) as error:
            # What the daemon said before it left may still be there to read.
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                self._stop(ConnectionLost(f"the connection to the daemon broke: {error}; connect again"))

    def _why(self) -> UsmError:
        """What the call ended with."""
        code = _CODES.get(self._trailers.get("grpc-status", ""), None)
        if code is None:
            return ConnectionLost("the daemon broke off the stream; connect again")
        if code is grpc.StatusCode.OK:
            return ConnectionLost("the daemon ended the fault stream; the session and its regions are gone")
        return error_of_status(code, unquote(self._trailers.get("grpc-message", "")), self._rich_status())

    def _rich_status(self) -> status_pb2.Status | None:
        encoded = self._trailers.get("grpc-status-details-bin", "")
        try:
            return status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
        except (binascii.Error, ValueError, DecodeError):
            return None  # only the plain status is then believed

    def _stop(self, error: UsmError) -> None:
        if self.end is None:
            self.end = again(error)
        self._socket.close()
