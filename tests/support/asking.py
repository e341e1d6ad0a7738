"""Clients of an HTTP server in the same process, which send any bytes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import TracebackType

from usmd.server.http_server import HttpServer


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Asking:
    """A server with its Unix socket at `path`, and its clients; at the end of the block both are closed."""

    def __init__(self, server: HttpServer, path: Path) -> None:
        self.server = server
        self.path = path
        self._clients: list[socket.socket] = []

    async def __aenter__(self) -> Asking:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.close()
        for each in self._clients:
            each.close()
        assert self.server.connections == 0

    def connect(self, address: tuple[str, int] | None = None) -> socket.socket:
        """A new client, of the Unix socket or of a port."""
        client = socket.socket(socket.AF_UNIX if address is None else socket.AF_INET)
        self._clients.append(client)
        client.connect(str(self.path) if address is None else address)
        client.setblocking(False)
        return client

    async def ask(self, sent: bytes, address: tuple[str, int] | None = None) -> str:
        """What a new client gets first."""
        return await self.answer(self.connect(address), sent)

    async def answer(self, client: socket.socket, sent: bytes) -> str:
        """What a client gets next."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, sent)
        return (await loop.sock_recv(client, 1 << 20)).decode()
