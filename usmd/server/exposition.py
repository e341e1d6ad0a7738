"""Metrics as text, in the format that a scraper asks for; the loop has its turn in between.

prometheus_client makes the text. It is given some samples at a time, because all at once would keep the loop for
several milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from usmd.server.pauses import Turns

SAMPLES_A_STEP: Final = 48
"""Samples of which text is made at once, which takes 0.3 ms, or 0.5 as OpenMetrics."""
_END: Final = b"# EOF\n"
_OPEN_METRICS: Final = "application/openmetrics-text"


class Families(Protocol):
    """What prometheus_client makes text of."""

    def collect(self) -> Iterable[Metric]:
        """The families."""


class Text(NamedTuple):
    """An exposition. `cpu_seconds`: what it took."""

    body: bytes
    content_type: str
    cpu_seconds: float


class _Part:
    """Some samples of a family, as a source of families."""

    def __init__(self, family: Metric, first: int) -> None:
        self._part = Metric(family.name, family.documentation, family.type, family.unit)
        self._part.samples = family.samples[first : first + SAMPLES_A_STEP]

    def collect(self) -> Iterable[Metric]:
        return (self._part,)


async def expose(steps: Iterable[Metric | None], accept: str, clock: Callable[[], float] = time.perf_counter) -> Text:
    """The text of all families of `steps`; None is a step of work that ends no family.

    `accept`: the scraper's header. The format is OpenMetrics if that names it, else Prometheus's own text format.
    """
    wants_open = any(each.split(";")[0].strip().lower() == _OPEN_METRICS for each in accept.split(","))
    encode = _open_metrics if wants_open else generate_latest
    parts: list[bytes] = []
    turns = Turns(clock)
    for family in steps:
        # A family without samples still has its head, so that a scraper learns of all metrics that there are.
        for first in range(0, 1 if family is None else max(len(family.samples), 1), SAMPLES_A_STEP):
            if family is not None:
                text = encode(_Part(family, first))
                parts.append(_without_head(text) if first else text)
            await turns.step()
    if wants_open:
        parts.append(_END)
    content_type = CONTENT_TYPE_LATEST if wants_open else CONTENT_TYPE_PLAIN_0_0_4
    return Text(b"".join(parts), content_type, turns.cpu_seconds)


def _open_metrics(families: Families) -> bytes:
    """OpenMetrics without the end mark."""
    text: bytes = generate_open_metrics(families)  # type: ignore[no-untyped-call]
    return text.removesuffix(_END)


def _without_head(text: bytes) -> bytes:
    """The lines of samples."""
    lines = text.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"# "))
