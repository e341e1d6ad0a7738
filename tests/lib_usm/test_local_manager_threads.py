"""LocalManager with several kThreads and other threads, and what it refuses."""

import asyncio
import threading

import pytest

import lib_usm
from lib_usm import LocalManager
from lib_usm.uthread import running
from tests.support.uthreads import FakeClient, Scene


class TestSeveralKThreads:
    def test_uthreads_are_spread_and_each_kthread_has_a_stream(self):
        scene = Scene(kthreads=3)
        scene.client.prepare = lambda stream: stream.complete_when_sent()
        threads = set()

        def run(page):
            scene.touch(page)
            threads.add(threading.get_ident())

        for page in range(9):
            scene.lm.spawn(run, page)
        scene.lm.run()
        assert len(threads) == 3
        assert sorted(page for stream in scene.client.streams for batch in stream.batches for page in batch) == list(
            range(9)
        )

    def test_joins_across_kthreads(self):
        scene = Scene(kthreads=2)
        scene.client.prepare = lambda stream: stream.complete_when_sent()

        def leaf(number):
            scene.touch(number)
            return number

        def tree(depth, number):
            if depth == 0:
                return leaf(number)
            children = [scene.lm.spawn(tree, depth - 1, 2 * number + side) for side in (0, 1)]
            return sum(child.result() for child in children)

        root = scene.lm.spawn(tree, 7, 0)
        scene.lm.run()
        assert root.result() == sum(range(128))

    def test_a_deadlock_across_kthreads(self):
        scene = Scene(kthreads=2)
        handles = {}

        def wait_for(name):
            handles[name].result()

        handles["a"] = scene.lm.spawn(wait_for, "b", name="a")
        handles["b"] = scene.lm.spawn(wait_for, "a", name="b")
        with pytest.raises(lib_usm.Deadlock, match="'a' waits for 'b'"):
            scene.lm.run()

    def test_a_failure_of_the_scheduler_ends_all_and_is_raised(self):
        scene = Scene(kthreads=2)
        calls = []

        def broken(_request):
            calls.append(1)
            raise ZeroDivisionError("defect")

        scene.client.prepare = lambda stream: setattr(stream, "when_sent", broken)
        scene.lm.spawn(scene.touch, 1)
        scene.lm.spawn(int)
        with pytest.raises(ZeroDivisionError, match="defect"):
            scene.lm.run()
        assert calls


def test_other_threads_may_spawn_cancel_and_wait_while_it_runs():
    scene = Scene()
    go, results = threading.Event(), []
    first = scene.lm.spawn(scene.touch, 1, name="first")

    def outside():
        go.wait()
        handle = scene.lm.spawn(pow, 2, 10)
        results.append(handle.result())
        results.append(first.cancel())

    thread = threading.Thread(target=outside)
    thread.start()
    scene.client.prepare = lambda stream: setattr(stream, "when_sent", lambda _request: go.set())
    scene.lm.run()
    thread.join()
    assert results == [1024, True]
    with pytest.raises(asyncio.CancelledError):
        first.result()


class TestRefusals:
    @pytest.mark.parametrize("count", [0, -1, 33])
    def test_numbers_of_kthreads(self, count):
        with pytest.raises(lib_usm.InvalidArgument, match=f"{count} kThreads; allowed are 1 to 32"):
            LocalManager(FakeClient(), count)

    def test_things_that_cannot_be_spawned(self):
        lm = LocalManager(FakeClient())

        async def coroutine():
            pass

        with pytest.raises(lib_usm.InvalidArgument, match="42 cannot be called"):
            lm.spawn(42)
        with pytest.raises(lib_usm.InvalidArgument, match="use spawn_async"):
            lm.spawn(coroutine)
        with pytest.raises(lib_usm.InvalidArgument, match="42 cannot be called"):
            lm.spawn_async(42)
        with pytest.raises(lib_usm.InvalidArgument, match="not a coroutine; use spawn"):
            lm.spawn_async(int)
        with pytest.raises(TypeError):
            lm.spawn(int, priority="high")
        assert lm.stats().spawned == 0

    def test_calls_in_the_wrong_place(self):
        scene = Scene()
        with pytest.raises(lib_usm.InvalidArgument, match="outside"):
            scene.lm.yield_now()
        handle = scene.lm.spawn(scene.lm.run)
        with pytest.raises(lib_usm.NotRunning, match="call `run`"):
            handle.result()
        scene.lm.run()
        with pytest.raises(lib_usm.InvalidArgument, match="in a uThread"):
            handle.result()

    def test_a_coroutine_cannot_wait_without_await_nor_await_what_is_asyncios(self):
        scene = Scene()
        target = scene.compute("w", 2)

        async def blocks():
            target.result()

        async def foreign():
            await asyncio.sleep(1)  # waits: it is refused

        handles = [scene.lm.spawn_async(blocks), scene.lm.spawn_async(foreign)]
        scene.lm.run()
        with pytest.raises(lib_usm.InvalidArgument, match="`await` the handle"):
            handles[0].result()
        with pytest.raises((lib_usm.InvalidArgument, RuntimeError)):
            handles[1].result()

    def test_a_handle_awaited_outside(self):
        scene = Scene()
        handle = scene.lm.spawn(int)

        async def main():
            await handle

        with pytest.raises(lib_usm.InvalidArgument, match="only be awaited in a uThread"):
            asyncio.run(main())
        scene.lm.run()

    def test_a_client_that_gives_no_stream_leaves_all_as_it_was(self):
        scene = Scene()
        scene.client.open_pager = lambda: (_ for _ in ()).throw(lib_usm.ConnectionLost("gone"))
        handle = scene.lm.spawn(int)
        with pytest.raises(lib_usm.ConnectionLost):
            scene.lm.run()
        assert not handle.done
        assert running.kthread is None


def test_where_no_kthread_can_be_started_none_runs_and_a_later_run_goes_on(monkeypatch):
    scene = Scene(kthreads=2)
    handle = scene.lm.spawn(pow, 2, 5)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(lib_usm.LimitExceeded, match=r"a kThread cannot be started \(can't start new thread\)"):
            scene.lm.run()
    assert not handle.done
    scene.lm.run()
    assert handle.result() == 32
