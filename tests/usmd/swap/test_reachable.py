"""When a device that did not answer is tried again."""

import pytest

from usmd.swap.reachable import FIRST_PAUSE, LONGEST_PAUSE, Reachable


def test_pauses_double_with_each_try_that_fails_up_to_the_longest():
    reachable = Reachable()
    now, pauses = 10.0, []
    for _ in range(8):
        reachable.failed(now, "no answer")
        pauses.append(reachable.wait(now))
        now += pauses[-1] + 1e-6
        assert reachable.wait(now) == 0
    assert pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)


def test_what_many_calls_say_of_one_failure_is_one_failure():
    reachable = Reachable()
    reachable.failed(1.0, "the first")
    reachable.failed(1.0 + FIRST_PAUSE / 2, "the second")
    assert (reachable.away, reachable.why) == (True, "the first")
    assert reachable.wait(1.0) == pytest.approx(FIRST_PAUSE)


def test_an_answer_ends_it_and_the_next_failure_begins_anew():
    reachable = Reachable()
    reachable.failed(1.0, "x")
    reachable.failed(2.0, "x")
    reachable.answered()
    assert (reachable.away, reachable.why, reachable.wait(2.0)) == (False, "", 0.0)
    reachable.failed(3.0, "y")
    assert reachable.wait(3.0) == pytest.approx(FIRST_PAUSE)
