"""What a device could not do is tried again: with pauses, a bounded number of times, and to nobody's loss."""

import asyncio

import pytest

from tests.support.held_device import HeldDevice
from tests.support.queue_bench import SECONDS, QueueBench
from tests.support.waiting import wait_until_async
from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.errors import DataLoss, NoRoom, Refused, SwapIOError, Unmapped
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server import retries
from usmd.server.retries import PAUSES

PAGE = 16
PAUSES_HERE = (0.0, 0.0, 0.0)


class Unlucky(HeldDevice):
    """A device of which the first `unlucky` tries of each slot and operation fail, by `error`."""

    def __init__(self, unlucky, error=SwapIOError):
        super().__init__()
        self.unlucky, self.error = unlucky, error
        self.tried = {}

    def _befallen(self, operation, batch, results):
        for index, entry in enumerate(batch):
            count = self.tried[operation, entry.slot] = self.tried.get((operation, entry.slot), 0) + 1
            if count <= self.unlucky:
                results[index] = self.error("no luck")
        return results

    def read(self, batch):
        return self._befallen("read", batch, super().read(batch))

    def read_now(self, batch):
        return None

    def write(self, batch):
        return self._befallen("write", batch, super().write(batch))


def reads(*slots, region=1):
    return [SlotPage(slot, slot, 1, page_key(region, slot), 1) for slot in slots]


def run(conversation, device, pauses=PAUSES_HERE):
    async def main():
        device.let_go()
        bench = QueueBench(device, SimulatedMemory(64, PAGE), pauses)
        try:
            await conversation(bench)
        finally:
            await asyncio.wait_for(bench.queue.close(), SECONDS)
        bench.memory.close()  # which raises where a buffer was not given back
        assert bench.queue.in_flight == 0
        return bench

    return asyncio.run(main())


def delivered(bench):
    """Errors by type, in the order of slots or frames; each was delivered once."""
    found = {}
    for event in bench.events:
        for number, error in zip(getattr(event, "frames", None) or event.slots, event.errors, strict=True):
            assert number not in found
            found[number] = None if error is None else type(error)
    return found


@pytest.mark.parametrize("error", [SwapIOError, DataLoss])
def test_reads_and_writes_that_fail_a_few_times_succeed(error, logged):
    async def conversation(bench):
        bench.queue.write(reads(1, 2, 3))
        await bench.completed(3)
        assert delivered(bench) == {1: None, 2: None, 3: None}
        bench.events.clear()
        bench.queue.read(reads(1, 2, 3))
        await bench.completed(3)
        assert delivered(bench) == {1: None, 2: None, 3: None}

    bench = run(conversation, Unlucky(len(PAUSES_HERE), error))
    assert (bench.queue.pages_read, bench.queue.pages_written) == (3, 3)
    assert bench.queue.errors == 2 * 3 * len(PAUSES_HERE)
    told = [line for line in logged if line["event"] == "swap_tried_again"]
    assert {line["operation"] for line in told} == {"read", "write"}
    assert told[0]["error"] == "no luck"
    assert len(told) == 4  # the 1st and 2nd time of each


@pytest.mark.parametrize("error", [Refused, NoRoom])
def test_a_refused_write_is_final_and_no_error(error, logged):
    async def conversation(bench):
        bench.queue.write(reads(1, 2))
        await bench.completed(2)
        assert delivered(bench) == {1: error, 2: error}

    bench = run(conversation, Unlucky(1, error))
    assert (bench.queue.pages_written, bench.queue.pages_refused, bench.queue.errors) == (0, 2, 0)
    assert [line for line in logged if line["event"] == "swap_tried_again"] == []


def test_what_fails_too_often_has_failed_and_can_be_tried_anew():
    async def conversation(bench):
        bench.device.unlucky = 0
        bench.queue.write(reads(1))
        await bench.completed(1)
        bench.events.clear()
        bench.device.unlucky = len(PAUSES_HERE) + 1
        bench.queue.read(reads(1))
        await bench.completed(1)
        assert delivered(bench) == {1: SwapIOError}
        bench.events.clear()
        bench.queue.read(reads(1))
        await bench.completed(1)
        assert delivered(bench) == {1: None}

    run(conversation, Unlucky(0))


@pytest.mark.parametrize(("error", "outcome"), [(SwapIOError, None), (DataLoss, DataLoss)])
def test_reads_of_a_patient_device_are_tried_for_longer_but_wrong_bytes_and_writes_are_not(monkeypatch, error, outcome):
    monkeypatch.setattr(retries, "LONGEST", 0.001)

    async def conversation(bench):
        device.unlucky = 0
        bench.queue.write(reads(1))
        await bench.completed(1)
        bench.events.clear()
        device.unlucky = len(PAUSES_HERE) + 3
        bench.queue.read(reads(1))
        await bench.completed(1)
        assert delivered(bench) == {1: outcome}
        bench.events.clear()
        bench.queue.write(reads(2))
        await bench.completed(1)
        assert delivered(bench) == {2: error}

    device = Unlucky(0, error)
    device.patience = 0.003
    run(conversation, device)
    assert device.tried["write", 2] == len(PAUSES_HERE) + 1


def test_the_region_of_a_page_between_two_tries_goes():
    async def conversation(bench):
        bench.device.unlucky = 0
        bench.queue.write(reads(1, 2))
        await bench.completed(2)
        bench.events.clear()
        bench.device.unlucky = 1
        bench.queue.read([*reads(1), *reads(2, region=7)])
        await wait_until_async(lambda: bench.queue._read_again.tasks, "the read is to be tried again")
        bench.queue.regions_gone([1])
        assert delivered(bench) == {1: Unmapped}
        for task in bench.queue._read_again.tasks:
            task.cancel()  # the pause is a minute
        bench.queue.regions_gone([7])
        assert delivered(bench) == {1: Unmapped, 2: Unmapped}

    run(conversation, Unlucky(0), pauses=(60.0,))


def test_no_memory_to_read_to_is_as_a_read_that_failed():
    async def conversation(bench):
        bench.device.unlucky = 0
        bench.queue.write(reads(1, 2))
        await bench.completed(2)
        bench.events.clear()
        left = [3]
        stage = bench.memory.stage

        def short(pages, *, at_once=False):
            left[0] -= 1
            if left[0] >= 0:
                raise OSError(12, "Cannot allocate memory")
            return stage(pages)

        bench.memory.stage = short
        bench.queue.read(reads(1, 2))
        await bench.completed(2)
        assert delivered(bench) == {1: None, 2: None}
        left[0] = 100
        bench.events.clear()
        bench.queue.read(reads(1))
        await bench.completed(1)
        assert str(bench.events[0].errors[0]) == "usmd has no memory to move the page: OSError Cannot allocate memory"

    run(conversation, Unlucky(0))


def test_no_memory_to_write_from_loses_nothing_and_a_fill_that_raises_is_an_error():
    async def conversation(bench):
        source, left = bench.memory.source, [2]

        def short(page):
            left[0] -= 1
            if left[0] >= 0:
                raise MemoryError
            return source(page)

        bench.memory.source = short
        bench.queue.write(reads(1, 2))
        await bench.completed(2)
        assert delivered(bench) == {1: None, 2: None}
        bench.events.clear()

        def broken(stage, errors):
            bench.memory.unstage(stage)
            raise OSError(5, "no fill")

        bench.memory.fill = broken
        bench.queue.read(reads(1))
        await bench.completed(1)
        assert str(bench.events[0].errors[0]) == "the page cannot be brought in: OSError"

    run(conversation, Unlucky(0))


def test_all_pauses_together_are_under_half_a_second():
    assert list(PAUSES) == sorted(PAUSES)
    assert sum(PAUSES) < 0.5
