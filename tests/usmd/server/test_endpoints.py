"""What is served over HTTP: both servers at once, or neither."""

import asyncio
import socket

import pytest

from tests.support.asking import free_port
from usmd.errors import ConfigError
from usmd.http_config import MetricsConfig, PageConfig
from usmd.server.endpoints import Endpoints


class Metrics:
    """In the place of metrics."""

    processes = 10


def endpoints(folder):
    metrics = Metrics()
    return Endpoints(metrics, None, lambda suffix: folder / f"admin{suffix}"), metrics


def test_the_page_is_off_at_first_and_both_say_where_they_are(tmp_path):
    async def main():
        found, metrics = endpoints(tmp_path)
        assert found.addresses(tmp_path / "a") == {}
        found.apply(MetricsConfig(processes=3), PageConfig())
        assert metrics.processes == 3
        assert found.addresses(tmp_path / "a") == {"metrics": f"unix:{tmp_path}/a.metrics"}
        assert [each.name for each in tmp_path.iterdir()] == ["admin.metrics"]
        port = free_port()
        found.apply(MetricsConfig(unix=False), PageConfig(unix=True, listen=f"127.0.0.1:{port}"))
        assert found.addresses(tmp_path / "a") == {"page": f"unix:{tmp_path}/a.page, http://127.0.0.1:{port}/"}
        assert [each.name for each in tmp_path.iterdir()] == ["admin.page"]
        await found.close()
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))

    asyncio.run(main())


def test_a_port_of_the_page_that_is_taken_leaves_the_metrics_as_they_were(tmp_path):
    async def main():
        found, metrics = endpoints(tmp_path)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            page = PageConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(ConfigError, match=r"page\.listen = "):
                found.apply(MetricsConfig(processes=3), page)
        assert metrics.processes == 10
        assert found.addresses(tmp_path / "a") == {}
        await found.close()

    asyncio.run(main())
