"""Several reads of a device at a time, and reads that nobody wants; the device holds them till a test says."""

import asyncio

import pytest

from tests.support.held_device import SECONDS, HeldDevice
from tests.support.queue_bench import QueueBench
from tests.support.waiting import wait_until_async
from usmd.core import commands, events
from usmd.core.commands import SlotPage
from usmd.core.events import SwapInDone, SwapOutDone
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.core.validate import violations
from usmd.errors import Unmapped
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_queue import BATCH
from usmd.server.engine import Engine
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
FRAMES = 512


def reads(*slots, region=1):
    return [SlotPage(slot, slot, 1, page_key(region, slot), 1) for slot in slots]


def run(conversation):
    async def main():
        bench = QueueBench(HeldDevice(), SimulatedMemory(FRAMES, PAGE))
        bench.queue.write(reads(*range(300)))
        await bench.completed(300)
        bench.events.clear()
        try:
            await conversation(bench)
        finally:
            bench.device.let_go()
            await asyncio.wait_for(bench.queue.close(), SECONDS)
        bench.memory.close()  # which raises where a buffer was not given back
        return bench

    return asyncio.run(main())


def test_what_waits_is_divided_among_the_jobs_and_all_of_them_run_at_once():
    async def conversation(bench):
        for slot in range(0, 32, 2):
            bench.queue.read(reads(slot))
        await bench.device.begun(4)
        assert sorted(bench.device.jobs) == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18, 20, 22], [24, 26, 28, 30]]
        assert bench.queue.in_flight == 16
        bench.device.let_go()
        await bench.completed(16)
        assert bench.queue.in_flight == 0

    bench = run(conversation)
    assert {error for event in bench.events for error in event.errors} == {None}
    assert len(bench.device.jobs) == 4


def test_a_read_that_comes_while_others_run_begins_at_once_until_all_jobs_are_taken():
    async def conversation(bench):
        for number in range(4):
            bench.queue.read(reads(10 * number))
            await bench.device.begun(number + 1)
        bench.queue.read(reads(100, 200))
        bench.device.let_go(2)
        await bench.device.begun(5)
        assert bench.device.jobs == [[0], [10], [20], [30], [100, 200]]
        await bench.completed(1)
        assert [event.frames for event in bench.events] == [[20]]

    run(conversation)


def test_neighbouring_slots_are_read_by_one_job_and_each_job_in_the_order_of_pages():
    async def conversation(bench):
        bench.queue.read([*reads(7, 50), *reads(6, 8, 90, 5)])
        await bench.device.begun(3)
        assert sorted(bench.device.jobs) == [[5, 6, 7, 8], [50], [90]]
        bench.device.let_go()
        await bench.completed(6)
        assert sorted(event.frames for event in bench.events) == [[5, 6, 7, 8], [50], [90]]

    run(conversation)


def test_no_job_has_more_than_a_batch():
    async def conversation(bench):
        bench.queue.read(reads(*range(300)))
        await bench.device.begun(4)
        assert [len(job) for job in bench.device.jobs] == [BATCH] * 4
        bench.device.let_go()
        await bench.completed(300)

    assert sorted(slot for job in run(conversation).device.jobs for slot in job) == list(range(300))


def test_a_write_passes_reads_that_take_all_their_jobs():
    async def conversation(bench):
        bench.queue.read(reads(0, 10, 20, 30))
        await bench.device.begun(4)
        bench.queue.write(reads(299))
        await bench.completed(1)
        assert isinstance(bench.events[0], SwapOutDone)

    run(conversation)


def test_what_is_asked_for_when_the_last_read_has_just_ended_is_read():
    async def conversation(bench):
        bench.device.read_jobs = 1
        bench.device.let_go()
        loop = asyncio.get_running_loop()

        def ended(event):
            if event.frames == [0]:
                # In the turn between the end of a reader's work and that of its task.
                loop.call_soon(bench.queue.read, reads(1))

        bench.on_event = ended
        bench.queue.read(reads(0))
        await bench.completed(2)
        assert [event.frames for event in bench.events] == [[0], [1]]

    run(conversation)


def test_reads_of_a_region_that_is_gone_are_answered_without_being_read_and_those_that_run_are_left_to_end():
    async def conversation(bench):
        bench.queue.write(reads(50, region=2))
        await bench.completed(1)
        bench.events.clear()
        bench.queue.read(reads(0, 10, 20, 30, region=1))
        await bench.device.begun(4)
        bench.queue.read(reads(40, 60, region=1))
        bench.queue.read(reads(50, region=2))
        bench.queue.regions_gone([1])
        bench.queue.regions_gone([1])
        (event,) = bench.events
        assert isinstance(event, SwapInDone)
        assert (event.frames, [type(error) for error in event.errors]) == ([40, 60], [Unmapped] * 2)
        assert (bench.queue.in_flight, bench.queue.errors) == (5, 0)
        bench.device.let_go()
        await bench.completed(7)

    bench = run(conversation)
    assert bench.device.jobs[4:] == [[50]]
    assert (bench.queue.in_flight, bench.queue.pages_read, bench.queue.errors) == (0, 5, 0)


def test_all_reads_are_forgotten_before_any_has_begun():
    async def conversation(bench):
        bench.queue.read(reads(0, 10, 20))
        bench.queue.regions_gone([1])
        assert bench.events[0].frames == [0, 10, 20]
        bench.queue.read(reads(5, region=2))
        await bench.device.begun(1)

    assert run(conversation).device.jobs == [[5]]


def test_close_waits_for_reads_that_run_and_those_that_wait():
    async def conversation(bench):
        bench.queue.read(reads(0, 10, 20, 30))
        await bench.device.begun(4)
        bench.queue.read(reads(*range(100, 180, 2)))
        closing = asyncio.create_task(bench.queue.close())
        await asyncio.sleep(0)
        assert not closing.done()
        bench.device.let_go()
        await asyncio.wait_for(closing, SECONDS)
        assert {error for event in bench.events for error in event.errors} == {None}
        assert sum(len(event.frames) for event in bench.events) == 44

    run(conversation)


class Faults:
    """An engine over a held device and a fast one; a process under `async_aware` whose pages are in swap."""

    PAGES = 16

    def __init__(self):
        self.slow = HeldDevice("slow", 0, page_size=PAGE)
        fast = MemorySwapDevice(number=1, name="fast", slots=64, page_size=PAGE)
        settings = CoreSettings(frames=32, page_size=PAGE, deny_budget=32, deny_budget_total=32, low=0, high=0)
        self.engine = Engine(settings, SimulatedMemory(32, PAGE), [self.slow, fast])
        self.outcomes = []
        self.changed = asyncio.Event()
        self.engine.on_outcomes = self._outcomes
        self.process = self.engine.submit(events.Attach("app", "async_aware", "fifo", "refuse")).process_id

    def _outcomes(self, command):
        self.outcomes.extend(command.outcomes)
        self.changed.set()

    async def until(self, true):
        async def wait():
            while not true():
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(wait(), SECONDS)

    async def settled(self, true):
        """Give the loop its turns until the core says so."""

        def ticked():
            self.engine.submit(events.Tick())
            return true()

        await wait_until_async(ticked, "the core says so")

    async def swapped(self, device):
        """A region whose pages, each of another byte, are on a device."""
        region = self.engine.map(events.Map(self.process, self.PAGES * PAGE, "")).region_id
        self.fault(region, *range(self.PAGES))
        for page in range(self.PAGES):
            self.touch(region, page, bytes([page + 1]) * PAGE)
        self.engine.submit(events.SetHint(self.process, region, 0, None, parse_hint(f"SWAP={device}; DONTNEED")))
        await self.settled(lambda: self.engine.core.state.regions[region].swapped == self.PAGES)
        self.outcomes.clear()
        return region

    def fault(self, region, *pages):
        """Fault on pages one by one; each fault has the number of its page, and 1000 for each region."""
        for page in pages:
            fault = events.FaultRequest(1000 * region + page, region, page, 1, False)
            self.engine.submit(events.Faults(self.process, [fault]))

    def touch(self, region, page, data=None):
        """Load, or store `data`; the bytes that were loaded, None for a page that is absent."""
        memory, found = self.engine.memory, []

        def move(frames):
            if data is not None:
                memory.store(frames, page_key(region, page), 0, memoryview(data))
            elif frames:
                found.append(memory.load(frames, page_key(region, page), 0, PAGE))

        self.engine.access(events.Access(self.process, region, page, 1, data is not None), move)
        return found[0] if found else None

    def answers(self, kind):
        return [outcome.fault_id for outcome in self.outcomes if isinstance(outcome, kind)]


def run_faults(conversation):
    async def main():
        bench = Faults()
        try:
            await asyncio.wait_for(conversation(bench), 3 * SECONDS)
        finally:
            bench.slow.let_go()
            bench.engine.submit(events.Detach(bench.process, "over"))
            await asyncio.wait_for(bench.engine.close(), SECONDS)
        assert violations(bench.engine.core) == []
        assert bench.engine.core.state.frames.free == 32
        return bench

    return asyncio.run(main())


def test_a_fault_yields_while_the_device_holds_its_read_and_many_do_at_once():
    async def conversation(bench):
        region = await bench.swapped("slow")
        bench.fault(region, 0, 3, 6, 9)
        wanted = [1000 * region + page for page in (0, 3, 6, 9)]
        assert bench.answers(commands.Yielded) == wanted
        await bench.slow.begun(4)
        assert bench.answers(commands.Allocated) == []
        bench.slow.let_go()
        await bench.until(lambda: len(bench.answers(commands.Allocated)) == 4)
        assert sorted(bench.answers(commands.Allocated)) == wanted
        assert [bench.touch(region, page) for page in (0, 3, 6, 9)] == [bytes([n + 1]) * PAGE for n in (0, 3, 6, 9)]

    run_faults(conversation)


def test_a_fault_on_a_fast_device_is_served_while_a_slow_one_holds_all_its_reads():
    async def conversation(bench):
        slow, fast = await bench.swapped("slow"), await bench.swapped("fast")
        bench.fault(slow, *range(0, 16, 2))
        await bench.slow.begun(4)
        bench.fault(fast, 5)
        await bench.until(lambda: 1000 * fast + 5 in bench.answers(commands.Allocated))
        assert bench.touch(fast, 5) == bytes([6]) * PAGE
        assert bench.answers(commands.Allocated) == [1000 * fast + 5]

    run_faults(conversation)


def test_all_who_wait_for_a_page_get_it_by_one_read():
    async def conversation(bench):
        region = await bench.swapped("slow")
        bench.fault(region, 4)
        await bench.slow.begun(1)
        bench.fault(region, 4, 4)
        bench.slow.let_go()
        await bench.until(lambda: len(bench.answers(commands.Allocated)) == 3)
        assert (len(bench.slow.jobs), bench.engine.queues[0].pages_read) == (1, 1)

    run_faults(conversation)


@pytest.mark.parametrize("end", ["unmap", "detach"])
def test_when_a_region_goes_its_waiting_reads_are_never_made_and_frames_and_slots_come_free(end):
    async def conversation(bench):
        region = await bench.swapped("slow")
        bench.fault(region, 0, 5, 2, 9)
        await bench.slow.begun(4)
        bench.fault(region, 15, 7, 12, 4)
        core = bench.engine.core
        free = core.state.frames.free
        if end == "unmap":
            bench.engine.submit(events.Unmap(bench.process, region))
        else:
            bench.engine.submit(events.Detach(bench.process, "over"))
            bench.process = bench.engine.submit(events.Attach("next", "async_aware", "fifo", "refuse")).process_id
        await bench.settled(lambda: core.state.frames.free >= free + 4)
        assert violations(core) == []
        assert bench.engine.queues[0].in_flight == 4
        bench.slow.let_go()
        await bench.settled(lambda: core.state.swap.free == core.state.swap.slots)
        assert len(bench.slow.jobs) == 4
        assert core.state.frames.free == 32

    run_faults(conversation)
