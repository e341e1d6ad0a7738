"""Queues of swap devices, over devices that a test holds up or breaks."""

import asyncio
import threading

import pytest

from usmd.core.commands import SlotPage
from usmd.core.events import SwapInDone, SwapOutDone
from usmd.core.swap_map import SLOT_BITS
from usmd.errors import DataLoss, SwapIOError
from usmd.server import device_queue
from usmd.server.device_queue import BATCH, DeviceQueue

SECONDS = 10


class FakeDevice:
    """Answers as `results` says (None: success for all), after `gate` is set; keeps the batches it got."""

    def __init__(self, name="fake"):
        self.name = name
        self.batches = []
        self.reads = []
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.results = None
        self.closed = False

    def write(self, batch):
        self.began.set()
        assert self.gate.wait(SECONDS)
        self.batches.append([entry.slot for entry in batch])
        return [None] * len(batch) if self.results is None else self.results(batch)

    def read(self, batch):
        self.reads.append([entry.slot for entry in batch])
        return [None] * len(batch) if self.results is None else self.results(batch)

    def close(self):
        self.closed = True


def pages(first, count, device=0):
    return [SlotPage(device << SLOT_BITS | slot, slot, 1, slot, 1) for slot in range(first, first + count)]


class Bench:
    """A queue over a fake device; `done` has the slots or frames of each completion with their errors."""

    def __init__(self, name="fake"):
        self.device = FakeDevice(name)
        self.events = []
        self.changed = asyncio.Event()
        self.queue = DeviceQueue(self.device, lambda pfn: memoryview(bytearray(16)), self._deliver)

    def _deliver(self, event):
        self.events.append(event)
        self.changed.set()

    async def completed(self, count):
        """Wait until this many pages are done."""

        async def enough():
            while sum(len(event.errors) for event in self.events) < count:
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(enough(), SECONDS)


def run(conversation):
    async def main():
        bench = Bench()
        try:
            await conversation(bench)
        finally:
            bench.device.gate.set()
            await asyncio.wait_for(bench.queue.close(), SECONDS)
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
def test_a_device_with_a_defect_fails_every_entry_and_the_queue_goes_on(monkeypatch, results):
    logged = []

    class Log:
        def exception(self, event, **fields):
            logged.append((event, fields))

    monkeypatch.setattr(device_queue, "_log", Log())

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
    assert logged == [("swap_device_defect", {"device": "fake"})] * 2


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
