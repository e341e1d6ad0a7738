"""Jobs of a channel that hang, and what closing its queue waits for."""

import asyncio

from tests.support.queue_bench import SECONDS
from tests.support.submitted_bench import PAGE, Bench, pages, run
from tests.support.waiting import wait_until_async
from usmd.errors import Unmapped
from usmd.server.device_jobs import DeviceHangs
from usmd.server.device_queue import BATCH
from usmd.swap.channel import DEPTH

FAR = float("inf")
"""A time at which every job that runs is late."""


def test_a_read_that_hangs_fails_and_what_it_reads_late_reaches_no_frame(logged):
    async def conversation(bench):
        await bench.put(0, 2)
        bench.memory.zero([0, 1], [0, 1])
        bench.queue.read(pages(0, 1))
        bench.queue.look(0.0)
        assert bench.events == []
        bench.queue.look(FAR)
        assert bench.errors == [DeviceHangs]
        assert bench.queue.in_flight == 0
        bench.queue.read(pages(1, 1))
        await asyncio.sleep(0)
        assert len(bench.held.submitted) == 2
        bench.held.submitted.reverse()
        bench.held.let_go(1)
        await bench.completed(2)
        assert bench.queue.hangs
        bench.held.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "it has returned")
        assert bench.memory.load([0], 0, 0, PAGE) == bytes(PAGE)
        assert bench.memory.load([1], 1, 0, PAGE) == b"x" * PAGE

    run(conversation)
    assert [line["event"] for line in logged] == ["swap_device_hangs", "swap_device_returned"]
    assert (logged[0]["operation"], logged[0]["pages"]) == ("read", 1)


def test_while_a_write_hangs_nothing_else_is_written_and_its_slot_holds_nothing_once_it_has_returned():
    async def conversation(bench):
        bench.queue.write(pages(0, BATCH))
        bench.queue.write(pages(BATCH, BATCH))
        bench.queue.write(pages(2 * BATCH, 1))
        bench.held.let_go(1)
        await bench.completed(BATCH)
        bench.queue.look(FAR)
        await bench.completed(2 * BATCH + 1)
        bench.queue.write(pages(500, 1))
        await bench.completed(2 * BATCH + 2)
        assert bench.errors == [type(None)] * BATCH + [DeviceHangs] * (BATCH + 2)
        bench.held.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "it has returned")
        bench.queue.read(pages(BATCH, 1))
        await bench.completed(2 * BATCH + 3)
        assert "nothing is written in it" in str(bench.events[-1].errors[0])
        await bench.put(500, 1)

    run(conversation)


def test_reads_that_wait_fail_when_the_channel_is_full_of_reads_that_hang():
    async def conversation(bench):
        await bench.put(0, 1024)
        for first in range(0, 1024, 2 * BATCH):
            bench.queue.read(pages(first, BATCH, step=2))
        bench.queue.read(pages(1, 1))
        await asyncio.sleep(0)
        bench.queue.look(FAR)
        assert bench.errors == [DeviceHangs] * (DEPTH + 1)
        bench.queue.read(pages(3, 1))
        await asyncio.sleep(0)
        assert bench.errors == [DeviceHangs] * (DEPTH + 2)
        bench.held.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "they have returned")
        bench.events.clear()
        bench.queue.read(pages(3, 1))
        bench.held.let_go()
        await bench.completed(1)
        assert bench.errors == [type(None)]

    run(conversation)


def test_reads_of_regions_that_are_gone_are_answered_if_they_have_not_begun():
    async def conversation(bench):
        await bench.put(0, 1024)
        for first in range(0, 1024, 2 * BATCH):
            bench.queue.read(pages(first, BATCH, step=2))
        bench.queue.read(pages(1, 1))
        bench.queue.regions_gone([1])
        assert bench.errors == [Unmapped]
        bench.held.let_go()
        await bench.completed(DEPTH + 1)

    run(conversation)


def test_close_waits_for_what_is_in_flight():
    async def main():
        bench = Bench()
        bench.queue.write(pages(0, 3))
        closing = asyncio.create_task(bench.queue.close())
        await asyncio.sleep(0)
        assert not closing.done()
        bench.held.let_go()
        await asyncio.wait_for(closing, SECONDS)
        assert bench.errors == [type(None)] * 3
        assert bench.held.closed
        bench.memory.close()

    asyncio.run(main())


def test_close_gives_up_a_job_that_hangs_and_the_channel_closes_when_it_has_ended(monkeypatch):
    monkeypatch.setattr("usmd.server.device_queue.CLOSE_SECONDS", 0.01)

    async def main():
        bench = Bench(timeout=0.001)
        bench.queue.write(pages(0, 3))
        await asyncio.wait_for(bench.queue.close(), SECONDS)
        assert bench.errors == [DeviceHangs] * 3
        assert not bench.held.closed
        bench.held.let_go()
        bench.device.complete()
        await wait_until_async(lambda: bench.held.closed, "the device is closed")
        bench.memory.close()

    asyncio.run(main())
