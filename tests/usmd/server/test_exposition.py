"""Text of metrics: the same as prometheus_client makes at once, with turns of the loop in between."""

import asyncio
import itertools

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

from usmd.server import pauses
from usmd.server.exposition import SAMPLES_A_STEP, expose

OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"


class Families:
    """Families with few and many samples, and labels that need escapes."""

    def collect(self):
        yield GaugeMetricFamily("one", 'A "value"\nof a \\ kind.', value=1.5)
        yield CounterMetricFamily("none", "Without samples.", labels=["kind"])
        many = CounterMetricFamily("many", "More than a step has.", labels=["name"])
        for number in range(2 * SAMPLES_A_STEP + 1):
            many.add_metric([f'n{number}\n# "\\ä'], number)
        yield many
        times = HistogramMetricFamily("times_seconds", "Times.", labels=["kind"])
        for kind in "abcd":
            times.add_metric([kind], [(str(2.0**each), each) for each in range(24)] + [("+Inf", 30)], 2.5)
        yield times


def exposed(accept="", **more):
    return asyncio.run(expose(Families().collect(), accept, **more))


@pytest.mark.parametrize(
    ("accept", "whole", "content_type"),
    [
        ("", generate_latest, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", generate_latest, "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=a.b,;;,\xe4",
            generate_open_metrics,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (OPEN_METRICS, generate_open_metrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_the_text_is_that_of_the_library_in_the_format_that_is_accepted(accept, whole, content_type):
    text = exposed(accept)
    assert text.body == whole(Families())
    assert text.content_type == content_type


def turns_of(clock):
    """How many turns of the loop an exposition leaves to others, and its text."""
    waits = expose([None, *Families().collect(), None], "", clock)
    for turns in itertools.count():
        try:
            waits.send(None)
        except StopIteration as end:
            return turns, end.value
    raise AssertionError("it goes on for ever")


def test_the_loop_has_its_turn_after_each_step_that_took_long():
    clock = itertools.count()  # a second for each look
    turns, text = turns_of(lambda: float(next(clock)))
    assert turns == 2 + 1 + 1 + 3 + 3  # None twice, and the steps of each family
    assert text.body == generate_latest(Families())
    assert text.cpu_seconds > 0


def test_what_is_quick_is_done_in_one_turn():
    assert turns_of(lambda: 0.0)[0] == 0
    assert pauses.TURN_SECONDS < 0.002
