"""uThreads over a real daemon, with simulated and with real memory: bytes, order, errors, deaths."""

import asyncio
import os
import random
import signal

import pytest

import lib_usm
from lib_usm import LocalManager
from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_real_memory
from tests.support.swap_faults import daemon_with_faults
from tests.support.waiting import wait_until_async

PAGE = 4096
MIB = 1 << 20


@pytest.fixture(params=["simulated", "userfaultfd"])
def mechanism(request):
    if request.param == "userfaultfd":
        require_real_memory()
    return request.param


@pytest.fixture
def daemon(tmp_path, mechanism):
    swap = f"file:{tmp_path / 'swap'}:16MiB"
    flags = ("--memory", "256KiB", "--swap", swap, "--alloc", "async_aware")
    with running_daemon(tmp_path, *flags, mechanism=mechanism) as running:
        yield running


@pytest.fixture
def client(daemon):
    with lib_usm.connect(daemon.address, name="uthreads") as connected:
        yield connected


@pytest.fixture
def held(tmp_path, mechanism):
    """A daemon, and its faulty swap device."""
    with daemon_with_faults(tmp_path, "--alloc", "async_aware", mechanism=mechanism) as (running, faults):
        yield running, faults


def stored(region):
    """Store what each page is told apart by; returns the bytes."""
    data = os.urandom(len(region))
    region.write(0, data)
    return data


def evict_all(daemon, client, region):
    """Have the whole region in swap only."""

    def swapped():
        client.usm_hint(region, "DONTNEED")  # again, because pages that came in just now stay for a moment
        (found,) = [each for each in daemon.admin.regions(0) if each.region_id == region.region_id]
        return found.swapped_pages >= region.page_count

    wait_until(swapped, f"{region!r} is in swap")


def run_all(lm, handles):
    lm.run()
    return [handle.result() for handle in handles]


class Model:
    """A region and what its bytes must be. uThreads have a part each, so that nobody's bytes are in doubt."""

    def __init__(self, region, parts, seed):
        self.region = region
        self.bytes = bytearray(len(region))
        self.part = len(region) // parts
        self.seed = seed

    def steps(self, number, count):
        choice = random.Random(self.seed * 1000 + number)
        for _ in range(count):
            length = choice.choice([1, 8, 100, PAGE, 3 * PAGE + 5])
            offset = number * self.part + choice.randrange(self.part - length)
            yield choice.random() < 0.5, offset, length, choice.randbytes(length)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_greenlets_read_what_they_wrote_over_four_times_the_memory(client, asynchronous):
    lm = LocalManager(client, asynchronous=asynchronous)
    model = Model(client.mmap(MIB), parts=16, seed=1)

    def run(number):
        for writes, offset, length, data in model.steps(number, 25):
            if writes:
                model.region[offset : offset + length] = data
                model.bytes[offset : offset + length] = data
            else:
                assert model.region[offset : offset + length] == model.bytes[offset : offset + length]

    run_all(lm, [lm.spawn(run, number) for number in range(16)])
    assert model.region[:] == model.bytes


async def read_and_write(model, number):
    """Steps of one part of a model, by coroutines."""
    for writes, offset, length, data in model.steps(number, 25):
        if writes:
            await model.region.write_async(offset, data)
            model.bytes[offset : offset + length] = data
        else:
            assert await model.region.read_async(offset, length) == model.bytes[offset : offset + length]
    await model.region.ensure_async(number * model.part, PAGE)


def test_coroutines_read_what_they_wrote_over_four_times_the_memory(client):
    lm = LocalManager(client)
    model = Model(client.mmap(MIB), parts=16, seed=2)

    run_all(lm, [lm.spawn_async(read_and_write, model, number) for number in range(16)])
    assert model.region[:] == model.bytes


def test_an_ordinary_asyncio_program_reads_what_it_wrote(client):
    model = Model(client.mmap(MIB), parts=16, seed=3)

    async def main():
        await asyncio.gather(*(read_and_write(model, number) for number in range(16)))

    for _ in range(2):  # each with a loop of its own
        asyncio.run(main())
    assert model.region[:] == model.bytes


def test_more_uthreads_than_frames_all_get_their_pages(client):
    lm = LocalManager(client)
    region = client.mmap(MIB)
    data = stored(region)

    def run(page):
        return region[page * PAGE : (page + 1) * PAGE] == data[page * PAGE : (page + 1) * PAGE]

    assert all(run_all(lm, [lm.spawn(run, page) for page in range(region.page_count)]))


def test_two_kthreads(client):
    lm = LocalManager(client, kthreads=2)
    region = client.mmap(MIB)
    data = stored(region)

    def run(number):
        choice = random.Random(number)
        for _ in range(20):
            offset = choice.randrange(len(data) - 100)
            assert region[offset : offset + 100] == data[offset : offset + 100]

    run_all(lm, [lm.spawn(run, number) for number in range(32)])
    assert lm.stats().batches <= lm.stats().faults + 32 * 20


def test_a_slice_larger_than_memory_in_one_uthread(client):
    lm = LocalManager(client)
    region = client.mmap(3 * MIB // 4)
    data = os.urandom(len(region))

    def run():
        region[:] = data
        return region[:]

    handle = lm.spawn(run)
    assert run_all(lm, [handle]) == [data]


def test_work_goes_on_while_the_device_holds_a_page_back(held):
    daemon, faults = held
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(MIB // 2)
        data = stored(region)
        evict_all(daemon, client, region)
        faults.hold_up("read")
        lm = LocalManager(client)
        log = []

        def read(page):
            found = region[page * PAGE : page * PAGE + 64]
            log.append("read")
            return found

        def compute():
            yields = 0
            while lm.stats().yields < 8:  # the daemon has said USM_YIELD to each, while nothing is read
                yields += 1
                lm.yield_now()
            log.append("computed")
            faults.end()
            return yields

        readers = [lm.spawn(read, page) for page in range(0, 80, 10)]
        computing = lm.spawn(compute)
        lm.run()
        assert log == ["computed"] + ["read"] * 8
        assert computing.result() > 0
        for page, reader in zip(range(0, 80, 10), readers, strict=True):
            assert reader.result() == data[page * PAGE : page * PAGE + 64]
        assert daemon.counters()["yields"] >= 8


def test_a_device_error_reaches_the_uthread_of_its_page_and_no_other(held):
    daemon, faults = held
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(MIB // 2)
        data = stored(region)
        evict_all(daemon, client, region)
        found = daemon.usmctl("explain", str(client.process_id), f"{region.region_id}+{50 * PAGE}")
        faults.fail("read", "EIO", [found["slot"]["slot"]])
        lm = LocalManager(client)

        def read(page):
            return region[page * PAGE : page * PAGE + 64]

        async def read_async(page):
            return await region.read_async(page * PAGE, 64)

        pages = [10, 50, 90]
        handles = [lm.spawn(read, page) for page in pages] + [lm.spawn_async(read_async, page) for page in pages]
        lm.run()
        for page, handle in zip(pages * 2, handles, strict=True):
            if page == 50:
                with pytest.raises(lib_usm.SwapIOError) as raised:
                    handle.result()
                assert raised.value.page == 50
            else:
                assert handle.result() == data[page * PAGE : page * PAGE + 64]
        faults.end()


def test_the_daemons_death_wakes_all_who_wait(tmp_path, mechanism):
    with daemon_with_faults(tmp_path, "--alloc", "async_aware", mechanism=mechanism, exit_code=None) as (
        daemon,
        faults,
    ):
        client = lib_usm.connect(daemon.address)
        region = client.mmap(MIB // 2)
        stored(region)
        evict_all(daemon, client, region)
        faults.hold_up("read")
        lm = LocalManager(client)

        async def read_async(page):
            await region.read_async(page * PAGE, 1)

        handles = [lm.spawn(region.read, page * PAGE, 8) for page in range(0, 60, 2)]
        handles += [lm.spawn_async(read_async, page) for page in range(61, 90, 2)]

        def kill():
            while lm.stats().yields < len(handles):
                lm.yield_now()
            daemon.signal(signal.SIGKILL)

        killer = lm.spawn(kill)
        lm.run()
        killer.result()
        for handle in handles:
            with pytest.raises((lib_usm.ConnectionLost, lib_usm.ClosedError)):
                handle.result()
        client.close()


def test_a_daemon_that_drains_wakes_all_with_the_reason(tmp_path, mechanism):
    with daemon_with_faults(tmp_path, "--alloc", "async_aware", mechanism=mechanism) as (daemon, faults):
        client = lib_usm.connect(daemon.address)
        region = client.mmap(MIB // 2)
        stored(region)
        evict_all(daemon, client, region)
        faults.hold_up("read")
        lm = LocalManager(client)
        handles = [lm.spawn(region.read, page * PAGE, 8) for page in range(0, 60, 2)]

        def drain():
            while lm.stats().yields < len(handles):
                lm.yield_now()
            daemon.signal(signal.SIGTERM)

        lm.spawn(drain)
        lm.run()
        for handle in handles:
            with pytest.raises(lib_usm.Draining):
                handle.result()
        faults.end()
        client.close()


def test_a_region_that_is_closed_wakes_who_waits_for_its_pages(held):
    daemon, faults = held
    with lib_usm.connect(daemon.address) as client:
        region, other = client.mmap(MIB // 4), client.mmap(MIB // 4)
        stored(region)
        data = stored(other)
        evict_all(daemon, client, region)
        evict_all(daemon, client, other)
        faults.hold_up("read")
        lm = LocalManager(client)
        waits = lm.spawn(region.read, 0, PAGE)
        reads = lm.spawn(other.read, 5 * PAGE, 100)

        def close():
            while lm.stats().yields < 2:
                lm.yield_now()
            region.close()
            faults.end()

        lm.spawn(close)
        lm.run()
        with pytest.raises(lib_usm.Unmapped):
            waits.result()
        assert reads.result() == data[5 * PAGE : 5 * PAGE + 100]


def test_asyncio_tasks_are_told_of_errors_and_may_be_cancelled(held):
    daemon, faults = held
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(MIB // 2)
        data = stored(region)
        evict_all(daemon, client, region)
        region.table.clear(1)  # of simulated memory a client is not told what went
        faults.hold_up("read")

        async def main():
            waits = [asyncio.create_task(each) for each in (region.read_async(0, PAGE), region.ensure_async(PAGE, 1))]
            reads = asyncio.create_task(region.read_async(20 * PAGE, 10))
            await wait_until_async(lambda: daemon.counters()["yields"] >= 3, "all faults yield")
            for each in waits:
                each.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await each
            faults.end()
            await region.ensure_async(PAGE, 1)
            assert await reads == data[20 * PAGE : 20 * PAGE + 10]
            client.close()
            with pytest.raises(lib_usm.ClosedError):
                await region.read_async(0, 10)

        asyncio.run(main())


def test_any_number_of_asyncio_programs_after_each_other(client):
    region = client.mmap(MIB)

    async def main():
        await region.write_async(0, b"x")

    for _ in range(70):  # more than a session may have streams
        asyncio.run(main())
    assert region[0] == ord("x")


def test_a_region_of_another_client_waits_as_without_a_local_manager(daemon, client):
    with lib_usm.connect(daemon.address) as other:
        region = other.mmap(MIB // 2)
        data = stored(region)
        lm = LocalManager(client)

        def green():
            region.ensure(0, PAGE)
            return region[:PAGE]

        async def coroutine():
            await region.read_async(0, PAGE)

        reads, refused = lm.spawn(green), lm.spawn_async(coroutine)
        lm.run()
        assert reads.result() == data[:PAGE]
        with pytest.raises(lib_usm.InvalidArgument, match="another client"):
            refused.result()


def test_ensure_with_synchronous_faults_makes_resident(held):
    daemon, _ = held
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(MIB // 2)
        stored(region)
        evict_all(daemon, client, region)
        lm = LocalManager(client, asynchronous=False)

        def green():
            region.ensure(0, PAGE)
            return region.resident(0, PAGE)

        assert run_all(lm, [lm.spawn(green)]) == [True]
