"""HTTP/2 by hand, for a hostile client: calls that begin and never end. All frames are valid for gRPC.

Headers are literals without Huffman codes or an index. Of the daemon's frames only settings, windows, pings and resets
are handled.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Iterable

from tests.support.waiting import SECONDS

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 6, 7, 8, 9
RST_STREAM = 3
END_STREAM = 1
END_HEADERS = 4
_CANCEL = struct.pack(">I", 8)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 65535
_PIECE = 16384
STILL_ROUNDS = 40
"""After this many rounds without a byte either way, the daemon reads no more."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field that is not indexed."""
    return b"\0" + b"".join(_text(each.encode()) for each in (name, value))


def call_headers(path: str, token: str = "") -> bytes:
    """The headers of a gRPC call, with the token of a session if there is one."""
    fields = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"))
    rest = (("te", "trailers"), ("content-type", "application/grpc"))
    session = (("usm-session-token", token),) if token else ()
    return b"".join(literal(*field) for field in (*fields, *rest, *session))


def call(stream: int, path: str, message: bytes, token: str = "") -> bytes:
    """A whole call with one message."""
    content = b"\0" + struct.pack(">I", len(message)) + message
    return frame(HEADERS, END_HEADERS, stream, call_headers(path, token)) + frame(DATA, END_STREAM, stream, content)


def cancelled(stream: int, path: str, token: str = "") -> bytes:
    """A call that is begun and cancelled at once."""
    return frame(HEADERS, END_HEADERS, stream, call_headers(path, token)) + frame(RST_STREAM, 0, stream, _CANCEL)


def _text(data: bytes) -> bytes:
    size, rest = len(data), len(data) - 127
    if size < 127:
        return bytes((size,)) + data
    length = b"\x7f"
    while rest >= 128:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return length + bytes((rest,)) + data


class Connection:
    """One connection. `ended`: the daemon has closed it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._out = bytearray(PREFACE + frame(SETTINGS, 0, 0))
        self._in = bytearray()
        self._windows = {0: _WINDOW}
        self._first_window = _WINDOW
        self._left: dict[int, int] = {}
        self._again, self._times = b"", 0
        self._settled = False
        self.pongs = 0
        """Answered pings."""
        self.ended = False
        # At once: gRPC closes a connection without settings after a while, and its own are answered between two frames.
        self.pump()
        while not self._settled and not self.ended and select.select([self], [], [], SECONDS)[0]:
            self.pump()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def begin(self, stream: int, path: str, size: int) -> None:
        """Begin a call with a message of `size` bytes. Its last byte is never sent."""
        self._windows[stream] = self._first_window
        self.send(frame(HEADERS, END_HEADERS, stream, call_headers(path)))
        self._left[stream] = size - 1
        self._data(stream, b"\0" + struct.pack(">I", size))

    def send(self, data: bytes) -> None:
        """Queue bytes."""
        self._out += data

    def send_often(self, data: bytes, times: int) -> None:
        """Queue bytes so often, each time when all that is queued has been sent."""
        self._again, self._times = data, times

    @property
    def over(self) -> bool:
        """Whether all has been sent, or the daemon has closed the connection."""
        return self.ended or not (self._out or self._times)

    def pump(self) -> bool:
        """Read and write without waiting; returns whether any byte moved."""
        if self.ended:
            return False
        if self._times and not self._out:
            self._out += self._again
            self._times -= 1
        moved = False
        try:
            while data := self._socket.recv(65536):
                self._in += data
                moved = True
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        self._heed()
        for stream in list(self._left):
            while (count := min(_PIECE, self._left[stream], self._windows[stream], self._windows[0])) > 0:
                self._data(stream, b"z" * count)
                self._left[stream] -= count
        try:
            while self._out and not self.ended:
                del self._out[: self._socket.send(self._out[: 1 << 18])]
                moved = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        return moved

    def _data(self, stream: int, data: bytes) -> None:
        self.send(frame(DATA, 0, stream, data))
        self._windows[stream] -= len(data)
        self._windows[0] -= len(data)

    def _heed(self) -> None:
        while len(self._in) >= 9:
            size = int.from_bytes(self._in[:3], "big")
            if len(self._in) < 9 + size:
                return
            kind, flags = self._in[3], self._in[4]
            stream = int.from_bytes(self._in[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._in[9 : 9 + size])
            del self._in[: 9 + size]
            if kind == WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                self._windows[stream] = self._windows.get(stream, self._first_window) + more
            elif kind == SETTINGS and not flags & 1:
                self._settle(payload)
            elif kind == PING and flags & 1:
                self.pongs += 1
            elif kind == PING:
                self.send(frame(PING, 1, 0, payload))
            elif kind == RST_STREAM:
                self._left.pop(stream, None)

    def _settle(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                for stream in self._windows.keys() - {0}:
                    self._windows[stream] += value - self._first_window
                self._first_window = value
        self.send(frame(SETTINGS, 1, 0))
        self._settled = True


def unread(path: str, calls: Iterable[bytes]) -> socket.socket:
    """A connection with these calls, of whose answers as many may come as will, and none is read."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(path)
    most = (1 << 31) - 1
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, most)) + b"".join(calls))
    connection.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", most - _WINDOW)))
    return connection


def pump_until(over: Callable[[], bool], connections: Iterable[Connection]) -> None:
    """Read and write on all connections until `over`."""
    mine = list(connections)
    while not over():
        moved = [each.pump() for each in mine]
        if not any(moved):
            there = [each for each in mine if not each.ended]
            select.select(there, [each for each in there if not each.over], [], 0.01)


def pump_until_still(connections: Iterable[Connection]) -> None:
    """Read and write on all connections until no byte moves."""
    mine = list(connections)
    still = 0
    while still < STILL_ROUNDS:
        moved = [each.pump() for each in mine]
        still = 0 if any(moved) else still + 1
        select.select([each for each in mine if not each.ended], [], [], 0.01)
