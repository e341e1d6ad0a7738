"""HTTP/1.1 on one connection: requests without a body, each answered whole, by h11.

h11 reads and writes the bytes of HTTP; this module moves them, and bounds time and memory. Both ends are untrusted: a
peer may send nothing, anything, or never read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import h11

MAX_HEAD: Final = 16 << 10
"""Bytes of a request line with its headers."""
READ_BYTES: Final = 4096
IDLE_SECONDS: Final = 120.0
"""How long a connection waits for its next request. Prometheus keeps one open from scrape to scrape."""
HEAD_SECONDS: Final = 10.0
"""How long a request may take to arrive, from its first byte; a connection's first one, from the connection."""
WRITE_SECONDS: Final = 10.0
"""How long a peer may take to read an answer."""
LINGER_SECONDS: Final = 1.0
"""How long the rest of a refused request is read, and dropped, and in how many reads."""
LINGER_READS: Final = 16
PLAIN: Final = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """What was asked. `host` and `accept`: headers, empty if not given."""

    method: str
    path: str
    host: str
    accept: str


class Answer(NamedTuple):
    """What is answered. `headers`: beside those that every answer has."""

    status: int
    body: bytes
    content_type: str = PLAIN
    headers: tuple[tuple[str, str], ...] = ()


class HttpConnection:
    """One connection, which `serve` closes. `waits`: for the peer, and not for this daemon."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._loop = asyncio.get_running_loop()
        self.waits = True

    async def serve(self, handle: Callable[[Request], Awaitable[Answer]]) -> None:
        """Answer requests until the peer leaves, is too slow, or sends what is not HTTP."""
        try:
            seconds = HEAD_SECONDS
            while (request := await self._request(seconds)) is not None:
                self.waits = False
                answer = await handle(request)
                self.waits = True
                await self._send(answer, head=request.method == "HEAD")
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    break
                self._http.start_next_cycle()
                seconds = IDLE_SECONDS
        except h11.RemoteProtocolError as error:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._refuse(error.error_status_hint)
        except (TimeoutError, OSError):
            return  # the peer is gone, or as good as gone
        finally:
            self._peer.close()

    async def _request(self, seconds: float) -> Request | None:
        """The next request; None at the end of the connection. Raises TimeoutError and RemoteProtocolError."""
        found: Request | None = None
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            async with asyncio.timeout(seconds):
                event = await self._more()
        async with asyncio.timeout(HEAD_SECONDS):
            while True:
                if event is h11.NEED_DATA:
                    event = await self._more()
                    continue
                if isinstance(event, h11.EndOfMessage):
                    return found
                if isinstance(event, h11.Data):
                    raise h11.RemoteProtocolError("requests have no body here", error_status_hint=413)
                if not isinstance(event, h11.Request):
                    return None
                found = _request_of(event)
                event = self._http.next_event()

    async def _more(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Read bytes; returns what the peer has sent, or NEED_DATA if that is not all there yet."""
        self._http.receive_data(await self._loop.sock_recv(self._peer, READ_BYTES))
        return self._http.next_event()

    async def _send(self, answer: Answer, *, head: bool = False) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        http = self._http
        parts = [http.send(h11.Response(status_code=answer.status, headers=headers))]
        parts.append(b"" if head else http.send(h11.Data(answer.body)))
        parts.append(http.send(h11.EndOfMessage()))
        async with asyncio.timeout(WRITE_SECONDS):
            await self._loop.sock_sendall(self._peer, b"".join(part or b"" for part in parts))

    async def _refuse(self, status: int) -> None:
        """Say why a request is refused; the connection ends after it."""
        body = b"this request cannot be answered: usmd takes GET and HEAD without a body, in at most 16 KiB\n"
        try:
            await self._send(Answer(status, body))
            # A socket that is closed with bytes unread is reset, and its peer may lose the answer.
            self._peer.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                for _ in range(LINGER_READS):
                    if not await self._loop.sock_recv(self._peer, READ_BYTES):
                        break
        except (TimeoutError, OSError):
            return


def _request_of(event: h11.Request) -> Request:
    headers = {name: value.decode("latin-1") for name, value in event.headers}
    return Request(
        method=event.method.decode("ascii"),
        path=event.target.decode("latin-1").partition("?")[0],
        host=headers.get(b"host", ""),
        accept=headers.get(b"accept", ""),
    )
