"""Serves requests over HTTP: on a Unix socket, and on a loopback port where one is configured.

A client that is slow or silent holds nobody up: where connections are many, the one that has made the daemon wait
longest gives way. What a request gets is for the handler to say.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from usmd import log
from usmd.errors import ConfigError
from usmd.http_config import HttpConfig
from usmd.server.http import Answer, HttpConnection, Request
from usmd.server.identity import bound
from usmd.server.listener import Listener

MAX_CONNECTIONS: Final = 16
"""Connections at a time, of both sockets of a server."""
UNIX: Final = "unix"
PORT: Final = "port"
METHODS: Final = ("GET", "HEAD")
LEAST_SECONDS: Final = 0.01
"""From one request to the next, of all connections: so many as take 2 % of a CPU, however often clients ask."""
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ELSEWHERE: Final = Answer(403, b"the host of this request is not this machine: a page of another site may not ask\n")
_NOT_ALLOWED: Final = Answer(405, b"allowed are GET and HEAD\n", headers=(("Allow", ", ".join(METHODS)),))


class HttpServer:
    """Answers requests by `handle`, on the sockets of the configuration that `serve` gets last, until `close`."""

    def __init__(
        self,
        section: str,
        place: Path,
        path: str,
        handle: Callable[[Request], Awaitable[Answer]],
        refused: Callable[[str, str], object],
        *,
        checks_host: Sequence[str] = (PORT,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`section`: of the configuration. `place`: path of the Unix socket. `path`: what people ask for first.

        `refused` gets the name of a socket on which no connection can be accepted, and the error. `checks_host`: the
        sockets on which a request must name this machine as its host, because browsers come there.
        """
        self._section = section
        self._place = place
        self._path = path
        self._handler = handle
        self._refused = refused
        self._checks_host = checks_host
        self._clock = clock
        self._not_before = clock()
        self._config = HttpConfig()
        self._listeners: dict[str, Listener] = {}
        self._connections: dict[asyncio.Task[None], HttpConnection] = {}
        """In the order of their last answer, the oldest first."""

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def addresses(self, unix_socket: str) -> str:
        """Where clients ask, for people; `unix_socket`: the path of the Unix socket as people know it."""
        unix = [f"unix:{unix_socket}"] if self._config.unix else []
        return ", ".join([*unix, *([f"http://{self._config.listen}{self._path}"] if self._config.listen else [])])

    def bind(self, config: HttpConfig) -> socket.socket | None:
        """The port that `config` needs anew, bound, for `serve`. Raises ConfigError."""
        if config.listen is None or config.listen == self._config.listen:
            return None
        return bound_port(self._section, config)

    def serve(self, config: HttpConfig, port: socket.socket | None) -> None:
        """Serve as configured from now on, with the port that `bind` made; connections stay."""
        before, self._config = self._config, config
        if (config.unix, config.socket_mode) != (before.unix, before.socket_mode):
            self._stop(UNIX)
            if before.unix:
                self._place.unlink(missing_ok=True)
            if config.unix:
                self._listen(UNIX, bound(self._place, config.socket_mode, socket.SOCK_STREAM))
        if config.listen != before.listen:
            self._stop(PORT)
        if port is not None:
            self._listen(PORT, port)

    def _listen(self, name: str, listener: socket.socket) -> None:
        self._listeners[name] = Listener(
            listener, lambda peer: self._accepted(peer, name), lambda error: self._refused(name, error)
        )

    def _stop(self, name: str) -> None:
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()

    async def close(self) -> None:
        """Close all sockets and connections."""
        for name in list(self._listeners):
            self._stop(name)
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, peer: socket.socket, name: str) -> None:
        if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
            with suppress(OSError):  # the peer is gone
                peer.send(_BUSY)
            peer.close()
            return
        connection = HttpConnection(peer)
        task = asyncio.get_running_loop().create_task(
            connection.serve(lambda request: self._handle(request, task, name))
        )
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    def _make_room(self) -> bool:
        """End the connection whose peer has been waited for longest; False if none is waited for."""
        for task, connection in self._connections.items():
            if connection.waits:
                del self._connections[task]
                task.cancel()
                return True
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.event("defect", exc_info=error, method=self._section)

    async def _handle(self, request: Request, task: asyncio.Task[None], name: str) -> Answer:
        if task in self._connections:
            self._connections[task] = self._connections.pop(task)
        now = self._clock()
        begins = max(self._not_before, now)
        self._not_before = begins + LEAST_SECONDS
        await asyncio.sleep(begins - now)
        if name in self._checks_host and not _is_local(request.host):
            return _ELSEWHERE
        if request.method not in METHODS:
            return _NOT_ALLOWED
        return await self._handler(request)


def serve_all(changes: Sequence[tuple[HttpServer, HttpConfig]]) -> None:
    """Have each server serve as configured. Raises ConfigError if a port cannot be bound, and has then changed none."""
    ports: list[socket.socket | None] = []
    try:
        for server, config in changes:
            ports.append(server.bind(config))
    except ConfigError:
        for port in ports:
            if port is not None:
                port.close()
        raise
    for (server, config), port in zip(changes, ports, strict=True):
        server.serve(config, port)


def bound_port(section: str, config: HttpConfig) -> socket.socket:
    """A socket bound to `config.listen`, which is given. Raises ConfigError."""
    host, port = config.address or ("", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _not_bound(section, config, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _not_bound(section, config, error) from error
    return listener


def _not_bound(section: str, config: HttpConfig, error: OSError) -> ConfigError:
    by_unit = error.errno == errno.EAFNOSUPPORT
    what_to_do = "let the service use it (deploy/README.md)" if by_unit else "give another port"
    return ConfigError(f"{section}.listen = {config.listen!r} cannot be bound: {error.strerror}; {what_to_do}")


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine's loopback, with any port; HTTP/1.0 has none."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name.lower() in ("", "localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
