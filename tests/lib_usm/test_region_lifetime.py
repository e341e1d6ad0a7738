"""How long regions live: dropped ones, `with` blocks, closing while they are read; on real memory and on simulated."""

import asyncio
import gc
import os
import sys
import threading
import warnings
import weakref

import grpc
import numpy as np
import pytest

import lib_usm
from tests.support.daemon import running_daemon, wait_equal
from tests.support.real_memory import require_real_memory

PAGE = 4096
FRAMES = 64
LENGTH = 8 * PAGE


def serve(folder, mechanism):
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:256KiB")
    return running_daemon(folder, *flags, mechanism=mechanism)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    require_real_memory()
    with serve(tmp_path_factory.mktemp("real"), "userfaultfd") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("simulated"), "simulated") as daemon:
        yield daemon


@pytest.fixture(params=["real", "simulated"])
def daemon(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def client(daemon):
    with lib_usm.connect(daemon.address, name="tests") as client:
        yield client
    wait_equal(lambda: daemon.admin.status().processes, 0, "the test's session is over")


@pytest.fixture
def real_client(real):
    with lib_usm.connect(real.address, name="tests") as client:
        yield client
    wait_equal(lambda: real.admin.status().processes, 0, "the test's session is over")


@pytest.fixture
def often():
    """Has threads switch as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def regions(daemon):
    return [region.name for region in daemon.admin.regions(0)]


def gone(daemon, left=()):
    wait_equal(lambda: regions(daemon), list(left), "the daemon has these regions and no others")


# Dropped


def test_a_region_that_nothing_refers_to_is_given_back_without_a_call(client, daemon):
    kept, dropped = client.mmap(LENGTH, name="kept"), client.mmap(LENGTH, name="dropped")
    dropped[:5] = b"hello"
    assert regions(daemon) == ["kept", "dropped"]
    del dropped
    gone(daemon, ["kept"])
    kept[0] = 1


def test_a_region_in_a_circle_of_references_goes_with_it(client, daemon):
    region = client.mmap(LENGTH)
    region.self = region
    del region
    gc.collect()
    gone(daemon)


def test_regions_dropped_one_after_the_other_take_no_more_than_one(client, daemon):
    # Memory and swap hold 128 pages together.
    for round_number in range(12):
        region = client.mmap(FRAMES * PAGE)
        region[:] = bytes([round_number]) * len(region)
        assert region[-1] == round_number
        assert len(regions(daemon)) == 1
        del region
    gone(daemon)


def test_an_array_keeps_a_dropped_region_and_the_last_one_gives_it_back(real_client, real):
    region = real_client.mmap(LENGTH, name="array")
    array = region.ndarray(np.uint8)
    view = memoryview(array)[PAGE:]
    del region
    array[PAGE] = 7
    del array
    assert view[0] == 7
    assert regions(real) == ["array"]
    del view
    gone(real)


def test_finalizers_that_run_in_the_middle_of_anything_give_back(client, daemon):
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            region = client.mmap(PAGE)
            region.self = region
            region[0] = 1
    finally:
        gc.set_threshold(*threshold)
    del region
    gc.collect()
    gone(daemon)


def test_many_threads_may_drop_regions(client, daemon, in_thread):
    def work():
        for _ in range(20):
            region = client.mmap(PAGE)
            region[0] = 1

    for each in [in_thread(work) for _ in range(4)]:
        each.result(60)
    gone(daemon)


def test_a_client_that_is_dropped_ends_its_session_and_leaves_no_descriptor(daemon):
    def use():
        client = lib_usm.connect(daemon.address)
        region = client.mmap(LENGTH)
        region[0] = 1
        found = weakref.ref(client), client._memory and client._memory.userfaultfd
        del client, region
        gc.collect()
        return found

    with pytest.warns(ResourceWarning, match=r"^<Client \d+ of unix:.*> was not closed"):
        client, descriptor = use()
    assert client() is None
    wait_equal(lambda: daemon.admin.status().processes, 0, "its session is over")
    if descriptor is not None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_an_array_keeps_its_client_too(real):
    kept = [lib_usm.connect(real.address).mmap(LENGTH).ndarray(np.uint8)]
    gc.collect()
    kept[0][0] = 1
    assert real.admin.status().processes == 1
    with pytest.warns(ResourceWarning, match=r"was not closed"):
        kept.clear()
    wait_equal(lambda: real.admin.status().processes, 0, "its session is over")


# Blocks


def test_a_block_that_leaves_an_array_is_left_and_the_region_goes_with_the_array(real_client, real):
    with real_client.mmap(LENGTH, name="block") as region:
        array = region.ndarray(np.uint8)
        array[3] = 3
    assert region.closed
    assert repr(region).endswith("closed>")
    uses = (region.ensure, region.evict, region.resident, lambda: region.buffer, lambda: region[0])
    for use in uses:
        with pytest.raises(lib_usm.ClosedError):
            use()
    array[PAGE:] = 9
    assert (array[3], array[-1]) == (3, 9)
    region.close()
    assert regions(real) == ["block"]
    del array
    gone(real)


def test_a_block_without_arrays_gives_its_region_back_at_its_end(client, daemon):
    with client.mmap(LENGTH) as region:
        region[0] = 1
    assert regions(daemon) == []


def fails(region, error):
    """Leaves a block with an array, by an error."""
    with region:
        array = region.ndarray(np.uint8)
        array[0] = 1
        raise error


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_passes_a_block_as_it_is(real_client, real, error):
    with pytest.raises(type(error)) as caught:
        fails(real_client.mmap(LENGTH), error)
    assert caught.value is error
    assert caught.value.__context__ is None
    error.__traceback__ = None
    del caught
    gone(real)


def leave_block(client, error=None):
    with client.mmap(LENGTH):
        if error is not None:
            raise error


def test_what_goes_wrong_at_a_blocks_end_hides_no_exception_and_is_raised_without_one(make_daemon, wire):
    daemon = make_daemon()
    daemon.refusals["UnmapRegion"] = wire.rich_status(grpc.StatusCode.INTERNAL, "INTERNAL", "it is broken")
    with lib_usm.connect(daemon.address) as client:
        with pytest.raises(ZeroDivisionError) as caught:
            leave_block(client, ZeroDivisionError())
        assert caught.value.__context__ is None
        with pytest.raises(lib_usm.InternalError, match="it is broken"):
            leave_block(client)
    assert len(daemon.requests("UnmapRegion")) == 2


def test_a_clients_block_hides_no_exception_by_its_warning(real):
    kept = []

    def leave():
        with lib_usm.connect(real.address) as client:
            kept.append(client.mmap(LENGTH).buffer)
            raise ZeroDivisionError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError):
            leave()


# Closing


def test_a_refused_close_disturbs_no_reader(real_client, often, in_thread):
    region = real_client.mmap(LENGTH)
    region.ensure()
    array = region.ndarray(np.uint8)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            assert region[0:10] == bytes(10)
            assert region.resident(0, 1)

    readers = [in_thread(read) for _ in range(3)]
    try:
        for _ in range(300):
            with pytest.raises(lib_usm.InUse):
                region.close()
            assert not region.closed
    finally:
        stop.set()
    for reader in readers:
        reader.result(90)
    del array
    region.close()


def reads_until_refused(region, begun):
    """Reads a region until it cannot; returns what ended that."""
    while True:
        try:
            assert region.read(5, 3 * PAGE) == bytes(3 * PAGE)
            region.write(0, b"\0" * PAGE)
        except lib_usm.UsmError as error:
            return error
        begun.set()


@pytest.mark.parametrize("what", ["region", "client"])
def test_threads_that_read_when_it_is_closed_get_closed_error(daemon, often, in_thread, what):
    for _ in range(5):
        client = lib_usm.connect(daemon.address)
        region = client.mmap(LENGTH)
        begun = [threading.Event() for _ in range(3)]
        readers = [in_thread(reads_until_refused, region, each) for each in begun]
        assert all(each.wait(90) for each in begun), [reader.result() for reader in readers if reader.done()]
        (region if what == "region" else client).close()
        assert {type(reader.result(90)) for reader in readers} == {lib_usm.ClosedError}
        if what == "region":
            assert regions(daemon) == []
        client.close()


@pytest.mark.parametrize("what", ["region", "client"])
def test_tasks_that_read_when_it_is_closed_get_closed_error(daemon, what):
    async def read(region, begun):
        while True:
            await region.read_async(5, 3 * PAGE)
            await region.write_async(0, b"\0" * PAGE)
            region.evict()
            begun.set()  # each round has awaited, so that the others have had their turns

    async def run():
        with lib_usm.connect(daemon.address) as client:
            region = client.mmap(LENGTH)
            begun = [asyncio.Event() for _ in range(3)]
            readers = [asyncio.create_task(read(region, each)) for each in begun]
            await asyncio.gather(*(each.wait() for each in begun))
            await asyncio.to_thread((region if what == "region" else client).close)
            return await asyncio.gather(*readers, return_exceptions=True)

    for _ in range(3):
        assert {type(error) for error in asyncio.run(run())} == {lib_usm.ClosedError}


def test_of_threads_that_close_a_region_all_are_done_and_it_is_given_back_once(client, daemon, often, in_thread):
    for _ in range(20):
        region = client.mmap(LENGTH)
        begin = threading.Barrier(4)

        def close(region=region, begin=begin):
            begin.wait(90)
            region.close()

        closes = [in_thread(close) for _ in range(4)]
        for each in closes:
            each.result(90)
        assert region.closed
    gone(daemon)


@pytest.mark.parametrize("use", [lambda region: region.hint("PRIORITY=LOW"), lambda region: region.pin(0, PAGE)])
def test_a_call_that_comes_to_the_daemon_after_the_region_was_closed_says_so(client, monkeypatch, use):
    region = client.mmap(LENGTH)
    call = client.channel.call

    def late(*arguments):
        monkeypatch.undo()
        region.close()
        return call(*arguments)

    monkeypatch.setattr(client.channel, "call", late)
    with pytest.raises(lib_usm.ClosedError, match=f"^region {region.region_id} was closed"):
        use(region)
