"""Units of times: in names of columns, and by the size of numbers."""

import pytest

from usmd.lab.traces.time_units import FILETIME, guess, split_unit


@pytest.mark.parametrize(
    ("name", "base", "unit"),
    [
        ("time_ms", "time", 1e-3),
        ("timestamp_(us)", "timestamp", 1e-6),
        ("ts(ns)", "ts", 1e-9),
        ("ts_[µs]", "ts", 1e-6),
        ("time_microseconds", "time", 1e-6),
        ("timestampms", "timestamp", 1e-3),
        ("time_s", "time", 1.0),
        ("time/sec", "time", 1.0),
        ("time", "time", None),
        ("times", "times", None),
        ("ts", "ts", None),
        ("ms", "ms", None),
    ],
)
def test_a_name_may_end_in_a_unit(name, base, unit):
    assert split_unit(name) == (base, unit)


@pytest.mark.parametrize(
    ("first", "unit"),
    [
        (0.0, 1.0),
        (-5.0, 1.0),
        (1.7e9, 1.0),
        (1.7e12, 1e-3),
        (1.7e15, 1e-6),
        (1.7e18, 1e-9),
        (1.28e17, FILETIME),
    ],
)
def test_a_number_too_large_for_seconds_since_1970_has_a_smaller_unit(first, unit):
    assert guess(first) == unit
