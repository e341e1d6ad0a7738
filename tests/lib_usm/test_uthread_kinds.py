"""What greenlets and coroutines do that the other kind does not."""

import asyncio

import pytest

from lib_usm.uthread import YIELD
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
