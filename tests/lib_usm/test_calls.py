"""Calls of the main thread: an interrupt ends the wait, at whatever moment it comes.

Calls of a client are in test_interrupts.py.
"""

import threading
import warnings

import pytest

import lib_usm
from lib_usm.calls import Abandoned, Calls, current_call
from tests.support.signals import interrupt, on_signal, send_signal

__all__ = ["on_signal"]


@pytest.fixture
def abandoned():
    return []


@pytest.fixture
def calls():
    calls = Calls(lambda text: warnings.warn(text, UserWarning, stacklevel=2))
    yield calls
    calls.stop()


def test_a_call_returns_and_raises_what_its_function_does(calls):
    assert calls.make(lambda: 3) == 3
    error = ZeroDivisionError("it")
    with pytest.raises(ZeroDivisionError) as caught:
        calls.make(lambda: (_ for _ in ()).throw(error))
    assert caught.value is error


def test_calls_of_the_main_thread_are_made_by_one_other_and_those_of_others_by_themselves(calls, in_thread):
    first, second = (calls.make(threading.get_ident) for _ in range(2))
    assert first == second != threading.get_ident()
    ident, call = in_thread(lambda: (calls.make(threading.get_ident), current_call())).result(10)
    assert ident not in (first, threading.get_ident())
    assert call is None


def test_a_call_within_a_call_is_made_by_the_same_thread(calls):
    assert (
        calls.make(lambda: (threading.get_ident(), calls.make(threading.get_ident)))
        == (calls.make(threading.get_ident),) * 2
    )


def test_an_interrupted_call_is_left_and_the_next_one_is_made_behind_it(calls):
    order = []
    go_on = threading.Event()

    def first():
        interrupt()
        order.append("first")
        assert go_on.wait(10)
        order.append("first ends")

    with pytest.raises(KeyboardInterrupt):
        calls.make(first)
    go_on.set()
    calls.make(lambda: order.append("second"))
    assert order == ["first", "first ends", "second"]


def test_what_an_interrupted_call_did_all_the_same_is_undone_once(calls):
    undone = []

    def first():
        interrupt()
        return "result"

    # The interrupt comes before the call's end or right at it: it is undone in each case.
    for _ in range(50):
        with pytest.raises(KeyboardInterrupt):
            calls.make(first, undone.append)
        calls.make(lambda: None)
    assert set(undone) <= {"result"}
    assert len(undone) == 50


def test_a_wait_without_end_keeps_no_later_call(calls, abandoned):
    left = threading.Event()
    ends = []

    def waits():
        call = current_call()
        call.park(lambda: abandoned.append(1))
        interrupt()
        assert left.wait(10)
        try:
            call.unpark()
        except Abandoned:
            ends.append("abandoned")
            raise

    with pytest.raises(KeyboardInterrupt):
        calls.make(waits)
    assert calls.make(lambda: 5) == 5
    assert abandoned == [1]
    left.set()
    assert calls.make(lambda: 6) == 6


def test_a_call_that_was_left_does_not_begin_to_wait(calls):
    seen = []

    def first():
        interrupt()
        while not current_call().abandoned:
            pass
        try:
            current_call().park(lambda: None)
        except Abandoned:
            seen.append("abandoned")
            raise

    with pytest.raises(KeyboardInterrupt):
        calls.make(first)
    calls.make(lambda: None)
    assert seen == ["abandoned"]


def test_a_call_of_a_signal_handler_does_not_wait_for_the_call_that_it_came_into(calls, on_signal):
    made = threading.Event()
    on_signal(lambda: calls.make(made.set))

    def first():
        send_signal()
        return made.wait(10)

    assert calls.make(first)
    made.clear()
    assert calls.make(first)
    assert len(calls._runners) == 2  # which are used again


def test_a_wait_that_was_left_is_ended_also_after_a_call_of_a_signal_handler(calls, abandoned, on_signal):
    made, left = threading.Event(), threading.Event()
    on_signal(lambda: calls.make(made.set))

    def waits():
        current_call().park(lambda: abandoned.append(1))
        send_signal()
        assert made.wait(10)
        interrupt()
        assert left.wait(10)

    with pytest.raises(KeyboardInterrupt):
        calls.make(waits)
    assert calls.make(lambda: 5) == 5
    assert abandoned == [1]
    left.set()


def test_warnings_come_where_the_caller_is(calls):
    with pytest.warns(UserWarning, match="of the call"):
        calls.make(lambda: current_call().texts.append("of the call"))


def test_where_no_thread_can_be_started_the_limit_is_named(calls, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(lib_usm.LimitExceeded, match=r"can't start new thread.*RLIMIT_NPROC, ulimit -u"):
        calls.make(lambda: None)


def test_nothing_refers_to_an_error_that_was_caught(calls):
    import gc
    import weakref

    class Held:
        pass

    def fail():
        raise ZeroDivisionError

    def use():
        held = Held()
        try:
            calls.make(fail)
        except ZeroDivisionError:
            return weakref.ref(held)

    gc.disable()
    try:
        held = use()
        calls.make(lambda: None)  # the thread has let go of the call
        assert held() is None
    finally:
        gc.enable()
