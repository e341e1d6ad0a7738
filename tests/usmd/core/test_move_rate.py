"""How many pages a rate lets move, and how much of it is saved."""

from usmd.core.move_rate import SAVED_SECONDS, MoveRate


def test_no_rate_is_no_limit():
    rate = MoveRate(0)
    rate.spend(1 << 30)
    assert rate.room(0.0) > 1 << 30


def test_pages_come_with_time_and_only_a_little_of_what_is_not_used_is_kept():
    rate = MoveRate(128)
    assert rate.room(0.0) == 0
    assert rate.room(0.125) == 16
    rate.spend(16)
    assert [rate.room(0.125), rate.room(0.1875)] == [0, 8]
    assert rate.room(3600.0) == 128 * SAVED_SECONDS


def test_a_rate_below_a_page_in_that_time_moves_a_page_now_and_then():
    rate = MoveRate(0.5)
    assert [rate.room(1.0), rate.room(2.0), rate.room(9.0)] == [0, 1, 1]
    rate.spend(1)
    assert [rate.room(10.0), rate.room(11.0)] == [0, 1]
