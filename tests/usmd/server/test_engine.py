"""The engine: commands performed in their order, and nobody held up by a long chain of them."""

import asyncio

import pytest

from tests.support.waiting import wait_until_async
from usm_wire.pb.usm.v1 import common_pb2
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, LimitExceeded, NotFound
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.completions import PAGES_A_TURN
from usmd.server.engine import Engine
from usmd.swap.base import SlotIO
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
SECONDS = 60


class Recorder(SimulatedMemory):
    """Writes down what it is told beyond bytes; `emptied` and `stuck` are what it says of all pages."""

    def __init__(self, frames, page_size):
        super().__init__(frames, page_size)
        self.told = []
        self.released = asyncio.Event()
        self.emptied = False
        self.stuck = False
        self.room = True

    def add_region(self, region_id, process_id, page_count):
        self.told.append(("add", region_id, process_id, page_count))
        if not self.room:
            raise LimitExceeded("no room for a region")

    def drop_regions(self, region_ids, *, ended):
        self.told += [("drop", region_id, ended) for region_id in region_ids]

    def zero(self, frames, pages):
        super().zero(frames, pages)
        self.told.append(("zero", *pages))

    def release(self, pages):
        self.told.append(("release", *pages))
        self.released.set()

    def restore(self, pages, writable):
        self.told.append(("restore", *zip(pages, writable, strict=True)))

    def wake(self, pages):
        self.told.append(("wake", *pages))
        return list(pages) if self.emptied else []

    def poison(self, pages, reasons):
        self.told.append(("poison", *zip(pages, reasons, strict=True)))
        return list(pages) if self.stuck else []


class Bench:
    """An engine with two memory devices, a process, and what came of its faults."""

    def __init__(self, frames=4, pages=4, memory=SimulatedMemory, **settings):
        settings = {"deny_budget": frames, "deny_budget_total": frames} | settings
        devices = [MemorySwapDevice(number=n, name=f"memory{n}", slots=4096, page_size=PAGE) for n in (0, 1)]
        self.engine = Engine(CoreSettings(frames=frames, page_size=PAGE, **settings), memory(frames, PAGE), devices)
        self.outcomes = []
        self.ended = []
        self.notices = []
        self.changed = asyncio.Event()
        self.engine.on_outcomes = self._outcomes
        self.engine.on_ended = self.ended.append
        self.engine.on_notice = self.notices.append
        self.process = self.engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id
        self.region = self.engine.map(events.Map(self.process, pages * PAGE, "")).region_id

    def _outcomes(self, command):
        assert command.process_id == self.process
        self.outcomes.extend(command.outcomes)
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

    def touch(self, page, write=False, kind=events.MISSING):
        """A real fault."""
        self.engine.submit(events.PageFaults(self.process, [events.PageFault(self.region, page, write, kind)]))

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
        region = bench.engine.core.state.regions[bench.region]
        await wait_until_async(lambda: region.swapped == 4, "all pages are out")  # a touch before that would keep one
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


def test_a_turn_of_the_loop_handles_so_many_pages_of_completions_however_many_clients_ask():
    pages_of = {events.Protected: "frames", events.SwapOutDone: "slots", events.SwapInDone: "frames"}

    async def conversation(bench):
        turns, handle = [0], bench.engine._handle

        def handled(event, touch=None):
            turns[-1] += len(getattr(event, pages_of.get(type(event), ""), ()))
            return handle(event, touch)

        def turn():
            turns.append(0)
            asyncio.get_running_loop().call_soon(turn)

        bench.engine._handle = handled
        turn()
        for first in range(0, 2000, 100):
            bench.faults(*range(first, first + 100))
        await bench.answered(2000)
        assert sum(turns) > 1500
        assert max(turns) < PAGES_A_TURN + bench.engine.core.state.settings.reclaim_batch

    run(conversation, frames=128, pages=2000)


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


def test_an_event_between_two_of_a_chain_is_handled_at_once_and_what_its_commands_submit_follows():
    seen = []

    async def conversation(bench):
        engine, handle = bench.engine, bench.engine._handle

        def handled(event, touch=None):
            seen.append(type(event))
            return handle(event, touch)

        def noticed(notice):
            if notice.kind == "process_attached":
                assert engine.submit(events.Tick()) is None

        def between():
            if events.Attach not in seen:
                answer = engine.submit(events.Attach("other", "first_fit", "fifo", "refuse"))
                assert isinstance(answer, commands.Attached)
                seen.append("answered")

        engine._handle, engine.on_notice, engine.between = handled, noticed, between
        bench.faults(*range(8))  # through 4 frames
        await bench.answered(8)

    run(conversation, pages=8)
    assert seen[:3] == [events.Faults, events.Attach, "answered"]
    assert seen.index(events.Protected) < seen.index(events.Tick)


def test_a_request_that_is_refused_changes_nothing_and_the_next_is_served():
    async def conversation(bench):
        with pytest.raises(NotFound):
            bench.engine.submit(events.Unmap(bench.process, 99))
        with pytest.raises(NotFound):
            bench.engine.access(events.Access(bench.process, 99, 0, 1, False), lambda frames: pytest.fail("touched"))
        assert isinstance(await bench.fault(0), commands.Allocated)

    run(conversation)


def test_the_memory_hears_of_real_faults_in_the_words_of_the_core():
    async def conversation(bench):
        memory, key = bench.engine.memory, page_key(bench.region, 0)
        assert memory.told == [("add", bench.region, bench.process, 4)]
        memory.told.clear()
        bench.touch(0)
        bench.store(0, b"x" * PAGE)
        bench.touch(0)
        bench.hint("DONTNEED")
        await asyncio.wait_for(memory.released.wait(), SECONDS)
        assert bench.load(0) is None
        bench.touch(0)
        assert bench.load(0) == b"x" * PAGE
        bench.touch(0, write=True, kind=events.PROTECTED)
        assert memory.told == [("zero", key), ("wake", key), ("release", key), ("restore", (key, True))]
        bench.engine.submit(events.Unmap(bench.process, bench.region))
        assert memory.told[-1] == ("drop", bench.region, False)
        other = bench.engine.map(events.Map(bench.process, PAGE, "")).region_id
        bench.engine.submit(events.Detach(bench.process, "over"))
        assert memory.told[-1] == ("drop", other, True)
        bench.ended.append(bench.process)
        return {notice.kind for notice in bench.notices}

    assert run(conversation, memory=Recorder) == {"process_attached", "process_detached"}


def test_what_its_client_has_emptied_is_dirty():
    async def conversation(bench):
        bench.touch(0)
        bench.store(0, b"x" * PAGE)
        bench.hint("DONTNEED")
        await asyncio.wait_for(bench.engine.memory.released.wait(), SECONDS)
        bench.touch(0)
        free = bench.engine.core.state.swap.free
        bench.engine.memory.emptied = True
        bench.touch(0)
        assert bench.engine.core.state.swap.free == free + 1

    run(conversation, memory=Recorder)


@pytest.mark.parametrize("stuck", [False, True])
def test_the_operator_hears_of_a_thread_that_cannot_even_be_given_an_error(stuck):
    async def conversation(bench):
        bench.engine.memory.stuck = stuck
        for page in range(2):
            bench.touch(page)
        bench.hint("EVICTION=DENY")
        bench.touch(2)
        assert bench.engine.memory.told[-1] == (
            "poison",
            (page_key(bench.region, 2), common_pb2.FAILURE_REASON_OUT_OF_MEMORY),
        )
        return {notice.kind: notice for notice in bench.notices}

    notices = run(conversation, frames=2, memory=Recorder)
    assert "page_poisoned" in notices
    assert ("thread_blocked" in notices) == stuck
    if stuck:
        assert notices["thread_blocked"].fields == {"region_id": "1", "page": "2"}
        assert "page 2 of region 1" in notices["thread_blocked"].message


def test_a_region_for_which_there_is_no_memory_is_none():
    async def conversation(bench):
        bench.engine.memory.room = False
        mapped = bench.engine.core.state.processes[bench.process].mapped
        with pytest.raises(LimitExceeded, match="no room for a region"):
            bench.engine.map(events.Map(bench.process, PAGE, "unlucky"))
        assert list(bench.engine.core.state.regions) == [bench.region]
        assert bench.engine.core.state.processes[bench.process].mapped == mapped
        bench.engine.memory.room = True
        assert bench.engine.map(events.Map(bench.process, PAGE, "")).region_id not in (1, 2)

    run(conversation, memory=Recorder)


def test_a_region_that_the_core_refuses_is_not_known_to_the_memory():
    async def conversation(bench):
        before = list(bench.engine.memory.told)
        with pytest.raises(InvalidArgument):
            bench.engine.map(events.Map(bench.process, 0, ""))
        assert bench.engine.memory.told == before

    run(conversation, memory=Recorder)


def test_close_closes_every_device():
    async def main():
        bench = Bench()
        bench.engine.submit(events.Detach(bench.process, "over"))
        await bench.engine.close()
        buffer = memoryview(bytearray(PAGE))
        return [queue.device.write([SlotIO(0, 1, 1, 1, buffer)]) for queue in bench.engine.queues]

    assert [str(error).endswith("the device is closed") for (error,) in asyncio.run(main())] == [True, True]


def test_each_command_of_the_core_has_a_performer_or_is_an_answer():
    async def conversation(bench):
        defined = {each for each in vars(commands).values() if isinstance(each, type)}
        concrete = {each for each in defined if issubclass(each, commands.Command)} - {commands.Command}
        answers = {each for each in concrete if issubclass(each, commands.Answer)}
        assert set(bench.engine.performers) == concrete - answers

    run(conversation)


def test_a_command_that_has_no_performer_is_a_defect_in_the_log_and_no_answer(logged):
    class Unknown(commands.Command, frozen=True):
        pass

    async def conversation(bench):
        bench.engine.core.state.first.append(Unknown())
        assert bench.engine.submit(events.Tick()) is None

    run(conversation)
    assert [line["command"] for line in logged if line["event"] == "command_failed"] == ["Unknown"]


def test_events_are_at_the_times_of_the_clock_that_the_engine_was_given():
    times = iter(range(1, 100))
    settings = CoreSettings(frames=4, page_size=PAGE, deny_budget=4, deny_budget_total=4)
    engine = Engine(settings, SimulatedMemory(4, PAGE), [], clock=lambda: float(next(times)))
    engine.submit(events.Attach("app", "first_fit", "fifo", "refuse"))
    first = engine.core.state.now
    engine.submit(events.Tick())
    assert first >= 1.0
    assert engine.core.state.now > first
    assert [at for at, _ in engine.last_events] == [first, engine.core.state.now]
    assert engine.now() == float(next(times)) - 1
