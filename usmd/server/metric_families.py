"""Families of metrics with one line, and histograms of durations; for the modules that say what is measured."""

from __future__ import annotations

from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from usmd.core.region import NO_MAX
from usmd.server.latency import BOUNDS, Histogram

_LE: Final = tuple(str(each) for each in BOUNDS)


def gauge(name: str, text: str, value: float) -> Metric:
    """A value that rises and falls."""
    return GaugeMetricFamily(name, text, value=value)


def counter(name: str, text: str, value: float) -> Metric:
    """A count since the start, or a sum; the text format adds `_total` to the name."""
    return CounterMetricFamily(name, text, value=value)


def add_durations(family: HistogramMetricFamily, labels: list[str], found: Histogram) -> None:
    """Add durations to a family, in buckets each twice as wide as the one before."""
    family.add_metric(labels, [*zip(_LE, found.below(), strict=True), ("+Inf", found.count)], found.seconds)


def in_bytes(pages: int, page_size: int) -> int | None:
    """A limit in pages as bytes; None for NO_MAX."""
    return None if pages == NO_MAX else pages * page_size
