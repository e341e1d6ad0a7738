"""Histograms of durations: quantiles near the truth, in bounded memory; and what is timed with them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usmd.server.latency import BOUNDS, TIMED_A_TICK, Histogram, Stopwatch


@given(st.lists(st.floats(1e-6, 900.0), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
@example([BOUNDS[3]], 1.0)  # at the lower end of a bucket it is just so wrong
def test_a_quantile_is_right_to_one_in_sixteen(durations, share):
    histogram = Histogram()
    for each in durations:
        histogram.add(each)
    ordered = sorted(durations)
    rank = next(index for index in range(len(ordered)) if index + 1 >= share * len(ordered))
    assert histogram.quantile(share) == pytest.approx(ordered[rank], rel=1 / 16 + 1e-12, abs=1e-7)
    assert histogram.count == len(durations)


def test_several_at_once_count_as_so_many():
    histogram = Histogram()
    histogram.add(0.001, 99)
    histogram.add(1.0)
    assert histogram.count == 100
    assert histogram.quantile(0.5) == histogram.quantile(0.99) == pytest.approx(0.001, rel=1 / 16)
    assert histogram.quantile(1.0) == pytest.approx(1.0, rel=1 / 16)


def test_what_is_longer_than_any_bucket_is_in_the_last_and_nothing_is_zero():
    histogram = Histogram()
    assert (histogram.count, histogram.quantile(0.5)) == (0, 0.0)
    histogram.add(1e9)
    assert histogram.quantile(0.5) > 900


@given(st.lists(st.floats(0, 60.0), max_size=60))
def test_what_is_below_each_bound_is_counted_exactly_and_the_sum_is_kept(durations):
    histogram = Histogram()
    for each in durations:
        histogram.add(each)
    # A tenth of a microsecond is the unit: a duration within one below a bound counts as at it.
    units = [int(each * 1e7) for each in durations]
    assert histogram.below() == [sum(each < round(bound * 1e7) for each in units) for bound in BOUNDS]
    assert histogram.seconds == pytest.approx(sum(durations))


@pytest.fixture
def clock():
    """A clock that stands still until a test sets it."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def test_what_begins_is_timed_to_its_end_and_what_fails_is_not_counted(clock):
    stopwatch = Stopwatch(clock)
    stopwatch.begin([1, 2, 3])
    clock.now = 2.0
    stopwatch.end([2, 1], [None, OSError()])
    assert stopwatch.times.count == 1
    assert stopwatch.times.quantile(0.5) == pytest.approx(2.0, rel=1 / 16)
    stopwatch.end([9], [None])
    clock.now = 8.0
    stopwatch.end([3], [None])
    assert stopwatch.times.quantile(1.0) == pytest.approx(8.0, rel=1 / 16)


def test_so_many_may_begin_until_the_next_tick(clock):
    stopwatch = Stopwatch(clock)
    stopwatch.begin(range(TIMED_A_TICK))
    assert stopwatch.left == 0
    stopwatch.end(range(TIMED_A_TICK), [None] * TIMED_A_TICK)
    assert not stopwatch.began
    stopwatch.tick()
    assert stopwatch.left == TIMED_A_TICK
