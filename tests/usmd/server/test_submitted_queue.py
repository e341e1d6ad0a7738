"""The queue of a device with a channel: what is submitted, and what runs in a thread."""

import asyncio
import errno

import pytest

from tests.support.channels import HeldSubmittingDevice
from tests.support.submitted_bench import PAGE, pages, run
from tests.support.waiting import wait_until_async
from usmd.core.commands import SlotPage
from usmd.errors import DataLoss, SwapIOError
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_queue import BATCH, DeviceQueue
from usmd.server.submitted_queue import WRITES, queue_class
from usmd.swap.channel import DEPTH
from usmd.swap.memory import MemorySwapDevice


def test_a_device_without_a_channel_has_a_queue_with_threads_alone():
    memory = SimulatedMemory(4, PAGE)
    for device in (
        MemorySwapDevice(number=0, name="memory", slots=4, page_size=PAGE), HeldSubmittingDevice(4, PAGE),
    ):  # fmt: skip
        device.channel = None
        device.way = "threads"
        queue = queue_class(device)(device, memory, print)
        assert type(queue) is DeviceQueue
        assert queue.io == "threads"


def test_bytes_go_from_the_frame_to_the_slot_and_back_without_a_thread():
    async def conversation(bench):
        bench.memory.store([3], 3, 0, memoryview(b"three"))
        bench.queue.write(pages(3, 2))
        assert len(bench.held.submitted) == 1
        bench.held.let_go()
        await bench.completed(2)
        bench.memory.zero([3], [3])
        bench.queue.read(pages(3, 2))
        bench.held.let_go()
        await bench.completed(4)
        assert bench.memory.load([3], 3, 0, PAGE) == b"three".ljust(PAGE, b"\0")
        assert (bench.queue.pages_written, bench.queue.pages_read) == (2, 2)
        assert (bench.queue.io, bench.queue.io_reason) == ("held", "a test says so")

    assert run(conversation).device.in_threads == []


def test_what_completes_at_once_is_there_when_read_returns():
    async def conversation(bench):
        await bench.put(0, 2)
        bench.held.immediate = bench.held.at_once = True
        bench.queue.read(pages(0, 2))
        assert [event.frames for event in bench.events] == [[0, 1]]

    run(conversation)


def test_after_a_read_that_was_there_at_once_the_next_is_tried_without_a_submission():
    async def conversation(bench):
        await bench.put(0, 3)
        tried = []

        def now(batch):
            tried.append([entry.slot for entry in batch])
            return [None] * len(batch) if batch[0].slot == 1 else None

        bench.device._fetch_now = now
        bench.held.immediate = bench.held.at_once = True
        bench.queue.read(pages(0, 1))
        assert tried == []
        bench.held.immediate = False
        bench.queue.read(pages(1, 1))
        assert sum(len(event.errors) for event in bench.events) == 2
        bench.queue.read(pages(2, 1))
        assert tried == [[1], [2]]
        bench.queue.read(pages(0, 1))
        await asyncio.sleep(0)
        assert tried == [[1], [2]]
        bench.held.let_go()
        await bench.completed(4)
        assert [error for event in bench.events for error in event.errors if error] == []

    run(conversation)


def test_a_read_is_submitted_at_once_and_those_that_come_meanwhile_in_the_next_turn_together():
    async def conversation(bench):
        await bench.put(0, 8)
        bench.queue.read(pages(0, 1))
        assert len(bench.held.submitted) == 1
        for slot in (7, 4, 5):
            bench.queue.read(pages(slot, 1))
        assert len(bench.held.submitted) == 1
        await asyncio.sleep(0)
        assert [(offset, length) for _, offset, _, length, _ in bench.held.submitted] == [
            (0, PAGE), (4 * PAGE, 2 * PAGE), (7 * PAGE, PAGE),
        ]  # fmt: skip
        bench.held.let_go()
        await bench.completed(4)
        assert [event.frames for event in bench.events] == [[0], [4, 5, 7]]

    run(conversation)


def test_reads_end_in_any_order():
    async def conversation(bench):
        await bench.put(0, 4)
        for slot in range(4):
            bench.queue.read(pages(slot, 1))
            await asyncio.sleep(0)
        assert len(bench.held.submitted) == 4
        bench.held.submitted.reverse()
        bench.held.let_go()
        await bench.completed(4)
        assert [event.frames for event in bench.events] == [[3], [2], [1], [0]]

    run(conversation)


def test_reads_beyond_the_room_of_the_channel_wait_and_neighbours_then_go_together():
    async def conversation(bench):
        await bench.put(0, 1024)
        for first in range(0, 1024, 2 * BATCH):
            bench.queue.read(pages(first, BATCH, step=2))
        assert len(bench.held.submitted) == DEPTH
        for slot in range(1, 65, 2):
            bench.queue.read(pages(slot, 1))
        assert len(bench.held.submitted) == DEPTH
        bench.queue.read(pages(65, 1))
        bench.held.let_go(BATCH)
        await bench.completed(BATCH)
        await wait_until_async(lambda: len(bench.held.submitted) == DEPTH - BATCH + 33, "the others are submitted")
        bench.held.let_go()
        await bench.completed(DEPTH + 33)

    run(conversation)


def test_more_than_a_batch_is_divided():
    async def conversation(bench):
        await bench.put(0, 3 * BATCH)
        bench.queue.read(pages(0, 3 * BATCH))
        assert [length for _, _, _, length, _ in bench.held.submitted] == [BATCH * PAGE] * 3
        bench.held.let_go()
        await bench.completed(3 * BATCH)

    run(conversation)


def test_few_writes_are_in_flight_and_the_others_wait_and_leave_room_for_reads():
    async def conversation(bench):
        await bench.put(1000, 1)
        for first in range(0, 10 * BATCH, BATCH):
            bench.queue.write(pages(first, BATCH))
        assert len(bench.held.submitted) == WRITES
        bench.queue.read(pages(1000, 1))
        await asyncio.sleep(0)
        assert len(bench.held.submitted) == WRITES + 1
        for done in range(1, 11):
            bench.held.let_go(1)
            await bench.completed(done)
        await wait_until_async(lambda: bench.held.let_go() or bench.queue.in_flight == 0, "all are written")

    run(conversation)


def test_writes_of_a_process_pass_those_of_one_that_writes_very_much():
    async def conversation(bench):
        bench.queue.write(pages(0, 10 * BATCH))
        bench.queue.write([SlotPage(11 * BATCH, 11 * BATCH, 2, 0, 1)])
        assert len(bench.held.submitted) == WRITES
        bench.held.let_go(1)
        await bench.completed(BATCH)
        await wait_until_async(lambda: len(bench.held.submitted) >= WRITES, "the next job is submitted")
        assert 11 * BATCH * PAGE in [offset for _, offset, *_ in bench.held.submitted]
        await wait_until_async(lambda: bench.held.let_go() or bench.queue.in_flight == 0, "all are written")

    run(conversation)


def test_writes_that_wait_begin_even_if_those_before_end_while_a_read_is_submitted():
    async def conversation(bench):
        await bench.put(1000, 1)
        bench.queue.write(pages(0, (WRITES + 2) * BATCH))
        assert len(bench.held.submitted) == WRITES
        bench.held.immediate = bench.held.at_once = True
        bench.queue.read(pages(1000, 1))  # which finds the ends of all three, so that the loop sees none of them
        await asyncio.sleep(0)
        assert sum(len(event.errors) for event in bench.events) == WRITES * BATCH + 1
        await bench.completed((WRITES + 2) * BATCH + 1)

    run(conversation)


def test_the_bytes_of_a_write_are_those_at_its_begin():
    async def conversation(bench):
        bench.memory.store([3], 3, 0, memoryview(b"before"))
        bench.queue.write(pages(3, 1))
        bench.memory.store([3], 3, 0, memoryview(b"after!"))
        bench.held.let_go()
        await bench.completed(1)
        assert bench.held.data[3 * PAGE : 3 * PAGE + 6] == b"before"

    run(conversation)


@pytest.mark.parametrize("result", [-errno.EIO, -errno.EINVAL, 0, 5])
def test_a_job_that_did_not_move_all_runs_in_a_thread(result):
    async def conversation(bench):
        bench.queue.write(pages(0, 2))
        bench.held.let_go(result=result)
        await bench.completed(2)
        bench.queue.read(pages(0, 2))
        bench.held.let_go(result=result)
        await bench.completed(4)
        assert bench.errors == [type(None)] * 4

    assert run(conversation).device.in_threads == [[0, 1], [0, 1]]


def test_an_error_of_the_thread_is_the_error_of_its_pages():
    async def conversation(bench):
        bench.device.fails = SwapIOError("broken")
        bench.queue.write(pages(0, 2))
        bench.held.let_go(result=-errno.ENOSPC)
        await bench.completed(2)
        bench.queue.read(pages(5, 1))  # which is empty, and needs no device
        await bench.completed(3)
        assert bench.errors == [SwapIOError, SwapIOError, DataLoss]
        assert bench.queue.errors == 3

    run(conversation)


def test_a_defect_of_the_device_is_logged_and_a_thread_reads(logged):
    async def conversation(bench):
        await bench.put(0, 1)
        bench.held.submit = lambda requests: 1 // 0
        bench.queue.read(pages(0, 1))
        await bench.completed(1)
        assert bench.errors == [type(None)]

    run(conversation)
    assert [(line["event"], line["device"]) for line in logged] == [("swap_device_defect", "held")]
