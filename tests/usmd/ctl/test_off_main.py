"""Calls of gRPC off the main thread, and interrupts meanwhile."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import wait_equal
from usmd.ctl.off_main import AHEAD, Messages, call


def test_a_call_of_the_main_thread_is_made_by_another_and_one_of_another_thread_by_itself():
    assert call(threading.current_thread) is not threading.main_thread()
    with ThreadPoolExecutor(1) as pool:
        thread, made_by = pool.submit(lambda: (threading.current_thread(), call(threading.current_thread))).result(60)
    assert made_by is thread


def test_what_a_call_raises_is_raised():
    error = ValueError("no")

    def fail():
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        call(fail)
    assert caught.value is error


def test_an_interrupt_ends_the_wait_and_leaves_the_call_alone():
    let_go, ended = threading.Event(), threading.Event()

    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        let_go.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        call(interrupted)
    assert not ended.is_set()
    let_go.set()
    assert ended.wait(60)


def test_messages_come_in_order_and_then_the_error():
    def source():
        yield from range(3 * AHEAD)
        raise ValueError("over")

    messages = iter(Messages(source()))
    assert [next(messages) for _ in range(3 * AHEAD)] == list(range(3 * AHEAD))
    with pytest.raises(ValueError, match="over"):
        next(messages)
    assert list(Messages([])) == []


def test_so_many_messages_are_taken_ahead_and_no_more():
    taken = []
    messages = Messages(taken.append(number) or number for number in range(10 * AHEAD))
    wait_equal(lambda: len(taken), AHEAD + 1, "the thread waits with the next one in its hand")
    assert next(iter(messages)) == 0
    wait_equal(lambda: len(taken), AHEAD + 2, "and takes one for each that is asked for")
    messages.close()
    assert not messages._thread.is_alive()
