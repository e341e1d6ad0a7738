"""Answers scrapers with metrics, over HTTP.

A scraper that is slow or silent holds nobody up: text is made whole before any of it is sent, one at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from usmd import log
from usmd.server.exposition import Text, expose
from usmd.server.http import Answer, Request
from usmd.server.http_server import HttpServer
from usmd.server.metrics import Metrics

REST: Final = 3
"""After a scrape the next one begins so many times later as that took CPU: all scrapers take a quarter at most."""
PATH: Final = "/metrics"


class MetricsServer:
    """Answers scrapers with `metrics`, on the sockets of `http`."""

    def __init__(self, metrics: Metrics, place: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`place`: path of the Unix socket."""
        self.http = HttpServer("metrics", place, PATH, self._answer, _refused)
        self._metrics = metrics
        self._clock = clock
        self._turn = asyncio.Lock()
        self._not_before = 0.0

    async def _answer(self, request: Request) -> Answer:
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


def _refused(name: str, error: str) -> None:
    log.event("metrics_socket_refused", socket=name, error=error)
