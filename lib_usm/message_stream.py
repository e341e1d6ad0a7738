"""One gRPC call with a stream of messages each way, on its own connection and without a thread.

gRPC's own client passes each message through threads that need Python's interpreter lock, for which they wait 5 ms or
more while a uThread computes. This stream acts only when it is called, so a scheduler can poll it between two uThreads.
The h2 library handles HTTP/2 except for frames of messages, which it would copy many times. lib_usm.pager knows the
messages' contents.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import socket
from collections import deque
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

from lib_usm.errors import ConnectionLost, InternalError, UsmError, error_of_status
from lib_usm.identity import connect
from lib_usm.polled_stream import PolledStream
from lib_usm.reach import unreachable
from usm_wire.local_stream import MESSAGE, PREFIX

_CONNECT_SECONDS: Final = 5.0
_FRAME_HEADER_BYTES: Final = 9
_MAX_FRAME_BYTES: Final = 1 << 20
"""Most bytes of a frame's content."""
_DATA: Final = 0
_GOAWAY: Final = 7
_GOAWAY_BYTES: Final = 8
"""Least bytes of a GOAWAY frame: its last stream and its error code."""
_WINDOW_UPDATE: Final = 8
_INCREMENT_BYTES: Final = 4
_CONNECTION: Final = bytes(4)
"""The stream id of frames that concern the whole connection."""
_CONNECTION_WINDOW: Final = 65_535
"""Bytes that a connection takes before its first WINDOW_UPDATE (RFC 9113, 6.9.2)."""
_WINDOW: Final = 8 << 20
"""Bytes that the daemon may send before this side announces more room."""
_SMALL_BYTES: Final = 1 << 12
"""Messages up to this size are copied behind their prefix, which costs less than sending two pieces."""
_MAX_PIECES: Final = 256
"""Most pieces in one system call."""
_CODES: Final = {str(code.value[0]): code for code in grpc.StatusCode}


class MessageStream(PolledStream):
    """A call of `method` (/package.Service/Method) over the Unix socket at `path`.

    Only the constructor blocks. It raises DaemonUnavailable and LimitExceeded. A message of kind 1 is compressed, which
    this client does not ask for.
    """

    def __init__(self, path: str, method: str, metadata: tuple[tuple[str, str], ...]) -> None:
        super().__init__(_connected(path))
        self._goaway = 0
        """Error code of the daemon's GOAWAY, by which it announces the end of the connection; 0: none yet."""
        self._outgoing: deque[memoryview] = deque()
        """Messages, and parts of them, that are in no frame yet. They are sent without a copy."""
        self._frames = bytearray()
        self._unsent: deque[memoryview] = deque()
        """Pieces of frames."""
        self._trailers: dict[str, str] = {}
        self._taken = 0
        """Message bytes received, which h2 does not see, since the daemon was last told of more room."""
        self._sent = 0
        """Message bytes sent, which h2 does not count."""
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1", validate_outbound_headers=False)
        self._http = h2.connection.H2Connection(config)
        codes = h2.settings.SettingCodes
        self._http.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: _WINDOW,
                codes.MAX_FRAME_SIZE: _MAX_FRAME_BYTES,
            },
        )
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)
        self._stream = self._http.get_next_available_stream_id()
        self._stream_id = self._stream.to_bytes(4, "big")
        self._allowed = {_CONNECTION: _CONNECTION_WINDOW, self._stream_id: 0}
        """All bytes that the daemon has allowed; the stream's initial window, which is a setting, comes on top."""
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

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon has room. After the end it is dropped."""
        if self.end is not None:
            return
        prefix = PREFIX.pack(MESSAGE, len(message))
        if len(message) <= _SMALL_BYTES:
            self._outgoing.append(memoryview(prefix + message))
        else:
            self._outgoing += (memoryview(prefix), memoryview(message))
        self._push()

    def close(self, error: UsmError | None = None) -> None:
        """End the call with `error` (None: ClosedError). May be called again."""
        if self.end is None:
            with contextlib.suppress(h2.exceptions.H2Error, OSError):
                self._http.reset_stream(self._stream, h2.errors.ErrorCodes.CANCEL)
                self._socket.send(b"".join((*self._unsent, self._http.data_to_send())))
        super().close(error)

    def _take(self, data: bytes) -> None:
        try:
            events = self._http.receive_data(self._whole_frames(data))
        except h2.exceptions.H2Error as error:
            self._stop(InternalError(f"the daemon's answer is not HTTP/2: {error}"))
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

    def _whole_frames(self, data: bytes) -> bytes:
        """The complete frames received, for h2: without messages, which are processed here.

        Also without WINDOW_UPDATE: h2 does not see what is sent, so each would enlarge its window, until an error
        after 2 GiB. And without GOAWAY, which a server that drains or stops sends first; then it ends its calls, each
        with a status, and closes the connection. h2 would accept nothing after GOAWAY.
        """
        frames = self._frames
        frames += data
        whole, start = bytearray(), 0
        with memoryview(frames) as view:
            while len(frames) - start >= _FRAME_HEADER_BYTES:
                stop = start + _FRAME_HEADER_BYTES + int.from_bytes(view[start : start + 3], "big")
                if len(frames) < stop:
                    if stop - start > _FRAME_HEADER_BYTES + _MAX_FRAME_BYTES:
                        whole += view[start:]  # too long: h2 refuses it
                        start = len(frames)
                    break
                kind, flags = view[start + 3], view[start + 4]
                stream_id = bytes(view[start + 5 : start + _FRAME_HEADER_BYTES])
                content = stop - start - _FRAME_HEADER_BYTES
                if kind == _DATA and not flags and stream_id == self._stream_id:
                    self._incoming += view[start + _FRAME_HEADER_BYTES : stop]
                    self._taken += content
                elif kind == _WINDOW_UPDATE and content == _INCREMENT_BYTES and stream_id in self._allowed:
                    self._allowed[stream_id] += int.from_bytes(view[stop - _INCREMENT_BYTES : stop], "big")
                elif kind == _GOAWAY and content >= _GOAWAY_BYTES:
                    code = int.from_bytes(view[start + 13 : start + 17], "big")
                    self._goaway = self._goaway or code
                else:
                    whole += view[start:stop]
                start = stop
        del frames[:start]
        return bytes(whole)

    def _send_unsent(self) -> None:
        unsent = self._unsent
        control = self._http.data_to_send()
        if self._taken >= _WINDOW // 2:
            for stream_id in (_CONNECTION, self._stream_id):
                control += _header(4, _WINDOW_UPDATE, stream_id) + self._taken.to_bytes(4, "big")
            self._taken = 0
        if control:
            unsent.append(memoryview(control))
        if self._outgoing:
            self._frame()
        while unsent:
            sent = self._socket.sendmsg(list(itertools.islice(unsent, _MAX_PIECES)))
            while sent:
                piece = unsent.popleft()
                if len(piece) > sent:
                    unsent.appendleft(piece[sent:])
                sent -= min(len(piece), sent)

    def _frame(self) -> None:
        """Put as much of the messages into frames as the daemon's window allows."""
        outgoing, unsent = self._outgoing, self._unsent
        allowed = min(
            self._allowed[_CONNECTION],
            self._allowed[self._stream_id] + self._http.remote_settings.initial_window_size,
        )
        room = min(allowed - self._sent, sum(map(len, outgoing)))
        while room > 0:
            left = min(room, self._http.max_outbound_frame_size)
            unsent.append(memoryview(_header(left, _DATA, self._stream_id)))
            room -= left
            self._sent += left
            while left:
                piece = outgoing.popleft()
                if len(piece) > left:
                    outgoing.appendleft(piece[left:])
                    piece = piece[:left]
                unsent.append(piece)
                left -= len(piece)

    def _why_closed(self) -> UsmError:
        why = f" with HTTP/2 error {self._goaway}" if self._goaway else ""
        return ConnectionLost(f"the daemon closed the connection{why}; connect again")

    def _why(self) -> UsmError:
        """The error with which the daemon ended the call."""
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
            return None  # then the plain status is used


def _connected(path: str) -> socket.socket:
    """A connection to the socket at `path`. Raises DaemonUnavailable and LimitExceeded."""
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(error, f"the socket {path}") from None
    try:
        connect(connection, path, _CONNECT_SECONDS)
    except OSError as error:
        connection.close()
        raise unreachable(error, f"the socket {path}") from None
    return connection


def _header(length: int, kind: int, stream_id: bytes) -> bytes:
    """Header of a frame without flags."""
    return length.to_bytes(3, "big") + bytes((kind, 0)) + stream_id
