"""Scrapers: what they get, and that they leave the loop to others."""

import asyncio

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily

from tests.support.asking import Asking
from usmd.http_config import MetricsConfig
from usmd.server import metrics_server
from usmd.server.http_server import UNIX, serve_all
from usmd.server.metrics_server import MetricsServer

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: any\r\n\r\n"


class OneMetric:
    """Metrics with one family."""

    scrapes = 0
    scrape_seconds = 0.0

    def steps(self):
        yield GaugeMetricFamily("only", "Text.", value=1)


@pytest.fixture
def run(tmp_path):
    """Run `test(asking, metrics)` with a server."""

    def run_with(test):
        async def main():
            metrics = OneMetric()
            server = MetricsServer(metrics, tmp_path / "m").http
            serve_all([(server, MetricsConfig())])
            async with Asking(server, tmp_path / "m") as asking:
                await test(asking, metrics)

        asyncio.run(main())

    return run_with


def test_metrics_are_at_their_path_and_scrapes_are_counted(run):
    async def test(asking, metrics):
        answer = await asking.ask(SCRAPE)
        assert answer.startswith("HTTP/1.1 200 ")
        assert answer.endswith("# HELP only Text.\n# TYPE only gauge\nonly 1.0\n")
        assert (metrics.scrapes, metrics.scrape_seconds > 0) == (1, True)
        assert "metrics of usmd are at /metrics" in await asking.ask(SCRAPE.replace(b"/metrics", b"/"))
        assert (await asking.ask(SCRAPE.replace(b"/metrics", b"/x"))).startswith("HTTP/1.1 404 ")
        assert metrics.scrapes == 1

    run(test)


def test_the_next_scrape_begins_when_the_loop_has_rested(tmp_path, monkeypatch):
    rests = []

    async def noted(seconds):
        rests.append(seconds)

    async def main():
        metrics = OneMetric()
        server = MetricsServer(metrics, tmp_path / "m", clock=lambda: 5.0)
        monkeypatch.setattr(metrics_server.asyncio, "sleep", noted)
        await server._scrape("")
        took = metrics.scrape_seconds
        await server._scrape("")
        # Where half a millisecond is short, the loop has turns in between, which are rests of 0.
        assert [each for each in rests if each] == pytest.approx([metrics_server.REST * took])

    asyncio.run(main())


def test_a_scraper_that_cannot_be_accepted_is_logged(run, logged):
    async def test(asking, metrics):
        asking.server._refused(UNIX, "Too many open files")
        assert logged == [
            {"event": "metrics_socket_refused", "log_level": "error", "socket": "unix", "error": "Too many open files"}
        ]

    run(test)
