"""Cancelled uThreads, failed faults, the end of the stream, interrupts, and any program of all that."""

import asyncio
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lib_usm
from lib_usm.uthread import running
from tests.support.examples import examples
from tests.support.uthreads import Scene


def test_a_completion_for_a_cancelled_uthread_wakes_nobody():
    scene = Scene()

    def reader():
        scene.touch(1)
        scene.log.append("never")

    victim = scene.lm.spawn(reader)

    def other():
        scene.lm.yield_now()
        assert victim.cancel()
        scene.lm.yield_now()
        scene.stream.complete(1)
        scene.lm.yield_now()
        scene.log.append("other")

    scene.lm.spawn(other)
    scene.lm.run()
    assert scene.log == ["other"]
    assert victim.done
    with pytest.raises(asyncio.CancelledError):
        victim.result()


def test_a_page_that_a_cancelled_uthread_asked_for_serves_the_next_who_wants_it():
    scene = Scene()
    first = scene.lm.spawn(scene.touch, 1)

    def other():
        first.cancel()
        scene.lm.yield_now()
        second = scene.lm.spawn(scene.touch, 1)
        scene.lm.yield_now()
        scene.stream.complete(1)
        second.result()
        scene.log.append("second")

    scene.lm.spawn(other)
    scene.lm.run()
    assert scene.log == ["second"]
    assert scene.stream.batches == [[1]]


def test_a_device_error_reaches_the_uthread_of_its_page_and_no_other():
    scene = Scene()

    def answer(request):
        for fault in request.faults:
            if fault.first_page == 2:
                scene.stream.fail(2)
            else:
                scene.stream.complete(fault.first_page)

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)
    handles = [scene.lm.spawn(scene.touch, page) for page in range(5)]
    scene.lm.run()
    for page, handle in enumerate(handles):
        if page == 2:
            with pytest.raises(lib_usm.SwapIOError, match="it failed") as raised:
                handle.result()
            assert raised.value.page == 2
        else:
            assert handle.result() is None


def test_the_end_of_the_stream_wakes_all_with_its_error():
    scene = Scene()
    handles = [scene.lm.spawn(scene.touch, page) for page in range(100)]
    handles.append(scene.lm.spawn_async(scene.touch_async, 100))

    def die():
        scene.lm.yield_now()
        scene.stream.break_off(lib_usm.ConnectionLost("the daemon is gone"))

    scene.lm.spawn(die)
    scene.lm.run()
    for handle in handles:
        with pytest.raises(lib_usm.ConnectionLost, match="the daemon is gone"):
            handle.result()


def test_a_fault_after_the_end_of_the_stream_fails_at_once():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.break_off(lib_usm.SessionKilled("killed"))
    handle = scene.lm.spawn(scene.touch, 1)
    scene.lm.run()
    with pytest.raises(lib_usm.SessionKilled):
        handle.result()


def test_a_storm_of_four_thousand_uthreads():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()
    done = []

    def green(number):
        scene.touch(number)
        scene.lm.yield_now()
        done.append(number)

    async def coroutine(number):
        await scene.touch_async(number)
        await scene.lm.yield_now()
        done.append(number)

    for number in range(2000):
        scene.lm.spawn(green, number)
        scene.lm.spawn_async(coroutine, number + 2000)
    scene.lm.run()
    assert sorted(done) == list(range(4000))
    assert scene.lm.stats().done == 4000
    assert scene.lm.stats().faults == 4000


def test_an_interrupt_while_it_sleeps_cancels_all_and_is_raised():
    scene = Scene()
    cleaned = []

    def reader():
        try:
            scene.touch(1)
        finally:
            cleaned.append(True)

    handles = [scene.lm.spawn(reader) for _ in range(3)]
    scene.client.prepare = lambda stream: setattr(
        stream, "when_sent", lambda _request: os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(KeyboardInterrupt):
        scene.lm.run()
    assert len(cleaned) == 3
    assert all(handle.done for handle in handles)
    assert running.kthread is None


@examples(60)
@given(st.lists(st.lists(st.sampled_from("yfFsc"), max_size=6), min_size=1, max_size=12), st.integers(0, 2**32))
def test_any_program_of_yields_faults_spawns_and_cancels_ends_with_everything_done(programs, seed):
    """y: yield, f: fault, F: fault that fails, s: spawn a child and wait for it, c: cancel the one before."""
    scene = Scene()
    failing = set()
    pages = iter(range(1 << 16))

    def answer(request):
        order = [fault.first_page for fault in request.faults]
        if seed % 2:
            order.reverse()
        for page in order:
            if page in failing:
                scene.stream.fail(page)
            else:
                scene.stream.complete(page)

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)
    handles = []

    def run(index, program):
        for step in program:
            if step == "y":
                scene.lm.yield_now()
            elif step == "f":
                scene.touch(next(pages))
            elif step == "F":
                page = next(pages)
                failing.add(page)
                with pytest.raises(lib_usm.SwapIOError):
                    scene.touch(page)
            elif step == "s":
                assert scene.lm.spawn(lambda: 42).result() == 42
            elif index:
                handles[index - 1].cancel()
        return index

    for index, program in enumerate(programs):
        handles.append(scene.lm.spawn(run, index, program))
    scene.lm.run()
    cancels = {index - 1 for index, program in enumerate(programs) if "c" in program and index}
    for index, handle in enumerate(handles):
        assert handle.done
        if index not in cancels:
            assert handle.result() == index
