"""LocalManager: spawning, results, joins, cancellation, deadlocks, and what each uThread has of its own."""

import asyncio
import contextvars
import threading
import traceback

import pytest

import lib_usm
from tests.support.uthreads import Scene


def test_results_and_what_was_done():
    scene = Scene()

    async def triple(number):
        return number * 3

    handles = [scene.lm.spawn(pow, 2, 5), scene.lm.spawn_async(triple, 4)]
    scene.lm.run()
    assert [handle.result() for handle in handles] == [32, 12]
    stats = scene.lm.stats()
    assert (stats.spawned, stats.done, stats.faults, stats.switches) == (2, 2, 0, 2)


def test_an_exception_is_the_handles_with_its_traceback():
    scene = Scene()

    def guilty():
        raise LookupError("no such key")

    async def also_guilty():
        guilty()

    handles = [scene.lm.spawn(guilty), scene.lm.spawn_async(also_guilty)]
    scene.lm.run()
    for handle in handles:
        for _ in range(2):
            with pytest.raises(LookupError, match="no such key") as raised:
                handle.result()
        assert "guilty" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]


def test_an_error_that_nobody_looks_at_is_logged(caplog):
    scene = Scene()

    def guilty():
        raise LookupError("nobody looks")

    scene.lm.spawn(guilty, name="the guilty one")
    scene.lm.run()
    del scene
    assert "the guilty one" in caplog.text
    assert "nobody looks" in caplog.text


def test_a_uthread_waits_for_another_and_others_run_meanwhile():
    scene = Scene()

    def child():
        for number in range(2):
            scene.log.append(f"child{number}")
            scene.lm.yield_now()
        return "grown"

    def parent():
        scene.log.append(scene.lm.spawn(child).result())

    async def async_parent():
        scene.log.append(await scene.lm.spawn_async(async_child))

    async def async_child():
        await scene.lm.yield_now()
        return "grown too"

    scene.lm.spawn(parent)
    scene.lm.spawn_async(async_parent)
    scene.compute("w", 3)
    scene.lm.run()
    assert scene.log.index("child0") < scene.log.index("w1") < scene.log.index("grown")
    assert "grown too" in scene.log


def test_a_failed_child_fails_the_parent_that_asks():
    scene = Scene()

    def child():
        raise LookupError("child")

    async def parent():
        await scene.lm.spawn(child)

    handle = scene.lm.spawn_async(parent)
    scene.lm.run()
    with pytest.raises(LookupError, match="child"):
        handle.result()


def test_a_deadlock_is_reported_by_name_and_everybody_gets_to_clean_up():
    scene = Scene()
    handles = {}
    cleaned = []

    def wait_for(name):
        try:
            handles[name].result()
        finally:
            cleaned.append(name)

    async def await_for(name):
        await handles[name]

    handles["left"] = scene.lm.spawn(wait_for, "right", name="left")
    handles["right"] = scene.lm.spawn(wait_for, "middle", name="right")
    handles["middle"] = scene.lm.spawn_async(await_for, "left", name="middle")
    scene.compute("w", 3)
    with pytest.raises(
        lib_usm.Deadlock, match=r"'left' waits for 'right', 'right' waits for 'middle', 'middle' waits for 'left'"
    ):
        scene.lm.run()
    assert sorted(cleaned) == ["middle", "right"]
    for handle in handles.values():
        with pytest.raises(lib_usm.Deadlock):
            handle.result()
    assert scene.log == ["w0", "w1", "w2"]


def test_a_wait_for_a_page_is_no_deadlock():
    scene = Scene()
    timers = []

    def answer(request):
        pages = [fault.first_page for fault in request.faults]
        timers.append(threading.Thread(target=scene.stream.complete, args=pages))
        timers[-1].start()

    scene.client.prepare = lambda stream: setattr(stream, "when_sent", answer)
    faulting = scene.lm.spawn(scene.touch, 1)
    scene.lm.spawn(faulting.result)
    scene.lm.run()
    for timer in timers:
        timer.join()


def test_waiting_for_oneself_is_refused():
    scene = Scene()
    handles = []
    handles.append(scene.lm.spawn(lambda: handles[0].result()))
    scene.lm.run()
    with pytest.raises(lib_usm.InvalidArgument, match="its own end"):
        handles[0].result()


def test_cancel_before_it_began_while_it_waits_and_after_its_end():
    scene = Scene()
    done = scene.lm.spawn(int)
    waiting = scene.lm.spawn(scene.touch, 1)
    never = scene.lm.spawn(scene.log.append, "never")
    never_async = scene.lm.spawn_async(scene.touch_async, 2)
    assert never.cancel()
    assert never_async.cancel()
    scene.lm.spawn(waiting.cancel)
    scene.lm.run()
    assert not done.cancel()
    assert scene.log == []
    for handle in (waiting, never, never_async):
        with pytest.raises(asyncio.CancelledError):
            handle.result()


def test_a_cancelled_uthread_may_catch_it_and_go_on_to_wait():
    scene = Scene()

    def stubborn():
        try:
            scene.touch(1)
        except asyncio.CancelledError:
            scene.touch(2)
        return "survived"

    handle = scene.lm.spawn(stubborn)

    def other():
        handle.cancel()
        scene.lm.yield_now()
        scene.stream.complete(1)
        scene.lm.yield_now()
        assert not handle.done
        scene.stream.complete(2)

    scene.lm.spawn(other)
    scene.lm.run()
    assert handle.result() == "survived"


def test_a_join_that_was_cancelled_is_not_woken_by_the_end_of_the_child():
    scene = Scene()

    def child():
        scene.lm.yield_now()
        scene.lm.yield_now()

    def parent():
        try:
            children[0].result()
        except asyncio.CancelledError:
            scene.touch(1)
            scene.log.append("page")

    children = [scene.lm.spawn(child)]
    handle = scene.lm.spawn(parent)

    def other():
        handle.cancel()
        for _ in range(4):
            scene.lm.yield_now()
        assert scene.log == []
        scene.stream.complete(1)

    scene.lm.spawn(other)
    scene.lm.run()
    assert scene.log == ["page"]


def test_ctrl_c_in_a_uthread_cancels_the_others_and_ends_run():
    scene = Scene()
    others = [scene.lm.spawn(scene.touch, 1), scene.lm.spawn_async(scene.touch_async, 2), scene.compute("w", 100)]

    def interrupted():
        scene.lm.yield_now()
        raise KeyboardInterrupt

    scene.lm.spawn(interrupted)
    with pytest.raises(KeyboardInterrupt):
        scene.lm.run()
    for handle in others:
        with pytest.raises(asyncio.CancelledError):
            handle.result()
    scene.lm.run()  # nothing is left


def test_run_again_runs_what_was_spawned_since():
    scene = Scene()
    scene.client.prepare = lambda stream: stream.complete_when_sent()
    for page in range(3):
        handle = scene.lm.spawn(scene.touch, page)
        scene.lm.run()
        assert handle.done
    assert scene.lm.stats().faults == 3
    assert len(scene.client.streams) == 3
    assert all(stream.fileno() == -1 for stream in scene.client.streams)


def test_uthread_local_values():
    scene = Scene()
    local = lib_usm.UThreadLocal()
    local.name = "outside"
    seen = []

    def green(name):
        assert not hasattr(local, "name")
        local.name = name
        scene.lm.yield_now()
        seen.append(local.name)
        del local.name
        with pytest.raises(AttributeError, match="name"):
            del local.name

    async def coroutine(name):
        local.name = name
        await scene.lm.yield_now()
        seen.append(local.name)

    for number in range(3):
        scene.lm.spawn(green, f"g{number}")
        scene.lm.spawn_async(coroutine, f"c{number}")
    scene.lm.run()
    assert sorted(seen) == ["c0", "c1", "c2", "g0", "g1", "g2"]
    assert local.name == "outside"


def test_each_uthread_has_the_context_variables_of_its_birth():
    scene = Scene()
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    def green(name):
        before = variable.get()
        variable.set(name)
        scene.lm.yield_now()
        seen.append((before, variable.get()))

    async def coroutine(name):
        before = variable.get()
        variable.set(name)
        await scene.lm.yield_now()
        seen.append((before, variable.get()))

    token = variable.set("born")
    scene.lm.spawn(green, "g")
    scene.lm.spawn_async(coroutine, "c")
    variable.reset(token)
    scene.lm.run()
    assert seen == [("born", "g"), ("born", "c")]
    assert variable.get() == "none"


def test_current_and_repr():
    scene = Scene()
    handle = scene.lm.spawn(lambda: scene.lm.current(), name="me")
    assert repr(handle) == "<uThread 'me', ready>"
    assert scene.lm.current() is None
    scene.lm.run()
    assert handle.result() is handle
    assert repr(handle) == "<uThread 'me', done>"
