"""Regions as memory, on a daemon with real memory; and what of that also works on one that simulates it."""

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import lib_usm
from lib_usm.mapping import Mapping
from tests.support.arguments import BUFFERS, NOT_BUFFERS, UNREADABLE
from tests.support.daemon import environment, running_daemon, wait_equal, wait_until
from tests.support.real_memory import require_real_memory
from usm_wire.userfaultfd import open_userfaultfd

PAGE = 4096
FRAMES = 64
PAGES = 8
LENGTH = PAGES * PAGE - 96
BUDGET = 16
"""Frames that may be pinned."""
ROOT = Path(__file__).parents[2]
CONFIG = '[memory]\ndeny_budget = "25%"\n'


def serve(folder, mechanism):
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:1MiB")
    return running_daemon(folder, *flags, config=CONFIG, mechanism=mechanism)


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
    """Each of both; each test leaves it empty."""
    daemon = request.getfixturevalue(request.param)
    yield daemon
    left_empty(daemon)


def left_empty(daemon):
    def left():
        status = daemon.admin.status()
        return status.processes, status.frames - status.free_frames, status.pinned_frames + status.held_frames

    wait_equal(left, (0, 0, 0), "nothing is left of the test's sessions")


@pytest.fixture
def client(daemon):
    with lib_usm.connect(daemon.address, name="tests") as client:
        yield client


@pytest.fixture
def real_client(real):
    with lib_usm.connect(real.address, name="tests") as client:
        assert client.why_no_buffer == ""
        yield client
    left_empty(real)


@pytest.fixture
def region(real_client):
    """All of it is there already, so that no test waits for a page in the middle of something else."""
    region = real_client.mmap(LENGTH, name="memory")
    region.ensure()
    return region


def run_python(code, daemon, *arguments):
    """Run `code` in a Python of its own; returns the completed process."""
    command = [sys.executable, "-W", "always", "-c", textwrap.dedent(code), daemon.address, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env=environment()
    )  # fmt: skip


def in_swap(daemon):
    return sum(each.swapped_pages for each in daemon.admin.regions(0))


def evict(daemon, region, pages, offset=0):
    """Evict whole pages. It is asked again and again, for pages that were used a moment ago are kept."""

    def gone():
        region.evict(offset, min(pages * PAGE, len(region) - offset))
        return in_swap(daemon) >= pages

    wait_until(gone, f"{pages} pages are in swap")


def mappings():
    """How many memfds of regions this process has mapped."""
    return Path("/proc/self/maps").read_text().count("/memfd:usmd")


# Buffer


def test_the_buffer_is_the_bytes_of_the_region(region):
    buffer = region.buffer
    assert (len(buffer), buffer.readonly, buffer.format, buffer.contiguous) == (LENGTH, False, "B", True)
    buffer[:5] = b"hello"
    assert region[:5] == b"hello"
    region[PAGE : PAGE + 3] = b"abc"
    region.write(PAGE + 3, b"def")
    assert buffer[PAGE : PAGE + 6] == b"abcdef"
    buffer[-1] = 255
    assert region[LENGTH - 1] == 255
    with pytest.raises(IndexError):
        buffer[LENGTH]


def test_what_was_never_touched_is_zero_and_stays_what_it_is_written_to(real_client):
    region = real_client.mmap(LENGTH)
    assert bytes(region.buffer) == bytes(LENGTH)
    region.buffer[3 * PAGE] = 3
    assert region.read(3 * PAGE - 1, 3) == b"\0\3\0"


def test_a_buffer_that_its_user_releases_is_the_users_alone(region):
    with region.buffer as view:
        view[0] = 1
    assert region[0] == 1
    assert region.buffer[0] == 1
    assert region.read(0, 1) == b"\1"


def test_a_buffer_in_use_keeps_the_region_open_and_usable(region):
    buffer = region.buffer
    part = buffer[10:20]
    for _ in range(2):
        with pytest.raises(lib_usm.InUse, match=r"memory.*arrays or memoryviews in use"):
            region.close()
    assert not region.closed
    buffer[10] = 7
    assert (part[0], region[10]) == (7, 7)
    part.release()
    with pytest.raises(lib_usm.InUse):
        region.close()
    buffer.release()
    region.close()
    assert region.closed
    with pytest.raises(lib_usm.ClosedError):
        region.buffer  # noqa: B018 - the access is what is refused


def test_data_larger_than_memory_comes_back_as_it_was_written(real_client, real):
    region = real_client.mmap(3 * FRAMES * PAGE)
    array = region.ndarray(np.uint64)
    array[:] = np.arange(len(array), dtype=np.uint64)
    assert in_swap(real) > 0
    assert not region.resident()
    assert np.array_equal(array, np.arange(len(array), dtype=np.uint64))
    del array


# Arrays


@pytest.mark.parametrize(
    ("dtype", "shape", "offset", "expected"),
    [
        (np.uint8, None, 0, (LENGTH,)),
        (np.float64, None, 0, (LENGTH // 8,)),
        (np.float64, None, PAGE + 4, ((LENGTH - PAGE - 4) // 8,)),
        ("<i4", 10, 0, (10,)),
        ("<i4", (), 8, ()),
        ("<i4", (3, 5), 8, (3, 5)),
        ("<i4", [2, 0], LENGTH, (2, 0)),
        (np.dtype([("a", "u1"), ("b", "<f4")]), (7,), 1, (7,)),
        (np.complex128, (LENGTH // 16,), 0, (LENGTH // 16,)),
        (np.uint8, None, LENGTH, (0,)),
        (np.uint8, np.int64(5), 0, (5,)),
        (np.uint8, (np.int64(5), np.uint8(2)), 0, (5, 2)),
        (np.uint8, np.array([2, 3]), np.int8(5), (2, 3)),
        (np.uint8, -1, 0, (LENGTH,)),
        ("<u4", (-1, 10), 0, (LENGTH // 40, 10)),
        ("<u4", (3, np.int8(-1)), LENGTH - 50, (3, 4)),
        ("u1", (5, -1), LENGTH, (5, 0)),
    ],
    ids=str,
)
def test_an_array_has_its_type_and_its_shape_at_its_offset(region, dtype, shape, offset, expected):
    array = region.ndarray(dtype, shape, offset)
    assert (array.dtype, array.shape, array.flags.writeable) == (np.dtype(dtype), expected, True)
    if array.size:
        array.reshape(-1)[:] = np.ones(1, np.uint8).astype(dtype)
        end = int(offset) + array.nbytes
        assert region[offset:end] == array.tobytes()
        assert region[end:] == bytes(LENGTH - end)


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"),
    [
        (np.uint8, LENGTH + 1, 0),
        (np.uint8, LENGTH, 1),
        (np.uint8, None, LENGTH + 1),
        (np.uint8, None, -1),
        (np.uint8, 1, -1),
        (np.uint64, LENGTH, 0),
        (np.uint8, (LENGTH, 2), 0),
        (np.uint8, (1 << 40, 1 << 40), 0),
        (np.uint8, -1, LENGTH + 1),
        (np.uint8, 0, 1 << 70),
    ],
    ids=str,
)
def test_an_array_that_would_not_lie_in_the_region_is_refused(region, dtype, shape, offset):
    with pytest.raises(lib_usm.OutOfRange, match=f"{LENGTH} bytes"):
        region.ndarray(dtype, shape, offset)
    region.close()  # nothing is left of what was refused


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.uint8, -2, "at least 0"),
        (np.uint8, (-1, -1), "one -1"),
        (np.uint8, (0, -1), "another length is 0"),
        (np.uint8, (1,) * 65, "cannot be made"),
        (np.uint8, 1.5, "integer"),
        (np.uint8, (1, 2.0), "integer"),
        (np.uint8, "12", "integer"),
        (object, None, "Python objects"),
        ("S0", None, "no bytes"),
        ("nonsense", None, "is not a type"),
    ],
    ids=str,
)
def test_an_array_that_cannot_be_is_refused(region, dtype, shape, message):
    with pytest.raises(lib_usm.InvalidArgument, match=message):
        region.ndarray(dtype, shape)
    region.close()


def test_what_numpy_makes_of_a_region_is_its_memory_and_not_a_copy(region):
    array = np.asarray(region)
    assert (array.dtype, array.shape) == (np.uint8, (LENGTH,))
    array[3] = 9
    assert region[3] == 9
    assert np.shares_memory(np.array(region, copy=False), array)
    assert np.shares_memory(region.ndarray(), array)
    for copy in (np.array(region), np.asarray(region, dtype=np.int16)):
        copy[3] = 1
        assert (region[3], len(copy)) == (9, LENGTH)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(region, dtype=np.int16, copy=False)


def test_what_numpy_makes_of_a_region_without_a_buffer_is_a_copy_that_was_asked_for(simulated):
    with lib_usm.connect(simulated.address) as client:
        region = client.mmap(LENGTH)
        region[:3] = b"abc"
        with pytest.raises(lib_usm.NoBuffer, match="simulated memory"):
            np.asarray(region)
        copy = np.array(region)
        assert (copy.dtype, bytes(copy)) == (np.uint8, region[:])
        copy[0] = 0
        assert region[0] == ord("a")


def test_two_arrays_and_the_buffer_share_the_bytes(region):
    one, other = region.ndarray(np.uint8), region.ndarray(np.uint16, 4, 2)
    other[0] = 0x0201
    assert (list(one[2:4]), bytes(region.buffer[2:4])) == ([1, 2], b"\1\2")


def test_an_array_in_use_keeps_the_region_open(region):
    array = region.ndarray(np.uint8)
    part = array[5:]
    with pytest.raises(lib_usm.InUse):
        region.close()
    del array
    with pytest.raises(lib_usm.InUse):
        region.close()
    part[0] = 9
    assert region[5] == 9
    del part
    region.close()


# Without a buffer


def test_simulated_memory_has_no_buffer_and_says_why(simulated):
    with lib_usm.connect(simulated.address) as client:
        region = client.mmap(LENGTH, name="nowhere")
        assert "has simulated memory; run it with real memory" in client.why_no_buffer
        assert not client.faults_of_system_calls
        for use in (lambda: region.buffer, lambda: region.ndarray(np.uint8)):
            with pytest.raises(lib_usm.NoBuffer, match=r"'nowhere'.* has no buffer: .*simulated memory"):
                use()
        region[:4] = b"call"
        assert region[:4] == b"call"


def test_a_process_that_gets_no_userfaultfd_says_why_and_loads_and_stores(real, monkeypatch):
    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("lib_usm.memory.open_userfaultfd", refuse)
    with lib_usm.connect(real.address) as client:
        why = client.why_no_buffer
        assert "cannot have its page faults served" in why
        assert "Operation not permitted" in why
        assert "usmctl doctor" in why
        assert not client.faults_of_system_calls
        region = client.mmap(LENGTH)
        with pytest.raises(lib_usm.NoBuffer, match="Operation not permitted"):
            region.buffer  # noqa: B018 - the access is what is refused
        region.ensure()
        with region.pin(0, PAGE):
            region[PAGE - 2 : PAGE + 2] = b"call"
        evict(real, region, 2)
        assert region[PAGE - 2 : PAGE + 2] == b"call"
    left_empty(real)


def test_a_region_that_cannot_be_mapped_is_a_limit_and_is_given_back(real_client, real, monkeypatch):
    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("lib_usm.memory.Mapping", refuse)
        with pytest.raises(lib_usm.LimitExceeded, match=rf"{LENGTH} bytes cannot be mapped.*vm.overcommit_memory"):
            real_client.mmap(LENGTH)
    assert list(real.admin.regions(0)) == []
    real_client.mmap(LENGTH).buffer[0] = 1


def test_a_region_whose_mapping_the_daemon_refuses_is_given_back(real_client, real, monkeypatch):
    before = mappings()

    def told(self, *arguments):
        real_init(self, *arguments)
        self.address += 8

    real_init = Mapping.__init__
    with monkeypatch.context() as patch:
        patch.setattr(Mapping, "__init__", told)
        with pytest.raises(lib_usm.InvalidArgument, match="allowed is a multiple of 4096"):
            real_client.mmap(LENGTH)
    assert list(real.admin.regions(0)) == []
    assert mappings() == before


def test_a_client_is_told_what_memory_and_swap_there_is(client):
    capacity = FRAMES * PAGE + (1 << 20)
    with pytest.raises(lib_usm.LimitExceeded, match=f"for {capacity / (1 << 20):,.1f} MiB, which all sessions"):
        client.mmap(capacity + 1, reserve=True)
    client.mmap(capacity, reserve=True)


# Ensure, pin, evict, resident


@pytest.mark.parametrize(
    ("offset", "n", "pages"),
    [
        (0, None, range(PAGES)),
        (0, 1, [0]),
        (PAGE - 1, 2, [0, 1]),
        (3 * PAGE, PAGE, [3]),
        (LENGTH - 1, None, [PAGES - 1]),
        (LENGTH, None, []),
        (5, 0, []),
    ],
)
def test_ensure_makes_the_pages_of_a_range_resident(client, offset, n, pages):
    region = client.mmap(LENGTH)
    assert not region.resident()
    region.ensure(offset, n)
    assert [page for page in pages if not region.resident(page * PAGE, 1)] == []
    assert region.resident(offset, n)
    region.ensure(offset, n)


@pytest.mark.parametrize(
    ("offset", "n"), [(-1, 1), (0, LENGTH + 1), (LENGTH, 1), (LENGTH + 1, None), (1, LENGTH), (0, -1)]
)
def test_ranges_outside_are_refused_everywhere(client, offset, n):
    region = client.mmap(LENGTH)

    def pin():
        with region.pin(offset, n):
            pytest.fail("pinned")

    for use in (region.ensure, region.evict, region.resident, lambda *_: pin()):
        with pytest.raises(lib_usm.OutOfRange):
            use(offset, n)


def test_nothing_is_resident_and_evicted_and_pinned_at_once(client):
    region = client.mmap(LENGTH)
    assert region.resident(LENGTH)
    assert region.resident(7, 0)
    region.evict(LENGTH)
    with region.pin(LENGTH):
        pass


def test_what_was_evicted_comes_back_as_it_was(client, daemon):
    region = client.mmap(LENGTH)
    data = bytes(page for page in range(PAGES) for _ in range(PAGE))[:LENGTH]
    region[:] = bytes(255 - each for each in data)
    evict(daemon, region, 2, PAGE)
    region.ensure(0, 3 * PAGE)
    assert region.resident(0, 3 * PAGE)
    assert region[:] == bytes(255 - each for each in data)


def test_resident_is_what_the_daemon_has_done(real_client, real):
    region = real_client.mmap(LENGTH)
    region.ensure()
    region[0:4] = b"data"
    assert region.resident()
    evict(real, region, 1)
    assert [region.resident(page * PAGE, 1) for page in (0, 1)] == [False, True]
    assert not region.resident()
    region.ensure()
    assert region.resident()
    assert region[0:4] == b"data"


def are_pinned(daemon, frames):
    assert daemon.admin.status().pinned_frames == frames


def test_pinned_pages_stay_and_go_again_after_the_block(client, daemon):
    region = client.mmap(LENGTH)
    region[:] = b"p" * LENGTH
    with region.pin(PAGE, 2 * PAGE) as pin:
        assert (pin.first_page, pin.page_count, pin.released) == (1, 2, False)
        are_pinned(daemon, 2)
        region.evict()
        evict(daemon, region, PAGES - 3, 3 * PAGE)
        assert region.resident(PAGE, 2 * PAGE)
    are_pinned(daemon, 0)
    evict(daemon, region, PAGES - 1)
    assert region[:] == b"p" * LENGTH


def test_pins_nest_and_a_page_goes_when_the_last_one_ends(client, daemon):
    region = client.mmap(LENGTH)
    with region.pin(0, 2 * PAGE):
        with region.pin(PAGE, 2 * PAGE), region.pin(PAGE, 1):
            are_pinned(daemon, 3)
        are_pinned(daemon, 2)
        with region.pin(0, 1):
            are_pinned(daemon, 2)
        are_pinned(daemon, 2)
    are_pinned(daemon, 0)


def test_an_exception_ends_the_pin_and_passes(client, daemon):
    region = client.mmap(LENGTH)

    def fail():
        with region.pin(0, PAGE):
            are_pinned(daemon, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    are_pinned(daemon, 0)


def test_pins_beyond_the_budget_are_refused_whole_and_what_was_pinned_stays_so(client, daemon):
    before = daemon.admin.status().counters["faults"]
    region = client.mmap(2 * BUDGET * PAGE)
    with pytest.raises(
        lib_usm.LimitExceeded, match=rf"a pin of {2 * BUDGET} pages .*memory.deny_budget is {BUDGET} pages"
    ):
        region.pin()
    assert daemon.admin.status().counters["faults"] == before  # it was refused before anything came in
    with region.pin(0, 4 * PAGE):
        with pytest.raises(lib_usm.LimitExceeded), region.pin(4 * PAGE, (BUDGET - 3) * PAGE):
            pytest.fail("pinned")
        are_pinned(daemon, 4)
        with region.pin(4 * PAGE, (BUDGET - 4) * PAGE):
            are_pinned(daemon, BUDGET)
            with region.pin(0, BUDGET * PAGE):  # again, which takes nothing of the budget
                are_pinned(daemon, BUDGET)
    are_pinned(daemon, 0)


def test_a_region_may_be_closed_while_it_is_pinned(client, daemon):
    region = client.mmap(BUDGET * PAGE)
    with region.pin():
        region.close()
    are_pinned(daemon, 0)
    with client.mmap(BUDGET * PAGE) as following, following.pin():
        are_pinned(daemon, BUDGET)


def test_a_client_may_be_closed_while_it_has_pinned(daemon):
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(LENGTH)
        with region.pin():
            client.close()
    are_pinned(daemon, 0)


def test_a_closed_region_is_refused_everywhere(client):
    region = client.mmap(LENGTH)
    region.close()

    def pin():
        with region.pin():
            pytest.fail("pinned")

    for use in (region.ensure, region.evict, region.resident, pin, lambda: region.ndarray(np.uint8)):
        with pytest.raises(lib_usm.ClosedError):
            use()


def test_threads_may_ensure_the_same_pages(client, in_thread):
    region = client.mmap(LENGTH)
    begin = threading.Barrier(4)

    def ensure():
        begin.wait(90)
        region.ensure()

    for each in [in_thread(ensure) for _ in range(4)]:
        each.result(90)
    assert region.resident()


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


# System calls


def test_system_calls_wait_for_pages_where_the_client_says_so(real_client, in_thread, tmp_path):
    if not real_client.faults_of_system_calls:
        pytest.skip("this process may have faults of user mode only")
    region = real_client.mmap(LENGTH)
    data = os.urandom(LENGTH)
    (tmp_path / "data").write_bytes(data)
    with (tmp_path / "data").open("rb", buffering=0) as file:
        assert in_thread(file.readinto, region.buffer).result(10) == LENGTH
    assert region[:] == data
    other = real_client.mmap(LENGTH)
    with (tmp_path / "zeros").open("wb", buffering=0) as file:
        assert in_thread(file.write, other.buffer).result(10) == LENGTH
    assert (tmp_path / "zeros").read_bytes() == bytes(LENGTH)


@pytest.mark.parametrize(("way", "answer"), [("device", True), ("syscall", True), ("user-mode", False)])
def test_the_way_to_the_userfaultfd_decides_on_faults_of_system_calls(real, monkeypatch, way, answer):
    monkeypatch.setattr("lib_usm.memory.open_userfaultfd", lambda: (open_userfaultfd()[0], way))
    with lib_usm.connect(real.address) as client:
        assert client.faults_of_system_calls is answer
    left_empty(real)


# Ends


def test_closing_a_client_unmaps_its_regions_and_leaves_no_descriptor(real):
    mapped = mappings()
    client = lib_usm.connect(real.address)
    regions = [client.mmap(LENGTH) for _ in range(3)]
    userfaultfd = client._memory.userfaultfd
    regions[0].buffer[0] = 1
    assert mappings() == mapped + 6
    client.close()
    assert mappings() == mapped
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(userfaultfd)
    for region in regions:
        with pytest.raises(lib_usm.ClosedError):
            region.buffer  # noqa: B018 - the access is what is refused
        region.close()
    left_empty(real)


IN_USE = """
    import sys
    import lib_usm
    client = lib_usm.connect(sys.argv[1])
    region, other = client.mmap(8 * 4096, name="kept"), client.mmap(4096, name="other")
    other.buffer[0] = 1
    array = region.ndarray("u1")
    array[0] = 1
    client.close()
    client.close()
    print(client.closed, other.closed, flush=True)
    while sys.argv[2] != "quiet":  # what it holds goes in a moment
        array[int(sys.argv[2])]
"""


@pytest.mark.parametrize("touch", ["quiet", "0", "4096"])
def test_a_client_that_is_closed_with_arrays_in_use_warns_and_a_touch_of_them_is_sigbus(real, touch):
    done = run_python(IN_USE, real, touch)
    assert done.returncode == (0 if touch == "quiet" else -signal.SIGBUS), done.stderr
    assert done.stdout == "True True\n"
    assert done.stderr.count("UserWarning") == 1, done.stderr
    if touch != "quiet":
        page = int(touch) // PAGE
        assert re.search(
            rf"lib_usm: SIGBUS at page {page} \(byte {touch}\) of <Region \d+ 'kept', 32768 bytes> of process",
            done.stderr,
        )
        assert "the session has ended" in done.stderr
    assert "arrays or memoryviews of <Region" in done.stderr
    assert "'kept'" in done.stderr
    assert "'other'" not in done.stderr
    left_empty(real)


FORK = """
    import os, sys
    import lib_usm
    with lib_usm.connect(sys.argv[1]) as client:
        region = client.mmap(8 * 4096)
        region.ensure()
        region[:5] = b"hello"
        start = region._mapping.address

        def here():
            with open("/proc/self/maps") as maps:
                for line in maps:
                    first, end = (int(each, 16) for each in line.split()[0].split("-"))
                    if first <= start < end:
                        return (line.split()[1], "memfd" in line, end - start >= 8 * 4096)

        child = os.fork()
        if child == 0:
            seen = 0
            uses = [
                lambda: region[0], lambda: region.buffer, lambda: region.ndarray("u1"), region.ensure, region.evict,
                region.resident, lambda: region.pin().__enter__(), region.close, lambda: client.mmap(5),
            ]
            for use in uses:
                try:
                    use()
                except lib_usm.ForkedChild:
                    seen += 1
            print(here(), seen == len(uses), flush=True)
            client.close()
            os._exit(0)
        os.waitpid(child, 0)
        print(here(), bytes(region.buffer[:5]), region.resident())
        with open("/proc/self/maps") as maps:
            assert "memfd:usmd" in maps.read()
"""


def test_in_a_forked_child_a_region_is_an_error_and_its_addresses_are_kept_and_the_parent_goes_on(real):
    done = run_python(FORK, real)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "('---p', False, True) True",
        "('rw-s', True, True) b'hello' True",
    ]
    left_empty(real)


def test_a_program_that_does_not_close_ends_quietly(real):
    code = """
        import sys
        import lib_usm
        client = lib_usm.connect(sys.argv[1])
        region = client.mmap(8 * 4096)
        array = region.ndarray("u1")
        array[:] = 7
        print(int(array.sum()))
    """
    done = run_python(code, real)
    assert (done.returncode, done.stdout) == (0, f"{7 * 8 * PAGE}\n"), done.stderr
    left_empty(real)
