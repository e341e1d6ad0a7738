"""Asks a daemon for its metrics, as a scraper does."""

from __future__ import annotations

import http.client
import socket

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;q=0.1"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(90)
        self.sock.connect(self._path)


def ask(connection: http.client.HTTPConnection, accept: str = "") -> tuple[int, str, str]:
    """Scrape once: status, type and text."""
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Type"], answer.read().decode()


def families(text: str, *, of_open_metrics: bool = False) -> dict[str, Metric]:
    """The families by name, as Prometheus's own parser for Python reads them."""
    return {family.name: family for family in (parse_open(text) if of_open_metrics else parse(text))}


def values(found: dict[str, Metric]) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value for family in found.values() for sample in family.samples
    }


def metrics_of(admin_address: str) -> UnixConnection:
    """A connection to the metrics socket of a daemon."""
    return UnixConnection(f"{admin_address.removeprefix('unix:')}.metrics")
