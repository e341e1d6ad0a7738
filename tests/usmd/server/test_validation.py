"""The check of a live daemon: what it finds, and that everything else has its turn meanwhile."""

import asyncio

import pytest

from usmd.core import events
from usmd.core.frames import DIRTY
from usmd.core.hints import parse_hint
from usmd.core.settings import CoreSettings
from usmd.lab.event_records import read_header, read_record
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server import validation
from usmd.server.engine import Engine
from usmd.server.validation import MAX_TOLD, owed, validate
from usmd.swap.memory import MemorySwapDevice

PAGE = 16
FRAMES = 512


def run(conversation):
    async def main():
        settings = CoreSettings(frames=FRAMES, page_size=PAGE, deny_budget=4, deny_budget_total=4)
        device = MemorySwapDevice(number=0, name="memory0", slots=600, page_size=PAGE)
        engine = Engine(settings, SimulatedMemory(FRAMES, PAGE), [device])
        process = engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id
        region = engine.map(events.Map(process, FRAMES * PAGE, "")).region_id
        engine.submit(events.Faults(process, [events.FaultRequest(0, region, 0, FRAMES, True)]))
        await conversation(engine)
        await engine.close()

    asyncio.run(main())


def test_all_holds_and_is_counted():
    async def conversation(engine):
        answer = await validate(engine)
        assert list(answer.violations) == []
        assert (answer.frames, answer.regions, answer.swap_slots, answer.violation_count) == (FRAMES, 1, 600, 0)
        assert answer.seconds >= answer.longest_pause_seconds > 0

    run(conversation)


def test_all_that_does_not_hold_is_counted_and_the_first_is_told():
    async def conversation(engine):
        flags = engine.core.state.frames.flags
        whole = bytes(flags)
        flags[:] = bytes(each & ~DIRTY for each in whole)
        answer = await validate(engine)
        flags[:] = whole
        assert answer.violation_count == FRAMES
        assert len(answer.violations) == MAX_TOLD
        assert answer.violations[0] == "frame 0 is clean with slot -1"

    run(conversation)


def test_the_loop_has_its_turn_after_each_part_and_what_changes_meanwhile_is_no_violation(monkeypatch):
    async def conversation(engine):
        monkeypatch.setattr(validation, "PART_SECONDS", 1e-9)
        checking = asyncio.create_task(validate(engine))
        turns = 0

        def change():
            nonlocal turns
            turns += 1
            process = engine.submit(events.Attach("other", "first_fit", "fifo", "refuse")).process_id
            engine.map(events.Map(process, PAGE, ""))
            engine.submit(events.Detach(process, "over"))
            if not checking.done():
                asyncio.get_running_loop().call_soon(change)

        change()
        await checking
        assert turns > 10
        assert list(checking.result().violations) == []

    run(conversation)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("reads_owed", "the core waits for 0 reads, but 1 are under way"),
        ("writes_owed", "the core waits for 0 writes, but 1 are under way"),
    ],
)
def test_work_that_nobody_waits_for_is_found(name, says):
    async def conversation(engine):
        setattr(engine.queues[0], name, 1)
        assert owed(engine) == [says]
        assert list((await validate(engine)).violations) == [says]

    run(conversation)


def test_a_completion_that_never_comes_is_found():
    async def conversation(engine):
        (region,) = engine.core.state.regions.values()
        engine.memory.store([0], region.first_key, 0, memoryview(b"x" * PAGE))
        forgotten = engine.queues[0]
        write, forgotten.write = forgotten.write, lambda pages: kept.extend(pages)
        kept = []
        hint = parse_hint("DONTNEED")
        engine.submit(events.SetHint(region.process.process_id, region.region_id, 0, PAGE, hint))
        assert owed(engine) == ["the core waits for 1 writes, but 0 are under way"]
        write(kept)
        assert owed(engine) == []

    run(conversation)


def test_events_that_wait_their_turn_are_on_their_way():
    async def conversation(engine):
        engine._events.append(events.Protected(1, [1, 2], [None, None]))
        engine._events.append(events.SwapInDone([1], [None]))
        engine._events.append(events.SwapOutDone([1, 2, 3], [None] * 3))
        assert owed(engine) == [
            "the core waits for 0 reads, but 1 are under way",
            "the core waits for 0 writes, but 3 are under way",
            "the core waits for 0 evictions to be protected, but 2 are under way",
        ]
        engine._events.clear()

    run(conversation)


def test_where_something_does_not_hold_the_last_events_are_written_and_the_log_names_the_file(tmp_path, logged):
    async def conversation(engine):
        await validate(engine, tmp_path)
        assert list(tmp_path.iterdir()) == []
        engine.queues[0].reads_owed = 1
        await validate(engine, tmp_path)

    run(conversation)
    (written,) = tmp_path.iterdir()
    (told,) = [line for line in logged if line["event"] == "check_failed"]
    assert (told["last_events"], told["violations"]) == (str(written), 1)
    assert told["first"] == "the core waits for 0 reads, but 1 are under way"
    header, *records = written.read_bytes().splitlines(keepends=True)
    assert [type(read_record(line).event) for line in records] == [events.Attach, events.Map, events.Faults]
    assert read_header(header).complete


def test_last_events_that_cannot_be_written_are_told_and_the_check_is_answered(tmp_path, logged):
    async def conversation(engine):
        engine.queues[0].reads_owed = 1
        assert (await validate(engine, tmp_path / "none")).violation_count == 1

    run(conversation)
    (told,) = [line for line in logged if line["event"] == "check_failed"]
    assert told["last_events"].startswith("not written: ")
