"""A fault stream on a socket that the daemon has handed over: several times cheaper than a call, and without a thread.

Sessions with real memory use it; see usm_wire.local_stream. Others use lib_usm.message_stream.
"""

from __future__ import annotations

import socket
from typing import Final

from google.protobuf.message import DecodeError

from lib_usm.errors import ClosedError, ConnectionLost, InternalError, UsmError, again, error_of_reply
from usm_wire.local_stream import END, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2

_RECEIVE_BYTES: Final = 1 << 18
_MAX_MESSAGE_BYTES: Final = 16 << 20


class LocalStream:
    """The client's end. Poll `fileno` for reading, and for writing too while `wants_to_send` is true."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.end: UsmError | None = None
        """Why the stream ended; None before."""
        self._incoming = bytearray()
        self._unsent = bytearray()

    def fileno(self) -> int:
        """The descriptor of the connection; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        """True if bytes wait for the connection to become writable; then call `receive`."""
        return bool(self._unsent)

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon has room. After the end it is dropped."""
        if self.end is None:
            self._unsent += PREFIX.pack(MESSAGE, len(message)) + message
            self._push()

    def receive(self) -> list[bytes]:
        """Return the messages that have arrived, and send what can be sent. After the last message `end` is set."""
        if self.end is not None:
            return []
        closed = False
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            closed = not data
            self._incoming += data
        except BlockingIOError:
            pass
        except OSError as error:
            self._stop(ConnectionLost(f"the fault stream broke: {error.strerror}; connect again"))
            return []
        messages = self._messages()
        if closed:
            self._stop(ConnectionLost("the daemon ended the fault stream; the session and its regions are gone"))
        elif self.end is None:
            self._push()
        return messages

    def close(self, error: UsmError | None = None) -> None:
        """End the stream with `error` (None: ClosedError). May be called again."""
        self._stop(error or ClosedError("the stream was closed"))

    def __del__(self) -> None:
        # For a client that was not closed; the client issues the warning.
        self._socket.close()

    def _messages(self) -> list[bytes]:
        """The complete messages received."""
        messages = []
        incoming, start = self._incoming, 0
        with memoryview(incoming) as view:
            while self.end is None and len(incoming) - start >= PREFIX.size:
                kind, length = PREFIX.unpack_from(incoming, start)
                if kind not in (MESSAGE, END) or length > _MAX_MESSAGE_BYTES:
                    self._stop(InternalError(f"a message of kind {kind} and {length} bytes came from the daemon"))
                    break
                stop = start + PREFIX.size + length
                if len(incoming) < stop:
                    break
                content = bytes(view[start + PREFIX.size : stop])
                start = stop
                if kind == MESSAGE:
                    messages.append(content)
                else:
                    self._stop(_why(content))
        del incoming[:start]
        return messages

    def _push(self) -> None:
        """Send as much as the socket accepts."""
        unsent = self._unsent
        try:
            while unsent:
                del unsent[: self._socket.send(unsent)]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            unsent.clear()  # the daemon's last messages may still be unread, which `receive` returns
        except OSError as error:
            self._stop(ConnectionLost(f"the fault stream broke: {error.strerror}; connect again"))

    def _stop(self, error: UsmError) -> None:
        if self.end is None:
            self.end = again(error)
        self._socket.close()


def _why(content: bytes) -> UsmError:
    """The error with which the daemon ended the stream."""
    try:
        return error_of_reply(client_pb2.MemoryReply.FromString(content))
    except DecodeError:
        return InternalError("the daemon's reason for the end of the fault stream cannot be decoded")
