"""What the daemon serves over HTTP: metrics for scrapers, and the live page for browsers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from usmd.http_config import MetricsConfig, PageConfig
from usmd.runtime_paths import METRICS_SUFFIX, PAGE_SUFFIX
from usmd.server.http_server import serve_all
from usmd.server.metrics import Metrics
from usmd.server.metrics_server import MetricsServer
from usmd.server.page_reading import PageReading
from usmd.server.page_server import PageServer


class Endpoints:
    """The servers of one daemon."""

    def __init__(self, metrics: Metrics, reading: PageReading, place: Callable[[str], Path]) -> None:
        """`place`: where to bind the Unix socket with a suffix."""
        self._metrics = metrics
        self._scrapers = MetricsServer(metrics, place(METRICS_SUFFIX)).http
        self._browsers = PageServer(reading, place(PAGE_SUFFIX)).http

    def apply(self, metrics: MetricsConfig, page: PageConfig) -> None:
        """Serve as configured from now on; connections stay. Raises ConfigError, and has then changed nothing."""
        serve_all([(self._scrapers, metrics), (self._browsers, page)])
        self._metrics.processes = metrics.processes

    def addresses(self, admin_socket: Path) -> dict[str, str]:
        """Where each is found, for people; without what is off. `admin_socket`: beside which the Unix sockets are."""
        found = {
            "metrics": self._scrapers.addresses(f"{admin_socket}{METRICS_SUFFIX}"),
            "page": self._browsers.addresses(f"{admin_socket}{PAGE_SUFFIX}"),
        }
        return {name: text for name, text in found.items() if text}

    async def close(self) -> None:
        """Close all sockets and connections."""
        await asyncio.gather(self._scrapers.close(), self._browsers.close())
