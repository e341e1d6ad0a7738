"""What streams of messages on a socket have in common: they are polled, and each message has a prefix with its length.

The prefix is that of usm_wire.local_stream, which is gRPC's as well. How messages travel is in the subclasses.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from lib_usm.errors import ClosedError, ConnectionLost, InternalError, UsmError, again
from usm_wire.local_stream import MESSAGE, PREFIX

_RECEIVE_BYTES: Final = 1 << 18
_MAX_MESSAGE_BYTES: Final = 16 << 20


class PolledStream(ABC):
    """The client's end, on a connected socket. It acts only when it is called, and never waits.

    Poll `fileno` for reading, and for writing too while `wants_to_send` is true.
    """

    last: ClassVar[Mapping[int, Callable[[bytes], UsmError]]] = {}
    """Kinds of messages with which the daemon may end the stream, each with what makes the error of its content."""
    _unsent: bytearray | deque[memoryview]
    """What waits for the socket to become writable."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self.end: UsmError | None = None
        """Why the stream ended; None before."""
        self._incoming = bytearray()
        """Messages with their prefixes."""

    def fileno(self) -> int:
        """The descriptor of the connection; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        """True if bytes wait for the connection to become writable; then call `receive`."""
        return bool(self._unsent)

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon has room. After the end it is dropped."""

    def receive(self) -> list[bytes]:
        """Return the messages that have arrived, and send what can be sent. After the last message `end` is set."""
        if self.end is not None:
            return []
        data, closed = b"", False
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            closed = not data
        except BlockingIOError:
            pass
        except OSError as error:
            self._stop(_broken(error))
            return []
        if data:
            self._take(data)
        messages = self._messages()
        if closed:
            self._stop(self._why_closed())
        elif self.end is None:
            self._push()
        return messages

    def close(self, error: UsmError | None = None) -> None:
        """End the stream with `error` (None: ClosedError). May be called again."""
        self._stop(error or ClosedError("the stream was closed"))

    def __del__(self) -> None:
        # For a client that was not closed; the client issues the warning. There is no socket if no connection was made.
        connection: socket.socket | None = getattr(self, "_socket", None)
        if connection is not None:
            connection.close()

    @abstractmethod
    def _take(self, data: bytes) -> None:
        """Add the messages and prefixes in `data`, which has arrived, to `_incoming`."""

    @abstractmethod
    def _why_closed(self) -> UsmError:
        """The error if the daemon has closed the connection, and said nothing else."""

    @abstractmethod
    def _send_unsent(self) -> None:
        """Send what the daemon has room for. Raises OSError, and BlockingIOError if the socket accepts no more."""

    def _push(self) -> None:
        """Send as much as the daemon and the socket accept."""
        try:
            self._send_unsent()
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent.clear()  # the daemon's last messages may still be unread, which `receive` returns
        except OSError as error:
            self._stop(_broken(error))

    def _messages(self) -> list[bytes]:
        """The complete messages received."""
        messages = []
        incoming, start = self._incoming, 0
        with memoryview(incoming) as view:
            while len(incoming) - start >= PREFIX.size:
                kind, length = PREFIX.unpack_from(incoming, start)
                if (kind != MESSAGE and kind not in self.last) or length > _MAX_MESSAGE_BYTES:
                    self._stop(self._not_allowed(kind, length))
                    break
                stop = start + PREFIX.size + length
                if len(incoming) < stop:
                    break
                content = bytes(view[start + PREFIX.size : stop])
                start = stop
                if kind != MESSAGE:
                    self._stop(self.last[kind](content))
                    break
                messages.append(content)
        del incoming[:start]
        return messages

    def _not_allowed(self, kind: int, length: int) -> UsmError:
        kinds = " or ".join(map(str, (MESSAGE, *self.last)))
        return InternalError(
            f"the daemon sent a message of kind {kind} with {length} bytes; allowed are kind {kinds}, and at most "
            f"{_MAX_MESSAGE_BYTES} bytes"
        )

    def _stop(self, error: UsmError) -> None:
        if self.end is None:
            self.end = again(error)
        self._socket.close()


def _broken(error: OSError) -> UsmError:
    return ConnectionLost(f"the connection to the daemon broke: {error.strerror}; connect again")
