"""How many bytes of reads a queue with a channel has in flight, which the kernel cannot take back meanwhile."""

import asyncio

import pytest

from tests.support.submitted_bench import PAGE, pages, run
from tests.support.waiting import wait_until_async
from usmd.server.device_jobs import DeviceHangs
from usmd.server.device_queue import BATCH

FAR = float("inf")
"""A time at which every job that runs is late."""
READS = 4
"""Reads of BATCH pages that may be in flight."""


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch):
    monkeypatch.setattr("usmd.server.submitted_queue.READ_BYTES", READS * BATCH * PAGE)


def test_reads_beyond_so_many_bytes_wait_although_the_channel_has_room_and_go_on_as_others_end():
    async def conversation(bench):
        await bench.put(0, 8 * BATCH)
        for first in range(0, 8 * BATCH, BATCH):
            bench.queue.read(pages(first, BATCH))
        assert len(bench.held.submitted) == READS
        bench.held.let_go(1)
        await bench.completed(BATCH)
        await wait_until_async(lambda: len(bench.held.submitted) == READS, "another read is in flight")
        bench.held.immediate = True
        bench.held.let_go()
        await bench.completed(8 * BATCH)
        assert bench.errors == [type(None)] * 8 * BATCH
        assert bench.device.reading == 0

    run(conversation)


def test_one_read_is_in_flight_however_large_its_pages_are(monkeypatch):
    monkeypatch.setattr("usmd.server.submitted_queue.READ_BYTES", 1)

    async def conversation(bench):
        await bench.put(0, 2 * BATCH)
        bench.queue.read(pages(0, BATCH))
        bench.queue.read(pages(BATCH, BATCH))
        assert len(bench.held.submitted) == 1
        bench.held.let_go()
        await bench.completed(BATCH)
        await wait_until_async(lambda: bench.held.submitted, "the second read is in flight")
        bench.held.let_go()
        await bench.completed(2 * BATCH)

    run(conversation)


def test_reads_that_wait_fail_when_all_in_flight_hang_also_while_a_write_does_not():
    async def conversation(bench):
        await bench.put(0, 8 * BATCH)
        for first in range(0, 8 * BATCH, BATCH):
            bench.queue.read(pages(first, BATCH))
        bench.queue.look(FAR)
        assert bench.errors == [DeviceHangs] * 8 * BATCH
        bench.queue.write(pages(1000, 1))
        bench.queue.read(pages(0, 1))
        await asyncio.sleep(0)
        assert bench.errors == [DeviceHangs] * (8 * BATCH + 1)

    run(conversation)


def test_a_read_that_the_channel_does_not_take_is_not_in_flight():
    async def conversation(bench):
        await bench.put(0, 1)
        bench.held.takes = 0
        bench.queue.read(pages(0, 1))
        assert bench.device.reading == 0
        await bench.completed(1)

    run(conversation)
