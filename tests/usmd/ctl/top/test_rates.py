from tests.usmd.ctl.top.conftest import process, reading
from usmd.ctl.top.rates import Rates, matches, rates_of, rows_of


def test_rates_are_of_the_time_between_two_readings():
    before = reading(10.0, [process(1, "a", 100, 10, 4, 2, 6)])
    now = reading(12.0, [process(1, "a", 300, 20, 8, 2, 7)])
    assert rates_of(now, before) == Rates(100.0, 5.0, 2.0, 0.0, 0.5)
    assert [row.rates for row in rows_of(now, before)] == [Rates(100.0, 5.0, 2.0, 0.0, 0.5)]


def test_a_new_process_did_all_of_its_work_since_the_reading_before():
    row = rows_of(reading(2.0, [process(7, "new", 50)]), reading(1.0))[0]
    assert row.rates == Rates(50.0, 0.0, 0.0, 0.0, 0.0)


def test_one_reading_and_readings_of_two_daemons_have_no_rates():
    now = reading(9.0, [process(1, "a", 5)])
    for before in (None, reading(1.0, [process(1, "a", 1)], pid=1), reading(9.0)):
        assert rates_of(now, before) is None
        assert [row.rates for row in rows_of(now, before)] == [None]


def test_a_number_given_to_another_process_makes_no_negative_rate():
    rates = rows_of(reading(2.0, [process(1, "b", 1)]), reading(1.0, [process(1, "a", 100)]))[0].rates
    assert rates is not None
    assert rates.faults == 0.0


def test_a_filter_is_part_of_a_name_or_a_whole_number():
    (row,) = rows_of(reading(1.0, [process(42, "Wörker-7", pid=4321, uid=1000)]), None)
    assert all(matches(row, text) for text in ("", "wör", "KER", "-7", "42", "4321", "1000"))
    assert not any(matches(row, text) for text in ("x", "432", "100", "0"))
