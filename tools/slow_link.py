"""A network in user space between a client and a server: it delays bytes, and it can be cut in several ways.

It listens on a TCP port of loopback and forwards connections to a server. It replaces `netem`, which a kernel may lack,
for tests and benchmarks. Bytes are never lost or reordered within a connection, as in TCP: what a cut network holds
arrives when it is healed. Bandwidth is not limited.

`SlowLink` is a thread of this process. `python -m tools.slow_link SERVER MICROSECONDS` is a process of its own, so that
nobody waits for its Python: it prints its port, and ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal, Self

from tools.own_daemon import start_python

State = Literal["up", "reset", "hole", "deaf"]
"""`up`: all is forwarded. `reset`: connections are reset at once. `hole`: they are accepted and nothing is forwarded.
`deaf`: the server gets what is sent, and its answers do not come back."""
Place = str | tuple[str, int]
"""The path of a Unix socket, or host and port."""

_CHUNK: Final = 1 << 18
_MOST: Final = 1 << 24
"""Bytes of a direction that are held; beyond that the sender waits."""
_SPIN_SECONDS: Final = 0.0002
"""Before bytes are due, the thread does not sleep any more: to wake up takes a tenth of a millisecond, or more."""
_LONG: Final = 3600.0
_PR_SET_TIMERSLACK: Final = 29
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER by which a close sends RST."""


class _Way:
    """One direction of a connection: what was received from `source` and when it is due at `target`."""

    def __init__(self, source: socket.socket, target: socket.socket, *, answers: bool) -> None:
        self.source = source
        self.target = target
        self.answers = answers
        self.due: deque[tuple[float, bytes]] = deque()
        """The last one is empty if the source has ended."""
        self.bytes = 0
        self.ended = False
        self.blocked = False
        """The target's buffer is full."""

    def receive(self, now: float, delay: float) -> None:
        """Take what is there."""
        with contextlib.suppress(BlockingIOError):
            data = self.source.recv(_CHUNK)
            self.due.append((now + delay, data))
            self.bytes += len(data)
            self.ended = not data

    def send(self, now: float) -> None:
        """Forward what is due, as far as the target takes it."""
        self.blocked = False
        while self.due and self.due[0][0] <= now:
            when, data = self.due.popleft()
            if not data:
                self.target.shutdown(socket.SHUT_WR)
                return
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                sent = 0
            self.bytes -= sent
            if sent < len(data):
                self.due.appendleft((when, data[sent:]))
                self.blocked = True
                return


class _Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.sockets = (client, server)
        for each in self.sockets:
            each.setblocking(False)
            if each.family != socket.AF_UNIX:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ways = (_Way(client, server, answers=False), _Way(server, client, answers=True))
        self.forgotten = False

    def is_over(self) -> bool:
        """Whether both ends have ended, and have been told."""
        return all(way.ended and not way.due for way in self.ways)

    def forget(self) -> None:
        """Close the server's side, and tell the client nothing: what it sends goes nowhere from now on."""
        self.forgotten = True
        self.sockets[1].close()

    def close(self, *, reset: bool = False) -> None:
        """Close both sides."""
        for each in self.sockets:
            if reset and each.fileno() >= 0 and each.family != socket.AF_UNIX:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()


class SlowLink:
    """A link to the server at `place`; bytes take `delay` seconds in each direction.

    Its thread runs until `close`, or the end of a `with` block. Methods may be called in any thread, and what they say
    is in force when they return.
    """

    def __init__(self, place: Place, delay: float = 0.0) -> None:
        self.delay = delay
        self._place = place
        self._state: State = "up"
        self._changed = threading.Event()
        self._wanted: deque[State | Literal["forget", "close"]] = deque()
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="slow link", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The TCP port of loopback on which it listens."""
        return int(self._listener.getsockname()[1])

    def cut(self, state: Literal["reset", "hole", "deaf"]) -> None:
        """Cut the network, in the way that `State` describes, until `heal`."""
        self._ask(state)

    def heal(self) -> None:
        """Forward again, first what was held meanwhile."""
        self._ask("up")

    def forget(self) -> None:
        """Forget the connections there are, as a router does that is restarted: they stay half-open. New ones work."""
        self._ask("forget")

    def close(self) -> None:
        """Reset all connections, and end."""
        self._ask("close")
        self._thread.join()
        for each in (self._wake, self._woken):
            each.close()

    def _ask(self, what: State | Literal["forget", "close"]) -> None:
        self._changed.clear()
        self._wanted.append(what)
        self._wake.send(b"\0")
        self._changed.wait()

    def _run(self) -> None:
        # Sleep as long as asked, and not up to 50 us longer.
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        while True:
            readable = self._wait()
            if self._woken in readable and not self._obey():
                return
            if self._listener in readable:
                self._accept()
            now = time.monotonic()
            for connection in list(self._connections):
                self._serve(connection, readable, now)

    def _wait(self) -> set[socket.socket]:
        """Wait until there is something to do; the sockets that have something to be read."""
        reads: list[socket.socket] = [self._woken, self._listener]
        writes, due = [], _LONG
        for connection in self._connections:
            for way in connection.ways:
                if connection.forgotten and way.answers:
                    continue
                if not way.ended and way.bytes < _MOST:
                    reads.append(way.source)
                if way.due and not connection.forgotten and self._lets(way):
                    if way.blocked:
                        writes.append(way.target)
                    else:
                        due = min(due, way.due[0][0] - time.monotonic())
        timeout = due - _SPIN_SECONDS if due > _SPIN_SECONDS else 0
        return set(select.select(reads, writes, [], timeout)[0])

    def _lets(self, way: _Way) -> bool:
        return self._state == "up" or (self._state == "deaf" and not way.answers)

    def _obey(self) -> bool:
        """Do what was asked; False to end."""
        self._woken.recv(1)
        wanted = self._wanted.popleft()
        if wanted == "forget":
            for connection in self._connections:
                connection.forget()
        elif wanted == "close" or wanted == "reset":
            for connection in self._connections:
                connection.close(reset=True)
            self._connections.clear()
        if wanted == "close":
            self._listener.close()
        elif wanted != "forget":
            self._state = wanted
        self._changed.set()
        return wanted != "close"

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX if isinstance(self._place, str) else socket.AF_INET)
        if self._state != "reset":
            try:
                server.connect(self._place)
            except OSError:
                pass  # the client learns by a reset that there is no server
            else:
                self._connections.append(_Connection(client, server))
                return
        server.close()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.close()

    def _serve(self, connection: _Connection, readable: set[socket.socket], now: float) -> None:
        try:
            for way in connection.ways:
                if way.source in readable:
                    way.receive(now, self.delay)
                if connection.forgotten:
                    way.due.clear()
                    way.bytes = 0
                elif self._lets(way):
                    way.send(time.monotonic())
        except OSError:
            connection.close(reset=True)
            self._connections.remove(connection)
            return
        if connection.is_over() or (connection.forgotten and connection.ways[0].ended):
            connection.close()
            self._connections.remove(connection)


@contextlib.contextmanager
def slow_link(port: int, delay: float) -> Iterator[int]:
    """A link to a port of loopback in a process of its own; yields its port."""
    program = ("-m", "tools.slow_link", str(port), str(round(delay * 1e6)))
    with start_python(*program, says=True, hears=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the link has no stdout")
            said = process.stdout.readline()
            if not said:
                raise RuntimeError(f"the link to port {port} did not start")
            yield int(said)
        finally:
            process.kill()


def main() -> None:
    """Run a link until stdin ends."""
    port, microseconds = map(int, sys.argv[1:])
    with SlowLink(("127.0.0.1", port), microseconds / 1e6) as link:
        print(link.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
