"""Averages that decay, and totals: shares of time, whatever the steps."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.core.pressure import FALLS_BACK, WINDOWS, Alarm, Pressure, Stall

STEPS = st.lists(st.floats(0.001, 20.0), min_size=1, max_size=50)
SHARES = st.lists(st.tuples(st.floats(0.01, 20.0), st.floats(0.0, 1.0), st.floats(0.0, 4.0)), max_size=50)


def after(steps, share, *, ran=None):
    """Pressure after steps of so many seconds each, with waits in a share of each; `ran`: CPUs in use."""
    pressure = Pressure()
    now = 5.0
    pressure.advance(now, 0.0, None if ran is None else 0.0)
    for step in steps:
        now += step
        pressure.advance(now, (now - 5.0) * share, None if ran is None else (now - 5.0) * ran)
    return pressure


def test_a_stall_adds_up_its_times_up_to_now():
    stall = Stall()
    stall.begin(1.0)
    assert (stall.waits, stall.seconds(4.0)) == (True, 3.0)
    stall.end(5.0)
    assert (stall.waits, stall.seconds(9.0)) == (False, 4.0)
    stall.begin(10.0)
    assert stall.seconds(11.0) == 5.0


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 1.0])
def test_a_process_that_always_waits_tends_to_100_percent_and_one_that_waits_half_the_time_to_50(share):
    pressure = after([0.1] * 30_000, share)
    assert pressure.some.averages == pytest.approx([share] * 3, rel=1e-4)
    assert pressure.some.seconds == pytest.approx(3000 * share)
    assert pressure.some.microseconds == pytest.approx(3000e6 * share)


def test_after_a_window_of_waits_an_average_is_the_part_of_the_way_that_the_kernel_goes():
    pressure = after([2.0] * 30, 1.0)
    assert pressure.some.averages == pytest.approx([1 - exp(-60 / window) for window in WINDOWS])
    assert after([2.0] * 5, 1.0).some.averages[0] == pytest.approx(0.632, abs=1e-3)


@given(STEPS, st.floats(0.0, 1.0), st.integers(1, 4))
def test_it_does_not_matter_into_how_many_steps_the_time_is_cut(steps, share, parts):
    cut = [step / parts for step in steps for _ in range(parts)]
    one, other = after(steps, share), after(cut, share)
    assert one.some.averages == pytest.approx(other.some.averages, abs=2e-4)
    assert one.some.seconds == pytest.approx(other.some.seconds)


@given(SHARES)
def test_averages_are_shares_totals_never_fall_and_full_is_never_more_than_some(shares):
    pressure = Pressure()
    now = waited = ran = some = full = 0.0
    pressure.advance(now, waited, ran)
    for passed, share, cpus in shares:
        now, waited, ran = now + passed, waited + passed * share, ran + passed * cpus
        pressure.advance(now, waited, ran)
        for line in (pressure.some, pressure.full):
            assert all(0.0 <= average <= 1.0 for average in line.averages)
        assert pressure.some.seconds >= some
        assert pressure.full.seconds >= full
        some, full = pressure.some.seconds, pressure.full.seconds
        assert full <= some <= waited + 1e-6
        pairs = zip(pressure.full.averages, pressure.some.averages, strict=True)
        assert all(of_full <= of_some + 2e-4 for of_full, of_some in pairs)


@pytest.mark.parametrize(
    ("share", "ran", "full"),
    [(0.4, 0.6, 0.4), (0.4, 0.1, 0.4), (1.0, 0.5, 0.5), (1.0, 1.0, 0.0), (0.5, 3.0, 0.0)],
    ids=["one thread that computes", "one that also rests", "another runs half the time", "always", "several"],
)
def test_full_is_the_part_of_some_in_which_no_thread_ran_as_far_as_cpu_time_tells(share, ran, full):
    pressure = after([1.0] * 3000, share, ran=ran)
    assert pressure.full.averages == pytest.approx([full] * 3, rel=1e-3, abs=1e-4)


def test_without_cpu_time_full_is_not_known_and_begins_when_it_becomes_known():
    pressure = after([0.1] * 10, 1.0)
    assert pressure.full is None
    pressure.advance(7.0, 2.0, 40.0)
    assert pressure.full.seconds == 0.0
    pressure.advance(8.0, 3.0, 40.25)
    assert pressure.full.seconds == 0.75
    pressure.advance(9.0, 4.0, None)
    assert pressure.full is None


def test_what_was_before_the_first_step_and_a_step_of_no_time_count_nothing():
    pressure = Pressure()
    pressure.advance(100.0, 7.0, None)
    pressure.advance(100.0, 8.0, None)
    assert (pressure.some.seconds, pressure.some.averages) == (0.0, [0.0] * 3)
    pressure.advance(101.0, 8.0, None)
    assert pressure.some.seconds == 1.0


def test_an_average_that_the_kernel_would_show_as_0_is_0():
    pressure = after([10.0], 1.0)
    assert not pressure.some.at_rest
    pressure.advance(15.0 + 300 * 11, 10.0, None)
    assert pressure.some.at_rest
    assert pressure.some.seconds == 10.0


def test_an_alarm_rises_at_the_threshold_and_falls_back_below_three_quarters_of_it():
    alarm = Alarm()
    told = [(share, alarm.above) for share in (0.3, 0.4, 0.5, 0.39, 0.29, 0.31, 0.4) if alarm.changes(share, 0.4)]
    assert told == [(0.4, True), (0.29, False), (0.4, True)]
    assert alarm.changes(0.4, 0)
    assert not alarm.above
    assert not alarm.changes(1.0, 0)


@given(st.floats(0.01, 1.0), st.lists(st.floats(0.0, 1.0)))
def test_an_alarm_changes_only_between_its_two_marks(threshold, shares):
    alarm = Alarm()
    for share in shares:
        above = alarm.above
        if alarm.changes(share, threshold):
            assert share < threshold * FALLS_BACK if above else share >= threshold
        else:
            assert share >= threshold * FALLS_BACK if above else share < threshold
