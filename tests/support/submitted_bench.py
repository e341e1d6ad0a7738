"""A queue over a channel that a test holds."""

import asyncio

from tests.support.channels import HeldSubmittingDevice
from tests.support.queue_bench import SECONDS, QueueBench
from tests.support.waiting import wait_until_async
from usmd.core.commands import SlotPage
from usmd.core.region import page_key
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.submitted_queue import SubmittedQueue

PAGE = 16
FRAMES = 2048


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
