"""What a uThread is by itself; test_kthread has how they are scheduled, test_local_manager what makes them."""

import asyncio

import pytest

import lib_usm
from lib_usm.uthread import YIELD, UThreadLocal
from tests.support.uthreads import Scene


def test_a_token_to_yield_with_may_be_awaited_again_and_again():
    scene = Scene()

    async def run():
        for _ in range(5):
            await YIELD
        return "done"

    handle = scene.lm.spawn_async(run)
    scene.lm.run()
    assert handle.result() == "done"
    assert scene.lm.stats().switches == 6


def test_a_coroutine_that_is_never_run_is_closed_when_it_is_cancelled():
    scene = Scene()

    async def run():
        raise AssertionError("it was cancelled before")

    handle = scene.lm.spawn_async(run)
    handle.cancel()
    scene.lm.run()
    with pytest.raises(asyncio.CancelledError):
        handle.result()


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


def test_an_error_thrown_at_a_greenlet_that_yields_is_raised_where_it_yields():
    scene = Scene()

    def stubborn():
        try:
            scene.lm.yield_now()
        except asyncio.CancelledError:
            return "caught"
        return "missed"

    handle = scene.lm.spawn(stubborn)
    scene.lm.spawn(handle.cancel)
    scene.lm.run()
    assert handle.result() == "caught"


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
