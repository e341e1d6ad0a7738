"""The calls about swap devices; what they do is in test_swap_devices.py."""

import asyncio

import pytest

from tests.support.waiting import wait_until_async
from tests.usmd.server.test_engine import PAGE, run
from tests.usmd.server.test_swap_devices import Setup
from usm_wire.pb.usm.v1 import admin_pb2 as pb
from usmd.core import retirement
from usmd.errors import ConfigError, Draining, InvalidArgument, SwapIOError
from usmd.server.admin_messages import AdminMessages
from usmd.server.admin_swap import SwapCalls


class Written(list):
    """The context of a stream."""

    async def write(self, message):
        copy = pb.SwapRetirement()
        copy.CopyFrom(message)
        self.append(copy)


def conversation(folder, talk):
    async def with_calls(bench):
        setup = Setup(bench, folder)
        setup.draining = False
        messages = AdminMessages(bench.engine, None, {})
        await talk(setup, SwapCalls(bench.engine, messages, setup.swap, lambda: setup.draining))

    run(with_calls)


async def listed(calls):
    answer = await calls.ListSwapDevices(pb.ListSwapDevicesRequest(), None)
    return [(each.name, each.state, each.retiring_pages) for each in answer.swap_devices]


def test_a_device_is_added_listed_and_retired_with_its_progress(tmp_path):
    async def talk(setup, calls):
        added = await calls.AddSwapDevice(pb.AddSwapDeviceRequest(device=f"file:more:{4 * PAGE}", name="more"), None)
        assert (added.swap_device.name, added.swap_device.path, added.swap_device.slots) == (
            "more", str(tmp_path / "more"), 4,
        )  # fmt: skip
        setup.bench.hint("SWAP=more")
        await setup.fill()
        context = Written()
        retire = asyncio.ensure_future(calls.RetireSwapDevice(pb.RetireSwapDeviceRequest(device="2"), context))
        await wait_until_async(lambda: context, "it has begun")
        assert (context[0].name, context[0].pages, context[0].end) == ("more", 4, pb.SwapRetirement.END_UNSPECIFIED)
        await retire
        assert context[-1] == pb.SwapRetirement(number=2, name="more", pages=4, end=pb.SwapRetirement.END_CLOSED)
        assert await listed(calls) == [("memory0", "active", 0), ("memory1", "active", 0)]
        await setup.right()

    conversation(tmp_path, talk)


def test_a_cancelled_one_ends_the_stream_too(tmp_path, monkeypatch):
    monkeypatch.setattr(retirement, "MOST_MOVING", 0)

    async def talk(setup, calls):
        await setup.fill()
        context = Written()
        retire = asyncio.ensure_future(calls.RetireSwapDevice(pb.RetireSwapDeviceRequest(device="memory0"), context))
        await wait_until_async(lambda: context, "it has begun")
        assert (await listed(calls))[0] == ("memory0", "retiring", 4)
        answer = await calls.CancelSwapRetirement(pb.CancelSwapRetirementRequest(device="memory0"), None)
        assert answer.swap_device.state == "active"
        await retire
        assert context[-1].end == pb.SwapRetirement.END_CANCELLED
        assert (await listed(calls))[0] == ("memory0", "active", 0)

    conversation(tmp_path, talk)


def test_an_end_without_success_is_an_error_and_what_could_not_be_removed_is_told(tmp_path):
    async def talk(setup, calls):
        retiring = await setup.swap.retire("memory0")
        await retiring.ended

        async def retire(text):
            return retiring

        setup.swap.retire = retire
        for result, end in (("its file stays", pb.SwapRetirement.END_NOT_REMOVED), ("", pb.SwapRetirement.END_CLOSED)):
            retiring.ended = asyncio.get_running_loop().create_future()
            retiring.ended.set_result(result)
            context = Written()
            await calls.RetireSwapDevice(pb.RetireSwapDeviceRequest(device="memory0"), context)
            assert (context[-1].end, context[-1].message) == (end, result)
        retiring.ended = asyncio.get_running_loop().create_future()
        retiring.ended.set_exception(SwapIOError("the disk is gone"))
        with pytest.raises(SwapIOError, match="the disk is gone"):
            await calls.RetireSwapDevice(pb.RetireSwapDeviceRequest(device="memory0"), Written())

    conversation(tmp_path, talk)


@pytest.mark.parametrize(
    ("device", "name", "said"),
    [
        ("disk:1MiB", "", "there is no kind 'disk'"),
        ("memory:much", "", "a memory device is memory:SIZE"),
        ("memory:1MiB", "a\n", "is not allowed; allowed is printable text"),
        ("memory:1MiB", "memory0", "is taken"),
    ],
)
def test_a_device_that_is_none_is_refused(tmp_path, device, name, said):
    async def talk(setup, calls):
        with pytest.raises(ConfigError, match=said):
            await calls.AddSwapDevice(pb.AddSwapDeviceRequest(device=device, name=name), None)

    conversation(tmp_path, talk)


def test_a_daemon_that_drains_takes_no_such_call_and_ends_the_stream(tmp_path):
    async def talk(setup, calls):
        retiring = await setup.swap.retire("memory1")
        await retiring.ended
        retiring.ended = asyncio.get_running_loop().create_future()

        async def retire(text):
            setup.draining = True
            return retiring

        setup.swap.retire = retire
        with pytest.raises(Draining):
            await calls.RetireSwapDevice(pb.RetireSwapDeviceRequest(device="memory1"), Written())
        with pytest.raises(Draining):
            await calls.AddSwapDevice(pb.AddSwapDeviceRequest(device="memory:1MiB"), None)
        with pytest.raises(InvalidArgument, match="not retiring"):
            await calls.CancelSwapRetirement(pb.CancelSwapRetirementRequest(device="memory0"), None)

    conversation(tmp_path, talk)
