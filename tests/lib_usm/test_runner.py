"""The runners, each with the same steps: one conversation, one result, one error, and steps that are closed."""

import asyncio
import types

import pytest

import lib_usm
from lib_usm import LocalManager, steps
from lib_usm.asyncio_runner import AsyncioRunner
from lib_usm.blocking_runner import BlockingRunner
from lib_usm.calls import Calls
from lib_usm.uthread import running
from tests.support.uthreads import FakeClient


def blocking(client, make):
    calls = Calls(lambda _text: None)
    runner = BlockingRunner(client.open_pager, calls, lambda error: error)
    try:
        return runner.run(make)
    finally:
        runner.close(lib_usm.ClosedError("closed"))
        calls.stop()


def in_greenlet(client, make):
    lm = LocalManager(client)
    handle = lm.spawn(lambda: running.kthread.greenlets.run(make))
    lm.run()
    return handle.result()


def in_coroutine(client, make):
    async def run():
        return await running.kthread.coroutines.run(make)

    lm = LocalManager(client)
    handle = lm.spawn_async(run)
    lm.run()
    return handle.result()


def in_asyncio(client, make):
    async def main():
        runner = AsyncioRunner(client.open_pager, asyncio.get_running_loop())
        try:
            return await runner.run(make)
        finally:
            runner.close()
            await asyncio.sleep(0)  # it is closed in the loop's next turn

    return asyncio.run(main())


@pytest.fixture(params=[blocking, in_greenlet, in_coroutine, in_asyncio], ids=lambda each: each.__name__)
def run(request):
    return request.param


@pytest.fixture
def client():
    made = FakeClient()
    yield made
    for stream in made.streams:
        stream.close()


def test_steps_that_wait_for_nothing_have_their_result(client, run):
    client.region.table.mark(0, 4)
    assert run(client, lambda place: steps.ensure(place, client.region, 0, 4)) is None
    assert not any(stream.sent for stream in client.streams)


def test_faults_of_one_wait_are_one_message_and_their_end_is_the_steps(client, run):
    client.prepare = lambda stream: stream.complete_when_sent()
    assert run(client, lambda place: steps.ensure(place, client.region, 0, 10)) is None
    assert client.stream.batches == [[0, 4, 8]]
    assert not client.region.absent_runs(0, 10, 4)


def test_an_error_is_raised_and_the_steps_are_closed(client, run):
    client.prepare = lambda stream: setattr(stream, "when_sent", lambda _request: stream.fail(3, "DATA_LOSS"))
    ended = []

    @types.coroutine
    def make(place):
        try:
            yield from steps.ensure(place, client.region, 3, 1)
        finally:
            ended.append("closed")

    with pytest.raises(lib_usm.DataLoss):
        run(client, make)
    assert ended == ["closed"]


def test_the_end_of_the_stream_is_raised(client, run):
    client.prepare = lambda stream: setattr(
        stream, "when_sent", lambda _request: stream.break_off(lib_usm.InternalError("gone"))
    )
    with pytest.raises(lib_usm.InternalError, match="gone"):
        run(client, lambda place: steps.ensure(place, client.region, 3, 1))
