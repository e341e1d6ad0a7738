"""What cannot be performed reaches the core: nothing waits for good, and nobody else notices."""

import asyncio

import pytest

from tests.usmd.server.test_engine import PAGE, Recorder, run
from usmd.core import commands, events
from usmd.core.validate import violations
from usmd.errors import NotFound, SwapIOError


class Failing(Recorder):
    """Real memory as the core sees it, of which the method named `fails` raises."""

    fails = ""

    def _perhaps(self, name):
        if name == self.fails:
            raise OSError(12, "Cannot allocate memory")

    def zero(self, frames, pages):
        self._perhaps("zero")
        super().zero(frames, pages)

    def release(self, pages):
        self._perhaps("release")
        super().release(pages)

    def wake(self, pages):
        self._perhaps("wake")
        return super().wake(pages)

    def protect(self, frames, pages):
        self._perhaps("protect")
        return super().protect(frames, pages)

    def drop_regions(self, region_ids, *, ended):
        self._perhaps("drop_regions")
        super().drop_regions(region_ids, ended=ended)


def neighbour(bench):
    """Another process, with a page that holds bytes."""
    process = bench.engine.submit(events.Attach("other", "first_fit", "fifo", "refuse")).process_id
    region = bench.engine.map(events.Map(process, PAGE, "")).region_id
    bench.engine.submit(events.PageFaults(process, [events.PageFault(region, 0, True, False)]))
    return process


def test_a_command_without_a_completion_ends_the_session_it_was_for_and_no_other(logged):
    async def conversation(bench):
        other = neighbour(bench)
        bench.engine.memory.fails = "zero"
        bench.touch(0)
        assert [(each.process_id, each.killed) for each in bench.ended] == [(bench.process, True)]
        assert bench.ended[0].reason == "usmd cannot perform ZeroFill: OSError"
        assert list(bench.engine.core.state.processes) == [other]
        assert violations(bench.engine.core) == []
        bench.engine.memory.fails = ""

    run(conversation, memory=Failing)
    assert [line["command"] for line in logged if line["event"] == "command_failed"] == ["ZeroFill"]


@pytest.mark.parametrize("fails", ["wake", "release"])
def test_so_do_wakes_and_releases(fails):
    async def conversation(bench):
        bench.touch(0)
        bench.store(0, b"x" * PAGE)
        bench.engine.memory.fails = fails
        if fails == "wake":
            bench.touch(0)
        else:
            bench.hint("DONTNEED")
            while not bench.ended:
                await asyncio.wait(bench.engine.queues[0]._running())
        assert [each.process_id for each in bench.ended] == [bench.process]
        assert violations(bench.engine.core) == []

    run(conversation, memory=Failing)


def test_a_page_that_cannot_be_protected_stays_and_goes_later(logged):
    async def conversation(bench):
        bench.touch(0)
        bench.store(0, b"x" * PAGE)
        bench.engine.memory.fails = "protect"
        bench.hint("DONTNEED")
        assert bench.load(0) == b"x" * PAGE
        assert violations(bench.engine.core) == []
        bench.engine.memory.fails = ""
        bench.hint("DONTNEED")
        await asyncio.wait_for(bench.engine.memory.released.wait(), 60)
        assert bench.ended == []

    run(conversation, memory=Failing)
    assert {line["command"] for line in logged if line["event"] == "command_failed"} == {"Protect"}


@pytest.mark.parametrize("operation", ["read", "write"])
def test_a_queue_that_cannot_even_begin_has_failed(operation, monkeypatch, logged):
    async def conversation(bench):
        def refuse(pages):
            raise RuntimeError("can't start new thread")

        await bench.fault(0)
        bench.store(0, b"x" * PAGE)
        if operation == "write":
            bench.engine.queues[0].write = refuse
            bench.hint("DONTNEED")
            assert bench.load(0) == b"x" * PAGE
        else:
            bench.hint("DONTNEED")
            await asyncio.wait_for(bench.engine.memory.released.wait(), 60)
            bench.engine.queues[0].read = refuse
            outcome = await bench.fault(0)
            assert isinstance(outcome.error, SwapIOError)
        assert violations(bench.engine.core) == []

    run(conversation, memory=Failing)
    told = [line["command"] for line in logged if line["event"] == "command_failed"]
    assert told == ["ReadSlots" if operation == "read" else "WriteSlots"]


def test_bytes_that_cannot_be_moved_are_the_callers_error_and_every_command_is_performed():
    async def conversation(bench):
        await bench.fault(0)
        told = []
        bench.engine.performers[commands.Notice] = told.append
        bench.engine.core.state.notice("swap_error", 0, "as well")
        with pytest.raises(MemoryError):
            bench.engine.access(events.Access(bench.process, bench.region, 0, 1, False), _no_memory)
        assert [each.message for each in told] == ["as well"]

    run(conversation)


def _no_memory(frames):
    raise MemoryError


def test_an_event_that_is_refused_in_the_middle_of_anothers_request_is_not_its_error(logged):
    async def conversation(bench):
        bench.engine.on_notice = lambda notice: bench.engine.submit(events.Detach(99, "gone already"))
        process = bench.engine.submit(events.Attach("other", "first_fit", "fifo", "refuse")).process_id
        assert process in bench.engine.core.state.processes
        bench.engine.on_notice = bench.notices.append

    run(conversation)
    refused = [line for line in logged if line["event"] == "event_refused"]
    assert [(line["kind"], line["error"].split(";")[0]) for line in refused] == [("Detach", "no process 99")]


def test_completions_raise_nothing_and_defects_are_logged(logged):
    async def conversation(bench):
        bench.engine.complete(events.Unmap(bench.process, 99))
        bench.engine.complete(events.SwapInDone([0], [None]))  # which nobody asked for
        with pytest.raises(NotFound):
            bench.engine.submit(events.Unmap(bench.process, 99))

    run(conversation)
    assert [line["event"] for line in logged] == ["event_refused", "defect"]


def test_a_listener_that_raises_loses_no_command(logged):
    class Deaf:
        def touched(self, touches, now):
            raise ValueError("not listening")

        def changed(self, change, now):
            raise ValueError("not listening")

        def ended(self, reason):
            raise ValueError("not listening")

    async def conversation(bench):
        process = bench.engine.core.state.processes[bench.process]
        with bench.engine.taps.listening(process, Deaf()):
            assert isinstance(await bench.fault(0), commands.Allocated)
            bench.store(0, b"x")
            bench.engine.submit(events.Detach(bench.process, "over"))
        assert [each.process_id for each in bench.ended] == [bench.process]

    run(conversation)
    assert {line["event"] for line in logged} == {"defect", "command_failed"}


def test_a_region_whose_memory_cannot_be_dropped_is_gone_all_the_same():
    async def conversation(bench):
        bench.engine.memory.fails = "drop_regions"
        bench.engine.submit(events.Unmap(bench.process, bench.region))
        assert bench.engine.core.state.regions == {}
        assert bench.ended == []

    run(conversation, memory=Failing)
