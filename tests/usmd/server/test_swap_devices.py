"""Swap devices that come and go in a running engine; the core's part is in tests/usmd/core/test_retirement.py."""

import asyncio
from functools import partial

import pytest

from tests.support.waiting import wait_until_async
from tests.usmd.server.test_engine import PAGE, run
from usmd.core import events, retirement
from usmd.errors import ConfigError, InvalidArgument, LimitExceeded, NotFound, SwapDeviceError, SwapIOError
from usmd.policy_rules import PolicyRule, PolicyRules
from usmd.server.swap_devices import SwapDevices, close_quietly
from usmd.swap.base import MAX_DEVICES
from usmd.swap.file import FileKind
from usmd.swap.memory import MemoryKind, MemorySwapDevice

SMALL = MemoryKind(size=PAGE)


class Setup:
    """The devices of a bench, of which `pages` are in swap, on memory0."""

    def __init__(self, bench, folder):
        self.bench, self.engine = bench, bench.engine
        self.opened = [queue.device for queue in self.engine.queues]
        self.rules = PolicyRules()
        self.notices = []
        specs = [MemoryKind(size=4096 * PAGE)] * 2
        self.swap = SwapDevices(
            self.engine, specs, self.opened, folder, lambda: self.rules, self.notices.append
        )  # fmt: skip

    async def fill(self, pages=4):
        for page in range(pages):
            await self.bench.fault(page)
            assert self.bench.store(page, bytes([65 + page]) * PAGE)
        self.bench.hint("DONTNEED")
        region = self.engine.core.state.regions[self.bench.region]
        await wait_until_async(lambda: region.swapped == pages, "all pages are out")

    async def right(self, pages=4):
        for page in range(pages):
            while (data := self.bench.load(page)) is None:
                await self.bench.fault(page)
            assert data == bytes([65 + page]) * PAGE

    def names(self):
        return [queue.device.name for queue in self.engine.queues]

    def kinds(self):
        return [notice.kind for notice in self.notices]


def conversation(folder, talk, **settings):
    async def with_setup(bench):
        await talk(Setup(bench, folder))

    run(with_setup, **settings)


def test_a_retired_device_is_closed_and_its_pages_are_right(tmp_path):
    async def talk(setup):
        await setup.fill()
        retiring = await setup.swap.retire("memory0")
        assert await setup.swap.retire("0") is retiring
        assert (retiring.pages, retiring.number) == (4, 0)
        assert await retiring.ended == ""
        assert (setup.names(), len(setup.opened)) == (["memory1"], 1)
        assert setup.kinds() == ["swap_device_retiring", "swap_device_retired"]
        await setup.right()
        assert setup.swap.names()[:2] == [None, "memory1"]
        with pytest.raises(NotFound, match=r"no swap device 'memory0'; there are 1 \(memory1\)"):
            await setup.swap.retire("memory0")

    conversation(tmp_path, talk)


def test_a_file_is_added_used_and_removed(tmp_path):
    async def talk(setup):
        (queue,) = await setup.swap.add([FileKind(size=64 * PAGE, path="more", name="disk")])
        assert (queue.device.path, setup.names()) == (str(tmp_path / "more"), ["memory0", "memory1", "disk"])
        assert setup.notices[0].fields["path"] == str(tmp_path / "more")
        setup.bench.hint("SWAP=disk")
        await setup.fill()
        assert queue.pages_written == 4
        retiring = await setup.swap.retire("disk")
        await retiring.ended
        assert not (tmp_path / "more").exists()
        await setup.right()
        (queue,) = await setup.swap.add([SMALL])
        assert (queue.device.number, queue.device.name) == (2, "memory2")

    conversation(tmp_path, talk)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        (MemoryKind(size=PAGE, name="memory1"), ConfigError, "the name 'memory1' is taken"),
        (MemoryKind(size=PAGE, name="4"), ConfigError, "the name '4' is not allowed"),
        (MemoryKind(size=PAGE - 1), ConfigError, "smaller than one page"),
        (FileKind(size=PAGE, path="/no/such/folder/file"), SwapDeviceError, "does not exist"),
    ],
)
def test_what_cannot_be_opened_is_refused_and_nothing_has_changed(tmp_path, spec, error, said):
    async def talk(setup):
        with pytest.raises(error, match=said):
            await setup.swap.add([FileKind(size=PAGE, path="first"), spec])
        assert (setup.names(), list(tmp_path.iterdir()), setup.notices) == (["memory0", "memory1"], [], [])
        (queue,) = await setup.swap.add([SMALL])
        assert queue.device.number == 2

    conversation(tmp_path, talk)


def test_there_are_no_more_than_are_allowed_and_no_file_serves_two(tmp_path):
    async def talk(setup):
        await setup.swap.add([FileKind(size=PAGE, path="first")])
        with pytest.raises(ConfigError, match="first is taken by an earlier device"):
            await setup.swap.add([FileKind(size=PAGE, path="first")])
        with pytest.raises(ConfigError, match=f"at most {MAX_DEVICES} are allowed"):
            await setup.swap.add([SMALL] * (MAX_DEVICES - 2))

    conversation(tmp_path, talk)


def test_a_caller_that_leaves_while_a_device_is_opened_leaves_none_behind(tmp_path):
    async def talk(setup):
        adding = asyncio.ensure_future(setup.swap.add([FileKind(size=PAGE, path="first")]))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        (queue,) = await setup.swap.add([SMALL])
        await wait_until_async(lambda: not setup.swap._tasks, "it is dropped")
        assert (list(tmp_path.iterdir()), setup.names()) == ([], ["memory0", "memory1", queue.device.name])

    conversation(tmp_path, talk)


def test_without_room_nothing_begins_and_pages_in_memory_need_none(tmp_path):
    async def talk(setup):
        await setup.fill()
        await (await setup.swap.retire("memory1")).ended
        setup.engine.core.state.frames.free -= 3  # as if others had them
        with pytest.raises(LimitExceeded, match=r"4 pages .* room for 1 pages .* so 3 pages .* are lacking"):
            await setup.swap.retire("memory0")
        setup.engine.core.state.frames.free += 3
        assert setup.kinds() == ["swap_device_retiring", "swap_device_retired"]
        await setup.right()  # all are in memory too
        assert await setup.swap.in_memory([0]) == 4
        await (await setup.swap.retire("memory0")).ended
        assert setup.names() == []
        await setup.right()

    conversation(tmp_path, talk)


def test_a_cancelled_one_takes_pages_again(tmp_path):
    async def talk(setup):
        with pytest.raises(InvalidArgument, match="is not retiring"):
            setup.swap.cancel("memory0")
        await setup.fill()
        retiring = await setup.swap.retire("memory0")
        queue = setup.swap.cancel("memory0")
        assert (await retiring.ended, queue.device.name) == (None, "memory0")
        assert setup.kinds() == ["swap_device_retiring", "swap_device_stays"]
        again = await setup.swap.retire("memory0")
        assert again is not retiring
        assert await again.ended == ""
        await setup.right()

    conversation(tmp_path, talk)


def test_one_that_is_empty_and_closing_cannot_be_cancelled(tmp_path):
    async def talk(setup):
        retiring = await setup.swap.retire("memory1")
        with pytest.raises(InvalidArgument, match="is empty, and is being closed"):
            setup.swap.cancel("memory1")
        await retiring.ended

    conversation(tmp_path, talk)


def test_one_that_cannot_be_read_stays_with_its_pages_and_says_so(tmp_path, monkeypatch):
    async def talk(setup):
        await setup.fill()
        fetch = MemorySwapDevice._fetch
        broken = lambda device, batch: [SwapIOError("the disk is gone") for _ in batch]  # noqa: E731
        monkeypatch.setattr(MemorySwapDevice, "_fetch", broken)
        monkeypatch.setattr(retirement, "MAX_UNREAD", 1)
        setup.engine.queues[0]._read_again._pauses = ()
        retiring = await setup.swap.retire("memory0")
        tick = partial(setup.engine.complete, events.Tick())
        await wait_until_async(lambda: tick() or retiring.ended.done(), "it has ended")
        monkeypatch.setattr(MemorySwapDevice, "_fetch", fetch)
        with pytest.raises(SwapIOError, match="the disk is gone"):
            await retiring.ended
        assert setup.kinds() == ["swap_device_retiring", "swap_device_stays"]
        assert "keeps the pages that it has" in setup.notices[-1].message
        await setup.right()
        await (await setup.swap.retire("memory0")).ended

    conversation(tmp_path, talk)


def test_a_file_that_cannot_be_removed_is_told(tmp_path, monkeypatch):
    async def talk(setup):
        await setup.swap.add([FileKind(size=PAGE, path="more")])

        def fails(device):
            raise SwapIOError("cannot be removed")

        device = setup.engine.queues[-1].device
        monkeypatch.setattr(type(device), "close", fails)
        retiring = await setup.swap.retire(device.name)
        assert await retiring.ended == "cannot be removed"
        assert setup.notices[-1].message == "swap device file2 is closed, but cannot be removed"
        close_quietly(device)
        monkeypatch.undo()
        close_quietly(device)

    conversation(tmp_path, talk)


@pytest.mark.parametrize("rules", [PolicyRules(swap="memory0"), PolicyRules(rules=(PolicyRule(name="a", swap="0"),))])
def test_one_that_policies_name_is_not_retired(tmp_path, rules):
    async def talk(setup):
        setup.rules = rules
        with pytest.raises(InvalidArgument, match=r"memory0 is what policy\..*swap of the configuration names"):
            await setup.swap.retire("memory0")

    conversation(tmp_path, talk)
