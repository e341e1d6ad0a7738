"""What a uThread is by itself; test_kthread has how they are scheduled, test_local_manager what makes them."""

import threading

import pytest

import lib_usm
from lib_usm.uthread import UThreadLocal, running
from tests.support.uthreads import Scene


def test_the_traceback_begins_in_the_uthreads_own_code():
    scene = Scene()

    def guilty():
        raise LookupError("own")

    handle = scene.lm.spawn(guilty)
    scene.lm.run()
    with pytest.raises(LookupError) as raised:
        handle.result()
    names = [entry.name for entry in raised.traceback]
    assert names[-1] == "guilty"
    assert "_run" not in names


def test_two_locals_are_two():
    one, other = UThreadLocal(), UThreadLocal()
    one.value, other.value = 1, 2
    assert (one.value, other.value) == (1, 2)
    with pytest.raises(AttributeError, match="missing"):
        _ = one.missing


def test_a_result_that_nobody_computes_is_refused_by_name():
    scene = Scene()
    handle = scene.lm.spawn(int, name="idle one")
    with pytest.raises(lib_usm.NotRunning, match="idle one"):
        handle.result()
    scene.lm.run()


def test_the_kthread_that_runs_here_is_the_calling_threads_and_only_while_it_runs():
    scene = Scene()
    seen = []

    def look():
        seen.append(running.kthread)
        thread = threading.Thread(target=lambda: seen.append(running.kthread))
        thread.start()
        thread.join()

    assert running.kthread is None
    handle = scene.lm.spawn(look)
    scene.lm.run()
    assert seen == [handle.kthread, None]
    assert running.kthread is None
