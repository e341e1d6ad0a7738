"""What the loop's thread asks the scheduler for. Each test asks in a thread of its own."""

import errno
import os
import platform
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from usmd.server import time_slice

SHORT = 0.0005


def in_a_thread(work):
    """Slices and policies are those of a thread, and end with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def standing():
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gets_the_slices_that_it_asks_for_and_keeps_all_else():
    def work():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        before = standing()
        found = time_slice.ask(SHORT)
        return before, found, standing()

    before, found, after = in_a_thread(work)
    assert before == after
    if tuple(int(each) for each in platform.release().split(".")[:2]) >= (6, 12):
        assert found == SHORT
    else:
        assert found is None or found >= 0.0


def test_a_policy_that_somebody_gave_it_stays():
    def work():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pytest.skip("only root may set a real-time policy")
        return time_slice.ask(SHORT), os.sched_getscheduler(0)

    assert in_a_thread(work) == (None, os.SCHED_FIFO)


@pytest.mark.parametrize("machine", ["x86_64", "vax"])
def test_where_it_cannot_be_asked_for_nothing_happens(monkeypatch, machine):
    def refused(*_):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(time_slice, "syscall", refused)
    assert in_a_thread(time_slice.ask) is None
