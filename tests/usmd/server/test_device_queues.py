"""The queues of devices that come and go; how commands fail is in test_engine_failures.py."""

import asyncio

from tests.support.queue_bench import QueueBench
from usmd.core import commands
from usmd.core.settings import DeviceInfo
from usmd.core.swap_map import SLOT_BITS, SwapMap
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_queues import DeviceQueues
from usmd.swap.base import Usage
from usmd.swap.memory import MemorySwapDevice

PAGE = 16


def device(number):
    return MemorySwapDevice(number=number, name=f"memory{number}", slots=4, page_size=PAGE)


def page(number, slot, pfn):
    return commands.SlotPage(number << SLOT_BITS | slot, pfn, 1, 1 << 40, 1)


def test_devices_tell_their_share_where_it_is_not_that_of_their_slots_and_has_changed():
    class Packed(MemorySwapDevice):
        held = 0

        def usage(self, pages):
            return Usage(1000, self.held, self.held)

    async def main():
        memory = SimulatedMemory(4, PAGE)
        packed = Packed(number=1, name="packed", slots=4, page_size=PAGE)
        benches = {each.number: QueueBench(each, memory) for each in (device(0), packed)}
        queues = DeviceQueues(lambda each: benches[each.number].queue, lambda *_: None)
        for bench in benches.values():
            queues.add(bench.device)
        swap = SwapMap([DeviceInfo("memory0", 4), DeviceInfo("packed", 4)])
        told = []
        for packed.held in (500, 505, 510, 2000):
            told.append(queues.shares(swap))
        assert told == [[(1, 0.5)], [], [(1, 0.51)], [(1, 1.0)]]
        assert not await queues.close()

    asyncio.run(main())


def test_pages_go_to_the_queues_of_their_devices_whatever_numbers_these_have():
    async def main():
        memory = SimulatedMemory(4, PAGE)
        benches = {number: QueueBench(device(number), memory) for number in (5, 0)}
        queues = DeviceQueues(lambda each: benches[each.number].queue, lambda *_: None)
        queues.add(benches[5].device)
        assert (queues.live, queues.capacity) == ([benches[5].queue], 4 * PAGE)
        queues.write(commands.WriteSlots([page(5, 1, 0)]))
        queues.add(benches[0].device)
        assert queues.live == [benches[0].queue, benches[5].queue]
        queues.write(commands.WriteSlots([page(5, 2, 1), page(0, 2, 2), page(5, 3, 3)]))
        await benches[5].completed(3)
        await benches[0].completed(1)
        queues.discard(commands.DiscardSlots([each << SLOT_BITS | slot for each, slot in ((0, 2), (5, 2), (5, 1))]))
        queues.read(commands.ReadSlots([page(5, 3, 0), page(5, 2, 1), page(0, 2, 2)]))
        await benches[5].completed(5)
        await benches[0].completed(2)
        errors = [error for bench in benches.values() for each in bench.events for error in each.errors]
        assert sum(error is not None for error in errors) == 2
        await queues.of(0).close()
        queues.remove(0)
        assert (queues.live, queues.capacity) == ([benches[5].queue], 4 * PAGE)
        assert not await queues.close()

    asyncio.run(main())
