"""Scrapers: where they ask, what they get, how many there may be, and that none holds up another."""

import asyncio
import errno
import socket
import stat
from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily

from tests.support.waiting import wait_until_async
from usmd.config import MetricsConfig
from usmd.errors import ConfigError
from usmd.server import metrics_server
from usmd.server.metrics_server import MAX_CONNECTIONS, MetricsServer

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"


class OneMetric:
    """Metrics with one family."""

    scrapes = 0
    scrape_seconds = 0.0
    processes = 10

    def steps(self):
        yield GaugeMetricFamily("only", "Text.", value=1)


class Setup:
    """A server, and its clients, which are closed at the end."""

    def __init__(self, folder):
        self.path = folder / "m"
        self.metrics = OneMetric()
        self.server = MetricsServer(self.metrics, self.path)
        self.clients = []

    def connect(self, address=None):
        client = socket.socket(socket.AF_UNIX if address is None else socket.AF_INET)
        self.clients.append(client)
        client.connect(str(self.path) if address is None else address)
        client.setblocking(False)
        return client

    async def ask(self, sent=SCRAPE, address=None):
        return await self.answer(self.connect(address), sent)

    async def answer(self, client, sent=SCRAPE):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, sent)
        return (await loop.sock_recv(client, 65536)).decode()


@pytest.fixture
def run(tmp_path):
    """Run `test(setup)` with a server on the Unix socket."""

    def run_with(test, config=None):
        async def main():
            setup = Setup(tmp_path)
            setup.server.apply(MetricsConfig() if config is None else config)
            try:
                await test(setup)
            finally:
                await setup.server.close()
                for each in setup.clients:
                    each.close()
            assert setup.server.connections == 0

        asyncio.run(main())

    return run_with


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_metrics_are_at_their_path_and_scrapes_are_counted(run):
    async def test(setup):
        answer = await setup.ask()
        assert answer.startswith("HTTP/1.1 200 ")
        assert answer.endswith("# HELP only Text.\n# TYPE only gauge\nonly 1.0\n")
        assert (setup.metrics.scrapes, setup.metrics.scrape_seconds > 0) == (1, True)
        assert "metrics of usmd are at /metrics" in await setup.ask(SCRAPE.replace(b"/metrics", b"/"))
        assert (await setup.ask(SCRAPE.replace(b"/metrics", b"/x"))).startswith("HTTP/1.1 404 ")
        refused = await setup.ask(SCRAPE.replace(b"GET", b"DELETE"))
        assert refused.startswith("HTTP/1.1 405 ")
        assert "GET, HEAD" in refused
        assert setup.metrics.scrapes == 1

    run(test)


def test_the_socket_has_its_mode_and_changes_with_the_configuration(run):
    async def test(setup):
        def mode():
            return stat.S_IMODE(setup.path.stat().st_mode)

        assert mode() == 0o600
        client = setup.connect()
        assert "only 1.0" in await setup.answer(client)
        setup.server.apply(MetricsConfig(socket_mode=0o640, processes=3))
        assert (mode(), setup.metrics.processes) == (0o640, 3)
        assert "only 1.0" in await setup.ask()
        setup.server.apply(MetricsConfig(unix=False))
        assert not setup.path.exists()
        assert "only 1.0" in await setup.answer(client)  # which was there before

    run(test)


def test_a_port_answers_this_machine_alone_and_closes_again(run):
    port = free_port()

    async def test(setup):
        address = ("127.0.0.1", port)
        for host in (b"localhost:1", b"127.0.0.1", b"[::1]:9"):
            assert "only 1.0" in await setup.ask(SCRAPE.replace(b"127.0.0.1:9", host), address)
        for host in (b"evil.example", b"10.0.0.1:9842", b"x:y:z"):
            answer = await setup.ask(SCRAPE.replace(b"127.0.0.1:9", host), address)
            assert answer.startswith("HTTP/1.1 403 ")
        assert "only 1.0" in await setup.ask(SCRAPE.replace(b"127.0.0.1:9", b"any"))  # by the Unix socket
        assert setup.server.addresses(Path("/a")) == f"unix:/a.metrics, http://127.0.0.1:{port}/metrics"
        setup.server.apply(MetricsConfig())
        with pytest.raises(ConnectionRefusedError):
            setup.connect(address)

    run(test, MetricsConfig(listen=f"127.0.0.1:{port}"))


def test_a_port_that_is_taken_is_an_error_that_names_it_and_changes_nothing(run):
    async def test(setup):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(
                ConfigError, match=f"metrics.listen = '{place}' cannot be bound: Address already in use"
            ):
                setup.server.apply(MetricsConfig(unix=False, listen=place))
        assert "only 1.0" in await setup.ask()

    run(test)


def test_silent_connections_give_way_to_a_scraper_the_oldest_first(run):
    async def test(setup):
        silent = [setup.connect() for _ in range(MAX_CONNECTIONS)]
        await wait_until_async(lambda: setup.server.connections == MAX_CONNECTIONS, "all are accepted")
        assert "only 1.0" in await setup.answer(silent[0])  # now the second is the oldest
        assert "only 1.0" in await setup.ask()
        assert await asyncio.get_running_loop().sock_recv(silent[1], 1) == b""
        assert "only 1.0" in await setup.answer(silent[0])
        assert setup.server.connections == MAX_CONNECTIONS

    run(test)


def test_where_all_connections_wait_for_usmd_another_is_refused(run, monkeypatch):
    async def test(setup):
        goes_on = asyncio.Event()
        expose = metrics_server.expose

        async def held(steps, accept):
            await goes_on.wait()
            return await expose(steps, accept)

        monkeypatch.setattr(metrics_server, "expose", held)
        asking = [asyncio.ensure_future(setup.ask()) for _ in range(MAX_CONNECTIONS)]
        await wait_until_async(
            lambda: [each.waits for each in setup.server._connections.values()] == [False] * MAX_CONNECTIONS, "all ask"
        )
        assert (await setup.ask(b"")).startswith("HTTP/1.1 503 ")
        goes_on.set()
        for answer in asking:
            assert "only 1.0" in await answer

    run(test)


def test_the_next_scrape_begins_when_the_loop_has_rested(run):
    async def test(setup):
        rests = []
        sleep = asyncio.sleep

        async def noted(seconds):
            rests.append(seconds)
            await sleep(0)

        metrics_server.asyncio.sleep, before = noted, asyncio.sleep
        try:
            await setup.ask()
            await setup.ask()
        finally:
            metrics_server.asyncio.sleep = before
        waited = [each for each in rests if each]
        assert rests[0] == 0
        assert all(0 < each <= metrics_server.REST * setup.metrics.scrape_seconds for each in waited)

    run(test)


def test_a_scraper_that_cannot_be_accepted_is_logged(run, monkeypatch):
    lines = []
    monkeypatch.setattr(metrics_server.log, "event", lambda kind, **fields: lines.append((kind, fields)))

    def no_descriptor(_):
        raise OSError(errno.EMFILE, "Too many open files")

    async def test(setup):
        real = setup.server._listeners["unix"]._socket
        monkeypatch.setattr(setup.server._listeners["unix"], "_socket", type("Full", (), {
            "accept": no_descriptor, "fileno": lambda _: real.fileno(), "close": lambda _: real.close(),
        })())  # fmt: skip
        setup.connect()
        await wait_until_async(lambda: bool(lines), "it is logged")
        assert lines == [("metrics_socket_refused", {"socket": "unix", "error": "Too many open files"})]

    run(test)
