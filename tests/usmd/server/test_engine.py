"""The engine: commands performed in their order, and nobody held up by a long chain of them."""

import asyncio

import pytest

from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.state import CoreSettings
from usmd.errors import NotFound
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.engine import Engine
from usmd.swap.base import SlotIO
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
SECONDS = 10


class Bench:
    """An engine with two memory devices, a process, and what came of its faults."""

    def __init__(self, frames=4, pages=4, **settings):
        settings = {"deny_budget": frames, "deny_budget_total": frames} | settings
        devices = [MemorySwapDevice(number=n, name=f"memory{n}", slots=4096, page_size=PAGE) for n in (0, 1)]
        self.engine = Engine(
            CoreSettings(frames=frames, page_size=PAGE, **settings), SimulatedMemory(frames, PAGE), devices
        )
        self.outcomes = []
        self.ended = []
        self.notices = []
        self.changed = asyncio.Event()
        self.engine.on_outcomes = self._outcomes
        self.engine.on_ended = self.ended.append
        self.engine.on_notice = self.notices.append
        self.process = self.engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id
        self.region = self.engine.submit(events.Map(self.process, pages * PAGE, "")).region_id

    def _outcomes(self, process_id, outcomes):
        assert process_id == self.process
        self.outcomes.extend(outcomes)
        self.changed.set()

    async def answered(self, count):
        """Wait until this many outcomes have come."""

        async def enough():
            while len(self.outcomes) < count:
                self.changed.clear()
                await self.changed.wait()

        await asyncio.wait_for(enough(), SECONDS)

    async def fault(self, page):
        before = len(self.outcomes)
        self.faults(page)
        await self.answered(before + 1)
        return self.outcomes[-1]

    def faults(self, *pages):
        self.engine.submit(
            events.Faults(self.process, [events.FaultRequest(page, self.region, page, 1, False) for page in pages])
        )

    def store(self, page, data):
        """Whether the page was present."""
        touch = lambda frames: self.engine.memory.store(frames, page_key(self.region, page), 0, memoryview(data))  # noqa: E731
        return not self.engine.access(events.Access(self.process, self.region, page, 1, True), touch).absent

    def load(self, page):
        data = []
        touch = lambda frames: data.append(self.engine.memory.load(frames, page_key(self.region, page), 0, PAGE))  # noqa: E731
        absent = self.engine.access(events.Access(self.process, self.region, page, 1, False), touch).absent
        return None if absent else data[0]

    def hint(self, text):
        self.engine.submit(events.SetHint(self.process, self.region, 0, None, parse_hint(text)))


def run(conversation, **settings):
    async def main():
        bench = Bench(**settings)
        try:
            return await conversation(bench)
        finally:
            if not bench.ended:
                bench.engine.submit(events.Detach(bench.process, "over"))
            await asyncio.wait_for(bench.engine.close(), SECONDS)

    return asyncio.run(main())


def test_bytes_are_stored_before_reclaim_takes_the_frame_of_the_page():
    async def conversation(bench):
        for page in range(3):
            await bench.fault(page)  # pinned until touched, so that reclaim, which is due, has to wait
        assert bench.store(0, b"A" * PAGE)  # ends the pin: this page, still zero, is the only possible victim
        assert bench.engine.core.state.totals().evictions == 0
        if bench.load(0) is None:
            await bench.fault(0)
        assert bench.load(0) == b"A" * PAGE

    run(conversation, low=2, high=3, hold_budget=4, hold_seconds=1000.0, reclaim_rest=0.0)


def test_pages_go_to_the_hinted_device_and_come_back():
    async def conversation(bench):
        for page in range(4):
            await bench.fault(page)
            assert bench.store(page, bytes([65 + page]) * PAGE)
        bench.hint("SWAP=memory1; DONTNEED")
        for page in range(4):
            while (data := bench.load(page)) is None:
                assert isinstance(await bench.fault(page), commands.Allocated)
            assert data == bytes([65 + page]) * PAGE
        return [queue.pages_written for queue in bench.engine.queues]

    assert run(conversation) == [0, 4]


def test_a_long_chain_gives_the_loop_its_turn():
    async def conversation(bench):
        bench.faults(*range(2000))  # through 16 frames: each fault needs an eviction, and all pages are zero
        assert len(bench.outcomes) < 2000
        await bench.answered(2000)
        assert all(isinstance(outcome, commands.Allocated) for outcome in bench.outcomes)

    run(conversation, frames=16, pages=2000)


def test_an_event_from_within_is_handled_after_the_commands_of_the_one_before():
    order = []

    async def conversation(bench):
        def killed(ended):
            order.append("ended")
            assert bench.engine.submit(events.Tick()) is None
            bench.ended.append(ended)

        def noticed(notice):
            order.append(notice.kind)

        bench.engine.on_ended = killed
        bench.engine.on_notice = noticed
        bench.engine.submit(events.Detach(bench.process, "over"))

    run(conversation)
    assert order == ["ended", "process_detached"]


def test_a_request_that_is_refused_changes_nothing_and_the_next_is_served():
    async def conversation(bench):
        with pytest.raises(NotFound):
            bench.engine.submit(events.Unmap(bench.process, 99))
        with pytest.raises(NotFound):
            bench.engine.access(events.Access(bench.process, 99, 0, 1, False), lambda frames: pytest.fail("touched"))
        assert isinstance(await bench.fault(0), commands.Allocated)

    run(conversation)


def test_close_closes_every_device():
    async def main():
        bench = Bench()
        bench.engine.submit(events.Detach(bench.process, "over"))
        await bench.engine.close()
        buffer = memoryview(bytearray(PAGE))
        return [queue.device.write([SlotIO(0, 1, 1, 1, buffer)]) for queue in bench.engine.queues]

    assert [str(error).endswith("the device is closed") for (error,) in asyncio.run(main())] == [True, True]
