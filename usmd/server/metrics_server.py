"""Serves metrics over HTTP: on a Unix socket, and on a loopback port where one is configured.

A scraper that is slow or silent holds nobody up: text is made whole before any of it is sent, one at a time, and where
connections are many, the one that has made the daemon wait longest gives way.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from usmd import log
from usmd.config import MetricsConfig
from usmd.errors import ConfigError
from usmd.runtime_paths import METRICS_SUFFIX
from usmd.server.exposition import Text, expose
from usmd.server.http import Answer, HttpConnection, Request
from usmd.server.identity import bound
from usmd.server.listener import Listener
from usmd.server.metrics import Metrics

MAX_CONNECTIONS: Final = 16
"""Connections at a time, of all sockets."""
REST: Final = 3
"""After a scrape the next one begins so many times later as that took CPU: all scrapers take a quarter at most."""
UNIX: Final = "unix"
PORT: Final = "port"
METHODS: Final = ("GET", "HEAD")
PATH: Final = "/metrics"
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class MetricsServer:
    """Answers scrapers with `metrics`, on the sockets of the configuration that `apply` gets last, until `close`."""

    def __init__(self, metrics: Metrics, place: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`place`: path of the Unix socket."""
        self._metrics = metrics
        self._place = place
        self._config = MetricsConfig(unix=False)
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._connections: dict[asyncio.Task[None], HttpConnection] = {}
        """In the order of their last answer, the oldest first."""
        self._turn = asyncio.Lock()
        self._not_before = 0.0

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    def addresses(self, admin_socket: Path) -> str:
        """Where scrapers ask, for people; `admin_socket`: of operators, beside which the Unix socket is."""
        unix = [f"unix:{admin_socket}{METRICS_SUFFIX}"] if self._config.unix else []
        return ", ".join([*unix, *([f"http://{self._config.listen}{PATH}"] if self._config.listen else [])])

    def apply(self, config: MetricsConfig) -> None:
        """Serve as configured from now on; connections stay. Raises ConfigError, and has then changed nothing."""
        before = self._config
        new_port = config.listen is not None and config.listen != before.listen
        port = bound_port(config) if new_port else None
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
        self._metrics.processes = config.processes
        self._config = config

    def _listen(self, name: str, listener: socket.socket) -> None:
        self._listeners[name] = Listener(
            listener, lambda peer: self._accepted(peer, by_port=name == PORT), lambda error: _refused(name, error)
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

    def _accepted(self, peer: socket.socket, *, by_port: bool) -> None:
        if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
            with suppress(OSError):  # the peer is gone
                peer.send(_BUSY)
            peer.close()
            return
        connection = HttpConnection(peer)
        task = asyncio.get_running_loop().create_task(
            connection.serve(lambda request: self._handle(request, task, by_port=by_port))
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
            log.event("defect", exc_info=error, method="metrics")

    async def _handle(self, request: Request, task: asyncio.Task[None], *, by_port: bool) -> Answer:
        if task in self._connections:
            self._connections[task] = self._connections.pop(task)
        if by_port and not _is_local(request.host):
            return Answer(403, b"the host of this request is not this machine: a page of another site may not ask\n")
        if request.method not in METHODS:
            return Answer(405, b"allowed are GET and HEAD\n", allow=", ".join(METHODS))
        if request.path != PATH:
            found = request.path == "/"
            return Answer(200 if found else 404, f"metrics of usmd are at {PATH}\n".encode())
        text = await self._scrape(request.accept)
        return Answer(200, text.body, text.content_type)

    async def _scrape(self, accept: str) -> Text:
        async with self._turn:
            await asyncio.sleep(max(self._not_before - self._clock(), 0.0))
            text = await expose(self._metrics.steps(), accept)
            self._not_before = self._clock() + REST * text.cpu_seconds
            self._metrics.scrapes += 1
            self._metrics.scrape_seconds += text.cpu_seconds
            return text


def bound_port(config: MetricsConfig) -> socket.socket:
    """A socket bound to `config.listen`, which is given. Raises ConfigError."""
    host, port = config.address or ("", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"metrics.listen = {config.listen!r} cannot be bound: {error.strerror}; give another port"
        ) from error
    return listener


def _is_local(host: str) -> bool:
    """Whether a Host header names this machine's loopback, with any port; HTTP/1.0 has none."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name.lower() in ("", "localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _refused(name: str, error: str) -> None:
    log.event("metrics_socket_refused", socket=name, error=error)
