"""Faults of an ordinary asyncio program, over a stream whose completions the test controls; a daemon's is in e2e."""

import asyncio

import pytest

import lib_usm
from lib_usm import steps
from lib_usm.asyncio_runner import AsyncioRunner
from tests.support.uthreads import FakeClient


def conversation(test):
    """Run `test(client, pager)` in a loop; whatever was open is closed."""

    async def main():
        client = FakeClient()
        pager = AsyncioRunner(client.open_pager, asyncio.get_running_loop())
        try:
            await test(client, pager)
        finally:
            pager.close()
            await asyncio.sleep(0)  # it is closed in the loop's next turn
            client.stream.close()

    asyncio.run(main())


def ensure(client, pager, page):
    return asyncio.ensure_future(pager.run(lambda place: steps.ensure(place, client.region, page, 1)))


async def sent(client, count):
    """Wait until that many messages were sent, which takes some turns of the loop."""
    for _ in range(100):
        if len(client.stream.sent) >= count:
            return
        await asyncio.sleep(0)
    raise AssertionError(client.stream.batches)


def test_faults_of_one_turn_travel_together_and_each_task_goes_on_by_its_own():
    async def test(client, pager):
        tasks = [ensure(client, pager, page) for page in range(5)]
        await sent(client, 1)
        assert client.stream.batches == [[0, 1, 2, 3, 4]]
        client.stream.complete(3)
        await tasks[3]
        assert [task.done() for task in tasks] == [False, False, False, True, False]
        client.stream.complete(0, 1, 2, 4)
        await asyncio.gather(*tasks)

    conversation(test)


def test_an_error_is_its_tasks_alone():
    async def test(client, pager):
        good, bad = ensure(client, pager, 1), ensure(client, pager, 2)
        await sent(client, 1)
        client.stream.fail(2)
        client.stream.complete(1)
        await good
        with pytest.raises(lib_usm.SwapIOError):
            await bad

    conversation(test)


def test_a_cancelled_task_is_not_woken_and_its_page_serves_others():
    async def test(client, pager):
        first = ensure(client, pager, 1)
        await sent(client, 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = ensure(client, pager, 1)
        await asyncio.sleep(0)
        client.stream.complete(1)
        await second
        assert client.stream.batches == [[1]]

    conversation(test)


def test_the_end_of_the_stream_ends_all_waits():
    async def test(client, pager):
        tasks = [ensure(client, pager, page) for page in range(3)]
        await sent(client, 1)
        client.stream.break_off(lib_usm.ConnectionLost("gone"))
        for task in tasks:
            with pytest.raises(lib_usm.ConnectionLost):
                await task
        assert pager.ended

    conversation(test)


def test_a_stream_that_breaks_as_it_is_sent_ends_all_waits():
    async def test(client, pager):
        client.stream.when_sent = lambda _request: setattr(client.stream, "end", lib_usm.ConnectionLost("broken"))
        with pytest.raises(lib_usm.ConnectionLost, match="broken"):
            await ensure(client, pager, 1)

    conversation(test)


def test_close_ends_all_waits():
    async def test(client, pager):
        task = ensure(client, pager, 1)
        await sent(client, 1)
        pager.close()
        with pytest.raises(lib_usm.ClosedError):
            await task

    conversation(test)
