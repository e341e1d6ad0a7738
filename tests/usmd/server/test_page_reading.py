"""Readings for the live page: what they say, how large and how frequent they may be."""

import asyncio
import json

import pytest

from tests.usmd.server.test_engine import PAGE, Bench
from usmd.core import events
from usmd.core.region import EvictionRecord, page_key
from usmd.server import page_reading
from usmd.server.device_queue import DeviceQueue
from usmd.server.page_reading import ANOTHER, CELLS, LEAST_SECONDS, MOST_REASON, NOBODY, REST, PageReading
from usmd.swap.mirror import MirrorStatus


class Setup:
    """Readings of an engine with 4 frames. `now`: the clock of readings; `left`: seconds to the end of a notice."""

    def __init__(self, **more):
        self.bench = Bench(**more)
        self.now, self.draining, self.left = 100.0, False, None
        self.readings = PageReading(
            self.bench.engine, lambda: self.draining, lambda: self.left, clock=lambda: self.now
        )  # fmt: skip

    def attach(self, name):
        """A process, and a region of it."""
        process = self.bench.engine.submit(events.Attach(name, "first_fit", "fifo", "refuse")).process_id
        return process, self.bench.engine.map(events.Map(process, 4 * PAGE, "table")).region_id

    async def read(self):
        self.now += LEAST_SECONDS
        return json.loads(await self.readings.latest())


@pytest.fixture
def run():
    """Run `test(setup)`."""

    def run_with(test, **more):
        async def main():
            setup = Setup(**more)
            await test(setup)
            await setup.bench.engine.close()

        asyncio.run(main())

    return run_with


def test_a_daemon_at_rest_has_free_memory_and_a_process_without_pages(run):
    async def test(setup):
        found = await setup.read()
        assert found["memory"] == {
            "frames": 4, "free": 4, "filling": 0, "evicting": 0, "dirty": 0, "unevictable": 0, "pinned": 0, "held": 0,
            "low": 0, "high": 0,
        }  # fmt: skip
        assert found["map"] == {"states": "....", "used": "0000", "owners": [NOBODY] * 4}
        assert [each["name"] for each in found["processes"]] == ["app"]
        assert (found["page_size"], found["mechanism"], found["regions"]) == (PAGE, "simulated", 1)
        assert (found["evictions"], found["victims"]) == ([], [])
        assert found["others"] == {"count": 0, "resident": 0, "frozen": 0}
        assert [each["name"] for each in found["devices"]] == ["memory0", "memory1"]
        assert found["uptime"] >= 0

    run(test)


def test_pages_faults_and_evictions_are_told_with_their_reasons(run):
    async def test(setup):
        for page in range(6):
            await setup.bench.fault(page)
        found = await setup.read()
        (process,) = found["processes"]
        counted = dict(zip(found["counted"], process["counters"], strict=True))
        assert counted["faults"] == found["counters"][0] == 6
        assert (process["resident"], process["mapped"], process["evict"]) == (4, 8 * PAGE, "fifo")
        assert found["map"]["used"] == "8888"
        assert set(found["map"]["owners"]) == {0}
        assert [(each["page"], each["name"], each["region"], each["policy"]) for each in found["evictions"]] == [
            (1, "app", "", "fifo"),
            (0, "app", "", "fifo"),
        ]
        assert all(each["seconds_ago"] >= 0 and each["reason"] for each in found["evictions"])
        assert found["victims"] == [{"policy": "fifo", "reason": "waiting_fault", "count": 2}]

    run(test, pages=8)


def test_it_says_that_the_daemon_drains_and_when_sessions_end(run):
    async def test(setup):
        assert ((await setup.read())["draining"], (await setup.read())["seconds_left"]) == (False, None)
        setup.draining, setup.left = True, 2.5
        found = await setup.read()
        assert (found["draining"], found["seconds_left"]) == (True, 2.5)

    run(test)


def test_it_says_which_devices_retire_and_which_processes_are_frozen(run, monkeypatch):
    async def test(setup):
        monkeypatch.setattr(page_reading, "PROCESSES", 1)
        core = setup.bench.engine.core
        found = await setup.read()
        assert [each["retiring"] for each in found["devices"]] == [None, None]
        assert [each["frozen"] for each in found["processes"]] == [False]
        core.retirement.of[1] = 40  # as if they were
        core.frozen.update(dict.fromkeys([setup.bench.process, setup.attach("small")[0]]))
        found = await setup.read()
        assert [each["retiring"] for each in found["devices"]] == [None, 40]
        assert [each["frozen"] for each in found["processes"]] == [True]
        assert found["others"] == {"count": 1, "resident": 0, "frozen": 1}
        core.retirement.of.clear()
        core.frozen.clear()

    run(test)


def test_it_says_how_a_mirror_stands(run, monkeypatch):
    async def test(setup):
        assert [each["mirror"] for each in (await setup.read())["devices"]] == [None, None]
        status = MirrorStatus(("redis", "file"), True, 2, 40, 1, 7, 9, "no answer")
        monkeypatch.setattr(DeviceQueue, "mirror", status)  # as if both were
        assert [each["mirror"] for each in (await setup.read())["devices"]] == [{"away": True, "to_repair": 40}] * 2

    run(test)


def test_limits_of_processes_and_users_are_told_and_whose_faults_are_held_back(run):
    async def test(setup):
        engine = setup.bench.engine
        process, _ = setup.attach("small")
        engine.submit(events.SetLimits(process, None, None, 0, 250, events.Quotas(max_regions=3, max_faults=7)))
        engine.submit(events.SetUserLimits(5, max_sessions=3))
        found = await setup.read()
        (row,) = [each for each in found["processes"] if each["name"] == "small"]
        assert row["limits"] == [
            {"name": "regions", "used": 1, "most": 3}, {"name": "faults", "used": 0, "most": 7},
        ]  # fmt: skip
        assert (row["weight"], row["faults_limited"]) == (250, False)
        assert [(each["uid"], each["max_sessions"]) for each in found["users"]] == [(5, 3)]
        engine.core.state.processes[process].missing = 7  # as if so many were waited for
        found = await setup.read()
        assert [each["faults_limited"] for each in found["processes"] if each["name"] == "small"] == [True]
        engine.core.state.processes[process].missing = 0

    run(test)


def test_all_that_ask_within_a_second_get_one_reading(run, monkeypatch):
    made = []
    steps = PageReading.steps

    def counted(self):
        made.append(self)
        return steps(self)

    async def test(setup):
        monkeypatch.setattr(PageReading, "steps", counted)
        first = await asyncio.gather(*(setup.readings.latest() for _ in range(20)))
        assert (len(set(first)), len(made)) == (1, 1)
        setup.now += LEAST_SECONDS / 2
        assert await setup.readings.latest() == first[0]
        setup.now += LEAST_SECONDS / 2
        await asyncio.gather(*(setup.readings.latest() for _ in range(20)))
        assert len(made) == 2

    run(test)


def test_a_reading_that_takes_long_is_followed_by_a_longer_rest(run, monkeypatch):
    class Slow(page_reading.Turns):
        cpu_seconds = 10.0

    async def test(setup):
        monkeypatch.setattr(page_reading, "Turns", Slow)
        first = await setup.readings.latest()
        setup.now += 10 * (1 + REST) - 1
        assert await setup.readings.latest() == first
        setup.now += 1
        assert await setup.readings.latest() != first

    run(test)


def test_a_reading_that_is_given_up_leaves_the_next_viewer_a_new_one(run, monkeypatch):
    class Patient(page_reading.Turns):
        async def step(self):
            await asyncio.sleep(0)

    async def test(setup):
        monkeypatch.setattr(page_reading, "Turns", Patient)
        gone = asyncio.ensure_future(setup.readings.latest())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        assert json.loads(await setup.readings.latest())["memory"]["frames"] == 4

    run(test)


def test_it_is_made_in_steps_of_a_cell_or_a_process(run):
    async def test(setup):
        for number in range(3):
            setup.attach(f"p{number}")
        steps = list(setup.readings.steps())
        assert steps.count(None) >= 4 + 2 * 4
        assert steps[-1] is not None
        assert steps.index(steps[-1]) == len(steps) - 1

    run(test)


def test_its_size_has_a_bound(run, monkeypatch):
    async def test(setup):
        monkeypatch.setattr(page_reading, "PROCESSES", 2)
        monkeypatch.setattr(page_reading, "EVICTIONS", 3)
        state = setup.bench.engine.core.state
        now = setup.bench.engine.now()
        for number in range(5):
            process, region = setup.attach(f"p{number}")
            state.process(process).resident = number  # as if it had pages
            for age in range(4):
                record = EvictionRecord(page_key(region, age), now - 10 * age - number, "lru", "r" * 1000)
                state.process(process).evictions.appendleft(record)
        found = await setup.read()
        assert [each["name"] for each in found["processes"]] == ["p4", "p3"]
        assert found["others"] == {"count": 4, "resident": 3, "frozen": 0}
        assert [(each["name"], each["page"]) for each in found["evictions"]] == [("p0", 0), ("p1", 0), ("p2", 0)]
        assert {len(each["reason"]) for each in found["evictions"]} == {MOST_REASON}
        for process in state.processes.values():
            process.resident = 0

    run(test)


def test_the_map_has_a_bounded_number_of_cells_and_names_owners_by_their_place(run, monkeypatch):
    async def test(setup):
        monkeypatch.setattr(page_reading, "PROCESSES", 1)
        await setup.bench.fault(0)
        process, region = setup.attach("other")
        setup.bench.engine.on_outcomes = lambda _: None
        for page in (0, 1):
            setup.bench.engine.submit(
                events.Faults(process, [events.FaultRequest(page, region, page, 1, False)])
            )  # fmt: skip
        found = (await setup.read())["map"]
        assert len(found["states"]) == len(found["used"]) == len(found["owners"]) == CELLS
        assert sorted(set(found["owners"])) == [ANOTHER, NOBODY, 0]
        assert sorted(found["used"].replace("0", "")) == ["4", "8"]

    run(test, frames=2 * CELLS)


def test_text_of_others_has_no_character_that_controls_how_it_is_shown(run):
    async def test(setup):
        state = setup.bench.engine.core.state
        process = state.process(setup.bench.process)
        key = page_key(setup.bench.region, 0)
        process.evictions.append(EvictionRecord(key, setup.bench.engine.now(), "p", "a\x1b\u202e<b>\ud800"))
        (eviction,) = (await setup.read())["evictions"]
        assert eviction["reason"].startswith("a\\x1b")
        assert eviction["reason"].isprintable()
        assert "<b>" in eviction["reason"]  # the page sets it as text

    run(test)


def test_it_has_neither_addresses_nor_bytes_of_applications(run):
    secret = b"0123456789abcdef"

    async def test(setup):
        setup.bench.store(0, secret)
        await setup.bench.fault(0)
        setup.now += LEAST_SECONDS
        text = (await setup.readings.latest()).decode()
        assert secret.decode() not in text
        address = setup.bench.engine.core.state.regions[setup.bench.region].address
        assert str(address) not in text
        assert "address" not in text

    run(test)


def test_the_limits_of_a_process_are_its_own_and_not_what_its_user_has_granted_it(run):
    async def test(setup):
        submit = setup.bench.engine.submit
        submit(events.SetUserLimits(7, memory_max=64, memory_min=2))
        submit(events.Attach("bounded", "first_fit", "fifo", "refuse", uid=7, memory_max=50, memory_min=1))
        submit(events.Attach("free", "first_fit", "fifo", "refuse", uid=7))
        found = {each["name"]: (each["memory_min"], each["memory_max"]) for each in (await setup.read())["processes"]}
        assert (found["bounded"], found["free"]) == ((1, 50), (0, None))

    run(test)
