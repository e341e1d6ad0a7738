"""Calls of a region that wait and those that are awaited, in plain code, asyncio and both kinds of uThreads."""

import asyncio
import inspect
import os

import numpy as np
import pytest

import lib_usm
from tests.support.arguments import BUFFERS, NOT_BUFFERS, UNREADABLE
from tests.support.real_and_simulated import (
    BUDGET,
    LENGTH,
    PAGE,
    PAGES,
    are_pinned,
    client,
    daemon,
    evict,
    real,
    real_client,
    region,
    simulated,
)

__all__ = ["client", "daemon", "real", "real_client", "region", "simulated"]


# The same by calls that wait and by calls that are awaited

WRITES = [
    *((0, data, True) for data in BUFFERS),
    *((0, data, False) for data in (*NOT_BUFFERS, *UNREADABLE, bytes(LENGTH + 1))),
    *((offset, b"abc", True) for offset in (0, LENGTH - 3, np.uint8(255), np.uint64(4095), True)),
    *((offset, b"abc", False) for offset in (-1, -LENGTH, LENGTH - 2, LENGTH, np.int8(-128), np.uint64(2**63), 1.0)),
    *((offset, b"abc", False) for offset in ("0", None, [0], np.float64(1))),
    *((LENGTH, b"", True), (LENGTH + 1, b"", False), (0, b"x" * LENGTH, True)),
]


def test_all_forms_of_a_write_take_and_refuse_the_same(client):
    """Each in plain code, in asyncio and in a LocalManager: the same bytes afterwards, or the same error and none."""
    region = client.mmap(LENGTH)
    before = os.urandom(LENGTH)
    lm = lib_usm.LocalManager(client)

    async def awaited(offset, data):
        await region.write_async(offset, data)

    def in_uthread(offset, data):
        handle = lm.spawn_async(awaited, offset, data)
        lm.run()
        handle.result()

    def in_greenlet(offset, data):
        handle = lm.spawn(region.write, offset, data)
        lm.run()
        handle.result()

    with asyncio.Runner() as runner:
        for offset, data, taken in WRITES:
            found = []
            for form in (region.write, lambda *given: runner.run(awaited(*given)), in_uthread, in_greenlet):
                region[:] = before
                error = None
                try:
                    form(offset, data)
                except lib_usm.InvalidArgument as refused:
                    error = (type(refused), str(refused))
                found.append((error, region[:]))
            assert found == found[:1] * 4, (offset, data)
            stored = bytearray(before)
            if taken:
                copy = data.tobytes() if hasattr(data, "tobytes") else bytes(data)
                stored[int(offset) : int(offset) + len(copy)] = copy
            assert (found[0][0] is None, found[0][1]) == (taken, stored), (offset, data)


# Coroutines


def from_everywhere(client, function):
    """What `function` returns in plain code, in a coroutine of asyncio, and in both kinds of uThread."""

    async def coroutine():
        return function()

    lm = lib_usm.LocalManager(client)
    handles = [lm.spawn(function), lm.spawn_async(coroutine)]
    lm.run()
    return [function(), asyncio.run(coroutine()), *(each.result() for each in handles)]


def test_ensure_is_done_when_it_returns_whatever_calls_it(region, real_client, real):
    region[:] = b"e" * LENGTH

    def ensure():
        evict(real, region, PAGES)
        assert not region.resident(0, PAGE)
        return region.ensure(0, PAGE), region.resident(0, PAGE)

    assert from_everywhere(real_client, ensure) == [(None, True)] * 4


def in_both(client, function):
    """Run a coroutine function in asyncio, and in a LocalManager."""
    asyncio.run(function())
    lm = lib_usm.LocalManager(client)
    handle = lm.spawn_async(function)
    lm.run()
    handle.result()


def test_what_is_awaited_is_a_coroutine_whether_pages_are_there_or_not(client, daemon):
    region = client.mmap(LENGTH)
    region[:] = b"a" * LENGTH
    made_outside = region.ensure_async(5 * PAGE, 1)

    async def main():
        for _ in range(2):  # absent, then there
            for each in (
                region.ensure_async(0, 2 * PAGE),
                region.read_async(0, 9),
                region.write_async(0, b"a"),
                region.ensure_async(LENGTH),
            ):
                assert inspect.iscoroutine(each)
                assert await each in (None, b"a" * 9)
            assert region.resident(0, 2 * PAGE)

    evict(daemon, region, PAGES)
    in_both(client, main)
    asyncio.run(made_outside)
    assert region.resident(5 * PAGE, 1)


def test_a_pin_is_awaited_and_released_in_coroutines(client, daemon):
    region = client.mmap(2 * BUDGET * PAGE)

    async def main():
        async with region.pin_async(0, 2 * PAGE) as pin:
            assert (pin.page_count, region.resident(0, 2 * PAGE)) == (2, True)
        assert pin.released
        kept = await region.pin_async(0, PAGE)
        async with region.pin(PAGE, PAGE):
            kept.release()
        with pytest.raises(lib_usm.LimitExceeded):
            await region.pin_async()

    in_both(client, main)
    are_pinned(daemon, 0)


def test_leaving_an_asynchronous_block_closes_a_client(daemon):
    async def main():
        async with lib_usm.connect(daemon.address) as client:
            client.mmap(5)[0] = 1
        assert client.closed

    asyncio.run(main())


def test_a_pin_without_a_block_stays_until_it_is_released(client, daemon):
    region = client.mmap(LENGTH)
    pin = region.pin(0, 2 * PAGE)
    are_pinned(daemon, 2)
    with pin:
        are_pinned(daemon, 2)
    are_pinned(daemon, 0)
    pin.release()
    with pytest.raises(lib_usm.ClosedError, match="has ended"), pin:
        pytest.fail("pinned")
    region.pin()  # and this one until the region's end
    are_pinned(daemon, PAGES)
    region.close()
    are_pinned(daemon, 0)
