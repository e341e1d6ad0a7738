"""The queue of a device with a channel: what is submitted, what runs in a thread, and jobs that hang."""

import asyncio
import errno

import pytest

from tests.support.channels import HeldSubmittingDevice
from tests.support.queue_bench import SECONDS, QueueBench
from tests.support.waiting import wait_until_async
from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.errors import DataLoss, SwapIOError, Unmapped
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_jobs import DeviceHangs
from usmd.server.device_queue import BATCH, DeviceQueue
from usmd.server.submitted_queue import WRITES, SubmittedQueue, queue_class
from usmd.swap.channel import DEPTH
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
FRAMES = 2048
FAR = float("inf")
"""A time at which every job that runs is late."""


def pages(first, count, step=1, region=1):
    slots = range(first, first + count * step, step)
    return [SlotPage(slot, slot, 1, page_key(region, slot), 1) for slot in slots]


class Bench(QueueBench):
    """A queue over a channel that a test holds."""

    def __init__(self, timeout=30.0):
        super().__init__(HeldSubmittingDevice(FRAMES, PAGE), SimulatedMemory(FRAMES, PAGE), timeout=timeout)
        self.held = self.device.held

    async def put(self, first, count, data=b"x"):
        """Store pages and write them to their slots."""
        for slot in range(first, first + count):
            self.memory.store([slot], 0, 0, memoryview(data * PAGE))
        before = sum(len(event.errors) for event in self.events)
        self.queue.write(pages(first, count))
        while sum(len(event.errors) for event in self.events) < before + count:
            self.held.let_go()
            self.device.complete()
            self.queue._go_on()
        self.events.clear()

    @property
    def errors(self):
        return [type(error) for event in self.events for error in event.errors]


def run(conversation, **settings):
    async def main():
        bench = Bench(**settings)
        assert isinstance(bench.queue, SubmittedQueue)
        try:
            await conversation(bench)
        finally:
            bench.held.let_go()
            await wait_until_async(lambda: not bench.queue.hangs, "no job is late")
            await asyncio.wait_for(bench.queue.close(), SECONDS)
        bench.memory.close()
        assert bench.queue.in_flight == 0
        assert bench.held.closed
        return bench

    return asyncio.run(main())


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
