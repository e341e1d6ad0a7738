"""Servers over HTTP: where clients ask, how many there may be, and that none holds up another."""

import asyncio
import errno
import socket
import stat

import pytest

from tests.support.asking import Asking, free_port
from tests.support.waiting import wait_until_async
from usmd.errors import ConfigError
from usmd.http_config import HttpConfig
from usmd.server import http_server
from usmd.server.http import Answer
from usmd.server.http_server import LEAST_SECONDS, MAX_CONNECTIONS, UNIX, HttpServer, bound_port, serve_all

GET = b"GET /x HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"


class Setup(Asking):
    """A server that answers `found`, and its clients. `goes_on`: answers wait for it. `clock`: stands still."""

    def __init__(self, folder, **more):
        self.asked, self.refused, self.now = [], [], 0.0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        server = HttpServer("test", folder / "m", "/x", self._answer, lambda *what: self.refused.append(what), **more)
        super().__init__(server, folder / "m")

    async def _answer(self, request):
        self.asked.append(request)
        await self.goes_on.wait()
        return Answer(200, b"found\n")

    def apply(self, **config):
        serve_all([(self.server, HttpConfig(**config))])


@pytest.fixture
def run(tmp_path):
    """Run `test(setup)` with a server on the Unix socket, and on a port if one is given."""

    def run_with(test, *, more=None, **config):
        async def main():
            setup = Setup(tmp_path, **(more or {}))
            setup.apply(**{"unix": True, **config})
            async with setup:
                await test(setup)

        asyncio.run(main())

    return run_with


def test_the_handler_answers_what_is_asked_by_get_or_head(run):
    async def test(setup):
        assert (await setup.ask(GET)).endswith("\r\n\r\nfound\n")
        assert (await setup.ask(GET.replace(b"GET", b"HEAD"))).startswith("HTTP/1.1 200 ")
        refused = await setup.ask(GET.replace(b"GET", b"DELETE"))
        assert refused.startswith("HTTP/1.1 405 ")
        assert "Allow: GET, HEAD\r\n" in refused
        assert [(each.method, each.path) for each in setup.asked] == [("GET", "/x"), ("HEAD", "/x")]

    run(test)


def test_the_socket_has_its_mode_and_changes_with_the_configuration(run):
    async def test(setup):
        def mode():
            return stat.S_IMODE(setup.path.stat().st_mode)

        assert mode() == 0o600
        client = setup.connect()
        assert "found" in await setup.answer(client, GET)
        setup.apply(unix=True, socket_mode=0o640)
        assert mode() == 0o640
        assert "found" in await setup.ask(GET)
        setup.apply()
        assert not setup.path.exists()
        assert "found" in await setup.answer(client, GET)  # which was there before

    run(test)


def test_a_port_answers_this_machine_alone_and_closes_again(run):
    port = free_port()

    async def test(setup):
        address = ("127.0.0.1", port)
        for host in (b"localhost:1", b"127.0.0.1", b"[::1]:9"):
            assert "found" in await setup.ask(GET.replace(b"127.0.0.1:9", host), address)
        for host in (b"evil.example", b"10.0.0.1:9842", b"x:y:z", b"localhost.evil.example:9"):
            answer = await setup.ask(GET.replace(b"127.0.0.1:9", host), address)
            assert answer.startswith("HTTP/1.1 403 ")
        assert "found" in await setup.ask(GET.replace(b"127.0.0.1:9", b"any"))  # by the Unix socket
        assert setup.server.addresses("/a.m") == f"unix:/a.m, http://127.0.0.1:{port}/x"
        setup.apply(unix=True)
        with pytest.raises(ConnectionRefusedError):
            setup.connect(address)

    run(test, listen=f"127.0.0.1:{port}")


def test_a_unix_socket_that_browsers_reach_checks_the_host_as_well(run):
    async def test(setup):
        assert (await setup.ask(GET.replace(b"127.0.0.1:9", b"any"))).startswith("HTTP/1.1 403 ")
        assert "found" in await setup.ask(GET)

    run(test, more={"checks_host": (UNIX,)})


def test_a_port_that_is_taken_is_an_error_that_names_it_and_changes_no_server(run):
    async def test(setup):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            other, free = HttpServer("other", setup.path.parent / "o", "/", None, None), free_port()
            with pytest.raises(ConfigError, match=f"test.listen = '{place}' cannot be bound: Address already in use"):
                serve_all([
                    (other, HttpConfig(listen=f"127.0.0.1:{free}")),
                    (setup.server, HttpConfig(listen=place)),
                ])  # fmt: skip
        assert "found" in await setup.ask(GET)
        with pytest.raises(ConnectionRefusedError):
            setup.connect(("127.0.0.1", free))

    run(test)


def test_a_port_that_the_service_may_not_open_is_an_error_that_says_where_to_read_on(monkeypatch):
    def forbidden(*_):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(http_server.socket, "socket", forbidden)
    with pytest.raises(ConfigError, match=r"page.listen = .* not supported by protocol; .*deploy/README.md"):
        bound_port("page", HttpConfig(listen="127.0.0.1:9"))


def test_silent_connections_give_way_to_a_client_the_oldest_first(run):
    async def test(setup):
        silent = [setup.connect() for _ in range(MAX_CONNECTIONS)]
        await wait_until_async(lambda: setup.server.connections == MAX_CONNECTIONS, "all are accepted")
        assert "found" in await setup.answer(silent[0], GET)  # now the second is the oldest
        assert "found" in await setup.ask(GET)
        assert await asyncio.get_running_loop().sock_recv(silent[1], 1) == b""
        assert "found" in await setup.answer(silent[0], GET)
        assert setup.server.connections == MAX_CONNECTIONS

    run(test)


def test_where_all_connections_wait_for_usmd_another_is_refused(run):
    async def test(setup):
        setup.goes_on.clear()
        asking = [asyncio.ensure_future(setup.ask(GET)) for _ in range(MAX_CONNECTIONS)]
        await wait_until_async(lambda: len(setup.asked) == MAX_CONNECTIONS, "all ask")
        assert (await setup.ask(b"")).startswith("HTTP/1.1 503 ")
        setup.goes_on.set()
        for answer in asking:
            assert "found" in await answer

    run(test)


def test_requests_are_answered_so_many_a_second_however_often_clients_ask(run, monkeypatch):
    rests = []
    sleep = asyncio.sleep

    async def noted(seconds):
        rests.append(seconds)
        await sleep(0)

    async def test(setup):
        monkeypatch.setattr(http_server.asyncio, "sleep", noted)
        for _ in range(3):
            await setup.ask(GET)

    run(test, more={"clock": lambda: 5.0})
    assert rests == pytest.approx([0.0, LEAST_SECONDS, 2 * LEAST_SECONDS])


def test_a_client_that_cannot_be_accepted_is_told_of(run, monkeypatch):
    def no_descriptor(_):
        raise OSError(errno.EMFILE, "Too many open files")

    async def test(setup):
        real = setup.server._listeners[UNIX]._socket
        monkeypatch.setattr(setup.server._listeners[UNIX], "_socket", type("Full", (), {
            "accept": no_descriptor, "fileno": lambda _: real.fileno(), "close": lambda _: real.close(),
        })())  # fmt: skip
        setup.connect()
        await wait_until_async(lambda: bool(setup.refused), "it is told")
        assert setup.refused == [("unix", "Too many open files")]

    run(test)
