"""Calls with a deadline: what they return, raise, and how many go on after their caller has left."""

import threading

import pytest

from tests.support.waiting import wait_until
from usmd.swap.in_time import InTime, Late

SECONDS = 60


@pytest.fixture
def calls():
    found = InTime("test", 2)
    yield found
    found.close()


def test_a_call_returns_and_raises_what_its_work_does(calls):
    assert calls.call(lambda: 7, SECONDS) == 7
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0, SECONDS)

    def times_out():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        calls.call(times_out, SECONDS)
    assert calls.call(threading.get_ident, SECONDS) != threading.get_ident()


def test_late_calls_hold_their_threads_and_no_more_begin_than_there_are(calls):
    go, ended = threading.Event(), threading.Semaphore(0)

    def held():
        assert go.wait(SECONDS)
        ended.release()

    for _ in range(2):
        with pytest.raises(Late):
            calls.call(held, 0.001)
    began = []
    with pytest.raises(Late):
        calls.call(lambda: began.append(1), SECONDS)  # at once, and not after the deadline
    assert began == []
    go.set()
    for _ in range(2):
        assert ended.acquire(timeout=SECONDS)

    def a_thread_is_free():
        try:
            return calls.call(lambda: 8, SECONDS)
        except Late:
            return 0

    assert wait_until(a_thread_is_free, "a thread that was late takes calls again") == 8
