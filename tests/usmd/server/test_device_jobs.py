"""Jobs of a device that hangs: what they fail with, and that no byte of theirs gets where it is not wanted."""

import asyncio
import threading

from tests.support.queue_bench import SECONDS, QueueBench
from tests.support.waiting import wait_until_async
from usmd.core import events
from usmd.core.commands import Allocated, Failed, SlotPage
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.core.validate import violations
from usmd.errors import SwapIOError
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.device_jobs import DeviceHangs
from usmd.server.engine import Engine
from usmd.server.validation import owed
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
FRAMES = 64
FAR = float("inf")
"""A time at which every job that runs is late."""


class HangingDevice(MemorySwapDevice):
    """A device whose reads and writes begin and then hang while `hangs` has the operation, until `let_go`."""

    read_jobs = 2

    def __init__(self, slots=256):
        super().__init__(number=0, name="hanging", slots=slots, page_size=PAGE)
        self.hangs = set()
        self.began = {"read": 0, "write": 0}
        self.ended = {"read": 0, "write": 0}
        self._changed = threading.Condition()

    def _fetch_now(self, batch):
        return None

    def _hang(self, operation):
        with self._changed:
            self.began[operation] += 1
            self._changed.notify_all()
            let_go = self._changed.wait_for(lambda: operation not in self.hangs, SECONDS)
        assert let_go

    def _fetch(self, batch):
        self._hang("read")
        results = super()._fetch(batch)
        self.ended["read"] += 1
        return results

    def _store(self, batch):
        self._hang("write")
        results = super()._store(batch)
        self.ended["write"] += 1
        return results

    def let_go(self):
        with self._changed:
            self.hangs.clear()
            self._changed.notify_all()

    async def has_begun(self, operation, count=1):
        await wait_until_async(lambda: self.began[operation] >= count, f"{count} {operation} jobs have begun")


def pages(first, count):
    return [SlotPage(slot, slot, 1, page_key(1, slot), 1) for slot in range(first, first + count)]


def run(conversation, timeout=30.0):
    """A conversation with a queue; what is late returns before it closes."""

    async def main():
        bench = QueueBench(HangingDevice(), SimulatedMemory(FRAMES, PAGE), timeout=timeout)
        try:
            await conversation(bench)
        finally:
            bench.device.let_go()
            await wait_until_async(lambda: not bench.queue.hangs, "no job is late")
            await asyncio.wait_for(bench.queue.close(), SECONDS)
        bench.memory.close()  # which raises where a buffer was not given back
        assert bench.queue.in_flight == 0
        return bench

    return asyncio.run(main())


def late(bench):
    bench.queue.look(FAR)


def errors_of(bench):
    return [type(error) for event in bench.events for error in event.errors]


def put(bench, slot, data):
    """Store a page in its frame, and write it to its slot."""
    bench.memory.store([slot], 0, 0, memoryview(data))


def test_a_write_that_hangs_fails_and_its_slot_holds_nothing_once_it_has_returned(logged):
    async def conversation(bench):
        bench.device.hangs = {"write"}
        put(bench, 3, b"x" * PAGE)
        bench.queue.write(pages(3, 2))
        await bench.device.has_begun("write")
        bench.queue.look(0.0)
        assert bench.events == []
        late(bench)
        await bench.completed(2)
        assert errors_of(bench) == [DeviceHangs, DeviceHangs]
        assert bench.queue.in_flight == 0
        bench.device.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "it has returned")
        bench.queue.read(pages(3, 1))
        await bench.completed(3)
        assert "nothing is written in it" in str(bench.events[-1].errors[0])

    run(conversation)
    assert [line["event"] for line in logged] == ["swap_device_hangs", "swap_device_returned"]
    assert (logged[0]["operation"], logged[0]["pages"], logged[0]["log_level"]) == ("write", 2, "error")


def test_while_a_write_hangs_nothing_else_is_written_and_then_all_is_as_ever(logged):
    async def conversation(bench):
        bench.device.hangs = {"write"}
        bench.queue.write(pages(0, 1))
        await bench.device.has_begun("write")
        bench.queue.write(pages(1, 1))
        late(bench)
        await bench.completed(2)
        bench.queue.write(pages(0, 1))
        await bench.completed(3)
        assert errors_of(bench) == [DeviceHangs] * 3
        bench.device.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "it has returned")
        put(bench, 0, b"n" * PAGE)
        bench.queue.write(pages(0, 1))
        await bench.completed(4)
        bench.memory.zero([0], [0])
        bench.queue.read(pages(0, 1))
        await bench.completed(5)
        assert errors_of(bench)[3:] == [type(None)] * 2
        assert bench.memory.load([0], 0, 0, PAGE) == b"n" * PAGE

    bench = run(conversation)
    assert bench.device.began["write"] == 2
    assert len(logged) == 2


def test_a_read_that_hangs_fails_and_writes_to_no_frame_when_it_ends(logged):
    async def conversation(bench):
        put(bench, 3, b"x" * PAGE)
        bench.queue.write(pages(3, 1))
        await bench.completed(1)
        bench.device.hangs = {"read"}
        bench.queue.read(pages(3, 1))
        await bench.device.has_begun("read")
        late(bench)
        await bench.completed(2)
        assert errors_of(bench) == [type(None), DeviceHangs]
        put(bench, 3, b"o" * PAGE)  # the frame is another page's by now
        bench.device.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "it has returned")
        assert bench.device.ended["read"] == 1
        assert bench.memory.load([3], 0, 0, PAGE) == b"o" * PAGE

    run(conversation)


def test_a_read_that_hangs_leaves_the_others_and_when_all_hang_reads_fail_at_once():
    async def conversation(bench):
        bench.queue.write(pages(0, 8))
        await bench.completed(8)
        bench.device.hangs = {"read"}
        bench.queue.read(pages(0, 1))
        await bench.device.has_begun("read")
        late(bench)
        await bench.completed(9)
        bench.queue.read(pages(1, 1))
        await bench.device.has_begun("read", 2)
        bench.queue.read(pages(2, 2))  # waits for a thread
        late(bench)
        await bench.completed(12)
        bench.queue.read(pages(4, 1))
        await bench.completed(13)
        assert errors_of(bench)[8:] == [DeviceHangs] * 5
        bench.device.let_go()
        await wait_until_async(lambda: not bench.queue.hangs, "they have returned")
        bench.queue.read(pages(0, 8))
        await bench.completed(21)
        assert errors_of(bench)[13:] == [type(None)] * 8

    bench = run(conversation)
    assert bench.queue.errors == 5


def test_without_a_timeout_nothing_is_ever_late():
    async def conversation(bench):
        bench.device.hangs = {"write"}
        bench.queue.write(pages(0, 1))
        await bench.device.has_begun("write")
        late(bench)
        assert not bench.queue.hangs
        bench.device.let_go()
        await bench.completed(1)
        assert errors_of(bench) == [type(None)]

    run(conversation, timeout=0.0)


def test_a_queue_closes_although_a_job_never_returns(logged):
    async def main():
        device = HangingDevice()
        device.hangs = {"write"}
        bench = QueueBench(device, SimulatedMemory(FRAMES, PAGE), timeout=0.001)
        bench.queue.write(pages(0, 1))
        await asyncio.wait_for(bench.queue.close(), SECONDS)
        assert errors_of(bench) == [DeviceHangs]
        return device

    device = asyncio.run(main())
    assert [line["event"] for line in logged] == ["swap_device_hangs", "swap_device_not_closed"]
    device.close()  # as the daemon does at its end; it has been told to close, and waits for nothing
    device.let_go()


class Daemon:
    """An engine over one hanging device, with a process of `pages` pages that the test loads and stores."""

    def __init__(self, frames=4, pages=8):
        self.device = HangingDevice()
        settings = CoreSettings(frames=frames, page_size=PAGE, deny_budget=frames, deny_budget_total=frames)
        self.engine = Engine(settings, SimulatedMemory(frames, PAGE), [self.device])
        self.outcomes = []
        self.engine.on_outcomes = lambda command: self.outcomes.extend(command.outcomes)
        self.process = self.engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id
        self.region = self.engine.map(events.Map(self.process, pages * PAGE, "")).region_id

    def late(self):
        for queue in self.engine.queues:
            queue.look(FAR)

    async def fault(self, page):
        self.outcomes.clear()
        self.engine.submit(events.Faults(self.process, [events.FaultRequest(page, self.region, page, 1, True)]))
        await wait_until_async(lambda: self.outcomes, "an outcome")
        return self.outcomes[0]

    async def put(self, page, data):
        assert isinstance(await self.fault(page), Allocated)
        first = page_key(self.region, page)
        store = lambda frames: self.engine.memory.store(frames, first, 0, memoryview(data))  # noqa: E731
        assert not self.engine.access(events.Access(self.process, self.region, page, 1, True), store).absent

    def get(self, page):
        found = []
        load = lambda frames: found.append(self.engine.memory.load(frames, page_key(self.region, page), 0, PAGE))  # noqa: E731
        absent = self.engine.access(events.Access(self.process, self.region, page, 1, False), load).absent
        return None if absent else found[0]

    def evict(self, page):
        hint = parse_hint("DONTNEED")
        self.engine.submit(events.SetHint(self.process, self.region, page * PAGE, PAGE, hint))

    async def evicted(self, page):
        self.evict(page)
        await wait_until_async(lambda: self.engine.core.state.regions[self.region].table[page] < 0, "it is in swap")

    async def hang_in_a_write_of_page_0(self):
        self.device.hangs = {"write"}
        await self.put(0, b"x" * PAGE)
        self.evict(0)
        await self.device.has_begun("write")

    async def let_the_job_return(self):
        self.device.let_go()
        await wait_until_async(lambda: not self.engine.queues[0].hangs, "it has returned")

    def check(self):
        assert violations(self.engine.core) == []
        assert owed(self.engine) == []

    async def over(self):
        await self.let_the_job_return()
        self.check()
        self.engine.submit(events.Detach(self.process, "over"))
        await asyncio.wait_for(self.engine.close(), SECONDS)


def test_a_page_whose_write_hangs_stays_in_memory_with_every_byte():
    async def main():
        daemon = Daemon()
        await daemon.hang_in_a_write_of_page_0()
        daemon.late()
        await wait_until_async(lambda: not daemon.engine.core.life.writing, "the core has been told")
        daemon.check()
        assert daemon.get(0) == b"x" * PAGE
        await daemon.put(0, b"y" * PAGE)
        await daemon.let_the_job_return()
        assert daemon.get(0) == b"y" * PAGE
        await daemon.over()

    asyncio.run(main())


def test_a_late_write_spoils_no_page_that_has_its_slot_since():
    async def main():
        daemon = Daemon()
        await daemon.hang_in_a_write_of_page_0()
        daemon.late()
        await wait_until_async(lambda: not daemon.engine.core.life.writing, "the core has been told")
        await daemon.let_the_job_return()
        daemon.engine.core.state.swap.devices[0].rests_until = 0.0  # its rest is over
        for page in (1, 0):
            await daemon.put(page, bytes([page + 65]) * PAGE)
            await daemon.evicted(page)
        for page in (1, 0):
            await daemon.fault(page)
            assert daemon.get(page) == bytes([page + 65]) * PAGE
        await daemon.over()

    asyncio.run(main())


def test_a_page_whose_read_hangs_is_an_error_and_its_frame_is_safe_for_another_page():
    async def main():
        daemon = Daemon(frames=1)
        await daemon.put(0, b"x" * PAGE)
        await daemon.evicted(0)
        daemon.device.hangs = {"read"}
        waiting = asyncio.ensure_future(daemon.fault(0))
        await daemon.device.has_begun("read")
        daemon.late()
        failed = await waiting
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, SwapIOError)
        assert "has not returned for 30 s" in str(failed.error)
        daemon.check()
        await daemon.put(1, b"o" * PAGE)  # on the only frame that there is
        await daemon.let_the_job_return()
        assert daemon.get(1) == b"o" * PAGE
        await daemon.evicted(1)
        for page, data in ((0, b"x"), (1, b"o")):
            assert isinstance(await daemon.fault(page), Allocated)
            assert daemon.get(page) == data * PAGE
            await daemon.evicted(page)
        await daemon.over()

    asyncio.run(main())


def test_a_session_that_ends_while_its_pages_are_written_leaves_no_frame_behind():
    async def main():
        daemon = Daemon()
        await daemon.hang_in_a_write_of_page_0()
        daemon.engine.submit(events.Detach(daemon.process, "over"))
        daemon.late()
        await wait_until_async(lambda: not daemon.engine.core.life.writing, "the core has been told")
        daemon.check()
        assert daemon.engine.core.state.frames.free == 4
        assert daemon.engine.core.state.swap.free == daemon.device.slots
        daemon.device.let_go()
        await asyncio.wait_for(daemon.engine.close(), SECONDS)

    asyncio.run(main())


def test_an_engine_closes_although_a_write_never_returns():
    async def main():
        daemon = Daemon()
        await daemon.hang_in_a_write_of_page_0()
        daemon.late()
        await wait_until_async(lambda: not daemon.engine.core.life.writing, "the core has been told")
        daemon.engine.submit(events.Detach(daemon.process, "over"))
        await asyncio.wait_for(daemon.engine.close(), SECONDS)
        return daemon

    asyncio.run(main()).device.let_go()
