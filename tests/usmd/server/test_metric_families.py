"""Families with one line, and durations in buckets."""

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily

from usmd.core.region import NO_MAX
from usmd.server.latency import Histogram
from usmd.server.metric_families import add_durations, counter, gauge, in_bytes


class Only:
    """A source of one family."""

    def __init__(self, family):
        self._family = family

    def collect(self):
        return [self._family]


def lines(family):
    return [line for line in generate_latest(Only(family)).decode().splitlines() if not line.startswith("#")]


def test_a_gauge_has_its_name_and_a_counter_ends_with_total():
    assert lines(gauge("a", "Text.", 2)) == ["a 2.0"]
    assert lines(counter("b", "Text.", 3)) == ["b_total 3.0"]


def test_durations_are_cumulative_with_their_number_and_sum():
    histogram = Histogram()
    histogram.add(2e-6, 3)
    histogram.add(100.0)
    family = HistogramMetricFamily("c_seconds", "Text.", labels=["kind"])
    add_durations(family, ["x"], histogram)
    found = dict(line.rsplit(" ", 1) for line in lines(family))
    assert found['c_seconds_bucket{kind="x",le="1.6e-06"}'] == "0.0"
    assert found['c_seconds_bucket{kind="x",le="3.2e-06"}'] == "3.0"
    assert found['c_seconds_bucket{kind="x",le="26.8435456"}'] == "3.0"
    assert found['c_seconds_bucket{kind="x",le="+Inf"}'] == found['c_seconds_count{kind="x"}'] == "4.0"
    assert float(found['c_seconds_sum{kind="x"}']) == 100.000006


def test_a_limit_in_bytes_is_none_where_there_is_no_limit():
    assert (in_bytes(3, 4096), in_bytes(0, 4096), in_bytes(NO_MAX, 4096)) == (12288, 0, None)
