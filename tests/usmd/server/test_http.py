"""One HTTP connection: what is asked, and peers that are silent, slow, or send what is not HTTP."""

import asyncio
import socket

import pytest

from usmd.server import http
from usmd.server.http import MAX_HEAD, Answer, HttpConnection

GET = b"GET /metrics?name=x HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n"


class Peer:
    """The other end of a connection that is served. `asked`: the requests that were handled."""

    def __init__(self, answer=None):
        self.socket, theirs = socket.socketpair()
        for each in (self.socket, theirs):
            each.setblocking(False)
        self.asked = []
        self._answer = answer or Answer(200, b"body\n", "text/x")
        self.connection = HttpConnection(theirs)
        self.served = asyncio.ensure_future(self.connection.serve(self._handle))

    async def _handle(self, request):
        self.asked.append(request)
        return self._answer

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self, count=65536):
        return await asyncio.get_running_loop().sock_recv(self.socket, count)

    async def rest(self):
        """All that comes until the connection is closed, which ends `serve`."""
        parts = []
        while part := await self.receive():
            parts.append(part)
        await self.served
        return b"".join(parts)


def serve(test, **more):
    """Run `test(peer)`."""

    async def main():
        peer = Peer(**more)
        try:
            await test(peer)
        finally:
            peer.socket.close()
            peer.served.cancel()
            await asyncio.gather(peer.served, return_exceptions=True)

    asyncio.run(main())


def test_requests_on_one_connection_are_answered_one_after_another():
    async def test(peer):
        for number in (1, 2):
            await peer.send(GET)
            answer = await peer.receive()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\nbody\n")
            assert b"content-type: text/x\r\n" in answer.lower()
            assert len(peer.asked) == number
        assert peer.asked[0] == ("GET", "/metrics", "localhost", "text/plain")
        await peer.send(GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert (await peer.rest()).endswith(b"body\n")

    serve(test)


def test_head_has_the_length_and_no_body_and_headers_of_the_answer_are_sent():
    async def test(peer):
        await peer.send(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = (await peer.rest()).lower()
        assert b"content-length: 5\r\n" in answer
        assert b"allow: get\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")

    serve(test, answer=Answer(405, b"body\n", headers=(("Allow", "GET"),)))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00\x01\x02\xff\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"400"),  # without a host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (MAX_HEAD + 4096), b"431"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", b"413"),
    ],
)
def test_what_cannot_be_answered_is_refused_and_the_connection_closed(sent, status):
    async def test(peer):
        await peer.send(sent)
        peer.socket.shutdown(socket.SHUT_WR)
        assert (await peer.rest()).startswith(b"HTTP/1.1 " + status)
        assert peer.asked == []

    serve(test)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost"])
def test_a_peer_that_falls_silent_is_left(sent, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.01)

    async def test(peer):
        await peer.send(sent)
        assert peer.connection.waits
        assert await peer.rest() == b""

    serve(test)


def test_a_connection_that_is_kept_open_is_left_in_the_end(monkeypatch):
    monkeypatch.setattr(http, "IDLE_SECONDS", 0.01)

    async def test(peer):
        await peer.send(GET)
        assert (await peer.rest()).count(b"HTTP/1.1 200") == 1

    serve(test)


def test_a_peer_that_does_not_read_is_left(monkeypatch):
    monkeypatch.setattr(http, "WRITE_SECONDS", 0.01)

    async def test(peer):
        await peer.send(GET)
        await peer.served

    serve(test, answer=Answer(200, b"x" * (8 << 20)))


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET])
def test_a_peer_may_leave_at_any_moment(sent):
    async def test(peer):
        await peer.send(sent)
        peer.socket.close()
        await peer.served

    serve(test)
