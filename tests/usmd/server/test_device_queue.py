"""Queues of swap devices, over devices that a test holds up or breaks, and memory that is busy as long as it says."""

import asyncio
import threading

import pytest

from tests.support.queue_bench import SECONDS, QueueBench
from usmd.core.commands import SlotPage
from usmd.core.events import SwapInDone, SwapOutDone
from usmd.core.swap_map import SLOT_BITS
from usmd.errors import DataLoss, SwapIOError
from usmd.mechanism.base import Busy
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_queue import BATCH

PAGE = 16
FRAMES = 256

DEFECT = {"event": "swap_device_defect", "log_level": "error", "exc_info": True, "device": "fake"}


class FakeMemory(SimulatedMemory):
    """Frames that are zero. A page in `busy` cannot be brought in until that many fills have been tried."""

    def __init__(self):
        super().__init__(FRAMES, PAGE)
        self.busy = {}
        self.fills = []
        """The pages of each fill, and the errors it was given."""

    def fill(self, stage, errors):
        self.fills.append(([page.pfn for page in stage.pages], [type(error) for error in errors]))
        results = []
        for page, error in zip(stage.pages, errors, strict=True):
            left = self.busy.get(page.pfn, 0)
            wanted = error is None or isinstance(error, Busy)
            self.busy[page.pfn] = left - wanted
            results.append(Busy("not yet") if wanted and left > 0 else None if wanted else error)
        if any(isinstance(result, Busy) for result in results):
            for page, buffer, result in zip(stage.pages, stage.buffers, results, strict=True):
                if result is None:
                    self.buffer(page.pfn)[:] = buffer
            return results
        return super().fill(stage, results)


class FakeDevice:
    """Answers as `results` says (None: success for all), after `gate` is set; keeps the batches it got.

    `now`: what `read_now` does with a batch; None: it cannot.
    """

    def __init__(self, name="fake"):
        self.name = name
        self.read_jobs = 1
        self.patience = 0.0
        self.batches = []
        self.reads = []
        self.kept = {}
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.results = None
        self.now = None
        self.closed = False

    def write(self, batch):
        self.began.set()
        assert self.gate.wait(SECONDS)
        for entry in batch:
            self.kept[entry.slot] = bytes(entry.buffer)
        self.batches.append([entry.slot for entry in batch])
        return [None] * len(batch) if self.results is None else self.results(batch)

    def read(self, batch):
        self.reads.append([entry.slot for entry in batch])
        for entry in batch:
            entry.buffer[:] = self.kept.get(entry.slot, bytes(PAGE))
        return [None] * len(batch) if self.results is None else self.results(batch)

    def read_now(self, batch):
        return None if self.now is None else self.now(batch)

    def close(self):
        self.closed = True


def pages(first, count, device=0):
    return [SlotPage(device << SLOT_BITS | slot, slot, 1, slot, 1) for slot in range(first, first + count)]


class Bench(QueueBench):
    """A queue over a fake device and memory that is busy when a test says."""

    def __init__(self, name="fake"):
        super().__init__(FakeDevice(name), FakeMemory())


def run(conversation):
    async def main():
        bench = Bench()
        try:
            await conversation(bench)
        finally:
            bench.device.gate.set()
            await asyncio.wait_for(bench.queue.close(), SECONDS)
        bench.memory.close()  # which raises where a buffer was not given back
        return bench

    return asyncio.run(main())


def test_requests_that_arrive_while_a_job_runs_travel_together_in_batches_of_at_most_64():
    async def conversation(bench):
        bench.device.gate.clear()
        bench.queue.write(pages(0, 1))
        await asyncio.to_thread(bench.device.began.wait, SECONDS)
        for first in range(1, 131):
            bench.queue.write(pages(first, 1))
        assert bench.queue.in_flight == 131
        bench.device.gate.set()
        await bench.completed(131)

    bench = run(conversation)
    assert [len(batch) for batch in bench.device.batches] == [1, BATCH, BATCH, 2]
    assert [slot for batch in bench.device.batches for slot in batch] == list(range(131))
    assert (bench.queue.in_flight, bench.queue.pages_written, bench.queue.errors) == (0, 131, 0)


def test_writes_of_a_process_pass_those_of_one_that_writes_very_much():
    async def conversation(bench):
        bench.device.gate.clear()
        bench.queue.write(pages(0, 10 * BATCH))
        await asyncio.to_thread(bench.device.began.wait, SECONDS)
        bench.queue.write([SlotPage(200 * BATCH, 3, 2, 0, 1)])
        bench.device.gate.set()
        await bench.completed(10 * BATCH + 1)
        assert [200 * BATCH in batch for batch in bench.device.batches] == [False, True] + [False] * 9

    run(conversation)


def test_completions_name_slots_for_writes_and_frames_for_reads():
    async def conversation(bench):
        bench.queue.write(pages(3, 2, device=1))
        await bench.completed(2)
        bench.queue.read(pages(3, 2, device=1))
        await bench.completed(4)

    bench = run(conversation)
    written, read = bench.events
    assert isinstance(written, SwapOutDone)
    assert written.slots == [1 << SLOT_BITS | 3, 1 << SLOT_BITS | 4]
    assert isinstance(read, SwapInDone)
    assert read.frames == [3, 4]
    assert (bench.device.batches, bench.device.reads) == ([[3, 4]], [[3, 4]])
    assert bench.queue.pages_read == 2


def test_a_write_under_way_holds_up_neither_reads_nor_another_device_nor_the_loop():
    async def conversation(bench):
        other = Bench("other")
        bench.device.gate.clear()
        bench.queue.write(pages(0, 1))
        await asyncio.to_thread(bench.device.began.wait, SECONDS)
        bench.queue.read(pages(5, 1))
        other.queue.write(pages(0, 1))
        await bench.completed(1)
        await other.completed(1)
        assert isinstance(bench.events[0], SwapInDone)
        assert bench.device.batches == []
        await other.queue.close()

    run(conversation)


def test_errors_of_single_entries_reach_the_core_and_are_no_successes():
    async def conversation(bench):
        bench.device.results = lambda batch: [None, DataLoss("gone"), None]
        bench.queue.read(pages(0, 3))
        await bench.completed(3)

    bench = run(conversation)
    assert [type(error) for error in bench.events[0].errors] == [type(None), DataLoss, type(None)]
    assert (bench.queue.pages_read, bench.queue.errors) == (2, 1)


@pytest.mark.parametrize(
    "results", [lambda batch: 1 / 0, lambda batch: [], lambda batch: [None] * (len(batch) + 1), lambda batch: None]
)
def test_a_device_with_a_defect_fails_every_entry_and_the_queue_goes_on(logged, results):
    async def conversation(bench):
        bench.device.results = results
        bench.queue.write(pages(0, BATCH + 1))
        await bench.completed(BATCH + 1)
        bench.device.results = None
        bench.queue.write(pages(0, 1))
        await bench.completed(BATCH + 2)

    bench = run(conversation)
    failed = [error for event in bench.events for error in event.errors]
    assert {type(error) for error in failed[:-1]} == {SwapIOError}
    assert failed[-1] is None
    assert "division" not in str(failed[0])
    assert (bench.queue.errors, bench.queue.pages_written, bench.queue.in_flight) == (BATCH + 1, 1, 0)
    assert logged == [DEFECT] * 2


def test_close_waits_for_what_is_queued_and_closes_the_device():
    async def main():
        bench = Bench()
        bench.device.gate.clear()
        bench.queue.write(pages(0, 100))
        await asyncio.to_thread(bench.device.began.wait, SECONDS)
        closing = asyncio.create_task(bench.queue.close())
        await asyncio.sleep(0)
        assert not bench.device.closed
        bench.device.gate.set()
        await asyncio.wait_for(closing, SECONDS)
        assert bench.device.closed
        assert sum(len(event.errors) for event in bench.events) == 100

    asyncio.run(main())
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("usmd-fake")] == []


def test_bytes_go_from_the_frame_to_the_slot_and_back():
    async def conversation(bench):
        bench.memory.store([3], 3, 0, memoryview(b"three"))
        bench.queue.write(pages(3, 1))
        await bench.completed(1)
        bench.memory.zero([3], [3])
        bench.queue.read(pages(3, 1))
        await bench.completed(2)
        assert bench.memory.load([3], 3, 0, PAGE) == b"three".ljust(PAGE, b"\0")

    run(conversation)


def test_pages_are_read_in_their_order_so_that_neighbours_come_in_together():
    async def conversation(bench):
        bench.queue.read([*pages(7, 1), *pages(2, 2), *pages(5, 1)])
        await bench.completed(4)

    bench = run(conversation)
    assert bench.device.reads == [[2, 3, 5, 7]]
    assert bench.events[0].frames == [2, 3, 5, 7]


def test_what_the_device_need_not_be_waited_for_is_there_at_once():
    async def conversation(bench):
        seen = []

        def now(batch):
            seen.append([entry.slot for entry in batch])
            batch[0].buffer[:] = b"n" * PAGE
            return [None, DataLoss("gone")]

        bench.device.now = now
        bench.queue.read([*pages(5, 1), *pages(4, 1)])
        assert seen == [[4, 5]]
        (event,) = bench.events
        assert (event.frames, [type(error) for error in event.errors]) == ([4, 5], [type(None), DataLoss])
        assert (bench.queue.in_flight, bench.queue.pages_read, bench.queue.errors) == (0, 1, 1)
        assert bench.memory.load([4], 4, 0, PAGE) == b"n" * PAGE
        assert bench.device.reads == []

    run(conversation)


def test_nothing_is_read_at_once_past_what_waits_nor_in_more_than_a_batch():
    async def conversation(bench):
        bench.queue.read(pages(0, 1))
        bench.device.now = lambda batch: pytest.fail("read at once")
        bench.queue.read(pages(1, 1))
        await bench.completed(2)
        bench.queue.read(pages(2, BATCH + 1))
        await bench.completed(BATCH + 3)

    bench = run(conversation)
    assert [slot for batch in bench.device.reads for slot in batch] == list(range(BATCH + 3))


@pytest.mark.parametrize(("now", "defects"), [(lambda batch: 1 / 0, 1), (lambda batch: None, 0)])
def test_a_device_that_cannot_read_at_once_or_has_a_defect_there_is_read_as_usual(logged, now, defects):
    async def conversation(bench):
        bench.device.now = now
        bench.queue.read(pages(1, 2))
        assert bench.events == []
        await bench.completed(2)

    bench = run(conversation)
    assert bench.device.reads == [[1, 2]]
    assert bench.events[0].errors == [None, None]
    assert logged == [DEFECT] * defects


@pytest.mark.parametrize("at_once", [True, False])
def test_a_page_that_is_busy_is_filled_again_and_told_once_and_the_others_are_not_held_up(at_once):
    async def conversation(bench):
        if at_once:
            bench.device.now = lambda batch: [None, DataLoss("gone"), None]
        else:
            bench.device.results = lambda batch: [None, DataLoss("gone"), None]
        bench.memory.busy = {4: 3}
        bench.queue.read(pages(2, 3))
        await bench.completed(2)
        assert [(event.frames, [type(error) for error in event.errors]) for event in bench.events] == [
            ([2, 3], [type(None), DataLoss])
        ]
        bench.device.now = bench.device.results = lambda batch: [None] * len(batch)
        bench.queue.read(pages(9, 1))
        await bench.completed(4)

    bench = run(conversation)
    told = [(pfn, error) for event in bench.events[1:] for pfn, error in zip(event.frames, event.errors, strict=True)]
    assert sorted(told) == [(4, None), (9, None)]
    assert len([frames for frames, _ in bench.memory.fills if frames == [2, 3, 4]]) == 4
    assert (bench.queue.pages_read, bench.queue.errors) == (3, 1)


def test_close_waits_also_for_a_page_that_is_busy_when_its_read_has_ended():
    async def main():
        bench = Bench()
        reading, going_on = threading.Event(), threading.Event()

        def results(batch):
            reading.set()
            assert going_on.wait(SECONDS)
            return [None] * len(batch)

        bench.device.results = results
        bench.memory.busy = {0: 2}
        bench.queue.read(pages(0, 1))
        await asyncio.to_thread(reading.wait, SECONDS)
        closing = asyncio.create_task(bench.queue.close())
        await asyncio.sleep(0)
        going_on.set()
        await asyncio.wait_for(closing, SECONDS)
        assert [event.frames for event in bench.events] == [[0]]
        bench.memory.close()

    asyncio.run(main())


def test_close_waits_for_pages_that_are_busy():
    async def main():
        bench = Bench()
        bench.device.now = lambda batch: [None] * len(batch)
        bench.memory.busy = {1: 3}
        bench.queue.read(pages(0, 2))
        assert [event.frames for event in bench.events] == [[0]]
        await asyncio.wait_for(bench.queue.close(), SECONDS)
        assert [event.frames for event in bench.events] == [[0], [1]]
        assert bench.device.closed
        bench.memory.close()

    asyncio.run(main())
