"""Mappings: residency, closing while views are in use, and what a forked child has of them."""

import gc
import mmap
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lib_usm.errors import ClosedError, InUse
from lib_usm.mapping import Mapping

PAGE = mmap.PAGESIZE
PAGES = 8
LENGTH = PAGES * PAGE - 100


class Region:
    """What the daemon gives: the bytes and the residency map, one byte a page."""

    def __init__(self, resident=(), size=PAGES * PAGE):
        self.memfd = os.memfd_create("test-bytes")
        os.ftruncate(self.memfd, size)
        self.residency_fd = os.memfd_create("test-residency")
        os.ftruncate(self.residency_fd, 2 * PAGES)
        self.set(resident)

    def set(self, resident):
        os.pwrite(self.residency_fd, bytes(page in resident for page in range(PAGES)), 0)

    def map(self):
        return Mapping(self.memfd, self.residency_fd, LENGTH, PAGES)

    def close(self):
        os.close(self.memfd)
        os.close(self.residency_fd)


@pytest.fixture
def region():
    region = Region()
    yield region
    region.close()


@pytest.fixture
def mapping(region):
    mapping = region.map()
    yield mapping
    mapping.close("the mapping")


def mapped():
    """Mappings of this process by the names of their files."""
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "/memfd:test-" in line]


def test_the_bytes_are_those_of_the_memfd_and_as_long_as_the_region(region, mapping):
    assert (len(mapping.view), mapping.size, mapping.view.readonly) == (LENGTH, PAGES * PAGE, False)
    os.pwrite(region.memfd, b"there", 3 * PAGE)
    assert mapping.view[3 * PAGE : 3 * PAGE + 5] == b"there"
    mapping.view[:4] = b"here"
    assert os.pread(region.memfd, 4, 0) == b"here"


def test_the_address_is_that_of_the_first_byte(mapping):
    (line,) = [line for line in mapped() if "test-bytes" in line]
    assert int(line.partition("-")[0], 16) == mapping.address


def test_the_descriptors_stay_the_callers_and_the_mappings_outlive_them():
    region = Region(resident=[0])
    mapping = region.map()
    region.close()
    assert mapping.resident(0, 1)
    mapping.view[0] = 7
    mapping.close("it")


@pytest.mark.parametrize(
    ("resident", "first", "count", "answer"),
    [
        ((), 0, 1, False),
        ((), 0, 0, True),
        (range(8), 0, 8, True),
        ((0, 1, 2), 0, 3, True),
        ((0, 1, 2), 0, 4, False),
        ((0, 1, 2), 2, 2, False),
        ((3,), 3, 1, True),
        ((7,), 7, 1, True),
        (range(7), 7, 1, False),
    ],
)
def test_a_range_is_resident_if_each_page_is(region, mapping, resident, first, count, answer):
    region.set(resident)
    assert mapping.resident(first, count) is answer


@pytest.mark.parametrize(
    ("resident", "first", "count", "longest", "runs"),
    [
        (range(8), 0, 8, 8, []),
        ((), 0, 8, 8, [(0, 8)]),
        ((), 0, 8, 3, [(0, 3), (3, 3), (6, 2)]),
        ((), 2, 5, 4, [(2, 4), (6, 1)]),
        ((0, 3, 4), 0, 8, 8, [(1, 2), (5, 3)]),
        ((0, 3, 4), 0, 8, 2, [(1, 2), (5, 2), (7, 1)]),
        ((0, 3, 4), 0, 8, 1, [(1, 1), (2, 1), (5, 1), (6, 1), (7, 1)]),
        ((0, 3, 4), 2, 3, 8, [(2, 1)]),
        ((7,), 0, 8, 8, [(0, 7)]),
        ((), 5, 0, 8, []),
    ],
)
def test_absent_runs_are_what_is_missing_in_pieces(region, mapping, resident, first, count, longest, runs):
    region.set(resident)
    assert mapping.absent_runs(first, count, longest) == runs


class Filling:
    """A residency map whose pages all become resident as soon as one was looked for."""

    def __init__(self, region, residency):
        self._region = region
        self._residency = residency

    def find(self, *arguments):
        found = self._residency.find(*arguments)
        self._region.set(range(8))
        return found


def test_no_run_is_empty_though_pages_become_resident_meanwhile(region, mapping):
    region.set(())
    mapping._residency = Filling(region, mapping._residency)
    assert mapping.absent_runs(0, 8, 8) == [(0, 1)]


def test_residency_is_as_the_daemon_says_at_this_moment(region, mapping):
    assert not mapping.resident(2, 1)
    region.set([2])
    assert mapping.resident(2, 1)
    region.set([])
    assert not mapping.resident(2, 1)


def test_close_unmaps_both():
    region = Region()
    mapping = region.map()
    assert len(mapped()) == 2
    mapping.close("it")
    region.close()
    assert mapped() == []


def test_close_with_views_in_use_raises_and_changes_nothing(region):
    mapping = region.map()
    view = mapping.buffer()[10:20]
    before = mapped()
    for _ in range(2):
        with pytest.raises(InUse, match=r"^the region has arrays or memoryviews in use.*`del array`"):
            mapping.close("the region")
    assert mapped() == before
    view[:] = b"0123456789"
    assert mapping.view[10:20] == b"0123456789"
    assert len(mapping.view) == LENGTH
    region.set([1])
    assert mapping.resident(1, 1)
    view.release()
    mapping.close("the region")
    assert mapped() == []


def test_a_view_of_all_of_it_is_in_use_too(region):
    mapping = region.map()
    view = memoryview(mapping.buffer())
    with pytest.raises(InUse):
        mapping.close(f"the region of {len(view)} bytes")
    assert len(mapping.view) == LENGTH
    del view
    mapping.close("the region")


@pytest.mark.parametrize("which", ["memfd", "residency_fd"])
def test_what_cannot_be_mapped_is_an_os_error_and_nothing_is_mapped(region, which):
    reader, writer = os.pipe()
    descriptors = {"memfd": region.memfd, "residency_fd": region.residency_fd} | {which: reader}
    with pytest.raises((OSError, ValueError)) as caught:
        Mapping(descriptors["memfd"], descriptors["residency_fd"], LENGTH, PAGES)
    os.close(reader)
    os.close(writer)
    del caught
    gc.collect()
    assert mapped() == []


def test_a_closed_mapping_refuses_everything(region):
    mapping = region.map()
    assert mapping.close("it") is not None
    assert mapping.close("it") is None
    uses = (
        lambda: mapping.view,
        lambda: mapping.memory,
        mapping.buffer,
        lambda: mapping.resident(0, 1),
        lambda: mapping.absent_runs(0, 1, 1),
    )
    for use in uses:
        with pytest.raises(ClosedError):
            use()


def test_what_is_in_use_stays_when_it_is_let_go_and_goes_with_the_last_array(region):
    mapping = region.map()
    array = np.frombuffer(mapping.buffer(), np.uint8)
    part = array[PAGE:]
    assert mapping.lent
    memory = weakref.ref(mapping.let_go())
    with pytest.raises(ClosedError):
        mapping.buffer()
    del array
    part[0] = 7
    assert os.pread(region.memfd, 1, PAGE) == b"\7"
    assert memory() is not None
    del part
    assert (memory(), mapping.lent, mapped()) == (None, False, [])


def test_a_read_that_has_begun_when_it_is_closed_reads_to_its_end(region):
    mapping = region.map()
    begun = mapping.view[:10]  # as another thread's would be
    memory = weakref.ref(mapping.close("the region"))
    assert bytes(begun) == bytes(10)
    assert memory() is not None
    del begun
    assert memory() is None


def test_reads_never_see_a_close_that_was_refused(region):
    mapping = region.map()
    loan = mapping.buffer()
    refused = 0
    stop = threading.Event()
    begun = [threading.Event() for _ in range(4)]

    def read(has_begun):
        count = 0
        while not stop.is_set():
            assert len(mapping.view[:10]) == 10
            assert mapping.resident(0, 0)
            count += 1
            has_begun.set()
        return count

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            reads = [pool.submit(read, each) for each in begun]
            assert all(each.wait(90) for each in begun)
            for _ in range(2000):
                try:
                    mapping.close("the region")
                except InUse:
                    refused += 1
            stop.set()
            assert all(each.result() > 0 for each in reads)
    finally:
        stop.set()
        sys.setswitchinterval(before)
    assert refused == 2000
    loan.release()
    mapping.close("the region")


CHILD = """
    import mmap, os, sys
    sys.path.insert(0, sys.argv[1])
    from lib_usm.mapping import Mapping

    PAGE, PAGES = mmap.PAGESIZE, 8
    memfd, residency = os.memfd_create("test-bytes"), os.memfd_create("test-residency")
    os.ftruncate(memfd, PAGES * PAGE)
    os.ftruncate(residency, 2 * PAGES)
    one = Mapping(memfd, residency, PAGES * PAGE, PAGES)
    closed = Mapping(memfd, residency, PAGES * PAGE, PAGES)
    address = closed.address
    closed.close("it")
    kept = Mapping(memfd, residency, PAGES * PAGE, PAGES)
    array = kept.buffer()
    place = kept.address
    kept.let_go()
    del kept
    one.view[:5] = b"bytes"

    def lines():
        with open("/proc/self/maps") as maps:
            for line in maps:
                start, end = (int(each, 16) for each in line.split()[0].split("-"))
                yield start, end, line.split()[1], line

    def at(place):
        return [(min(end, place + one.size) - place, rights, "memfd:test-bytes" in line)
                for start, end, rights, line in lines() if start <= place < end]

    child = os.fork()
    if child == 0:
        held = at(one.address)
        assert at(place) == held  # an array of it would otherwise lie over something else
        anything = mmap.mmap(-1, PAGES * PAGE)  # may not come to lie there
        print(held, any("memfd:test-bytes" in line for *_, line in lines()), at(one.address) == held, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(at(one.address), bytes(one.view[:5]))
"""


def test_in_a_forked_child_the_addresses_are_kept_and_nothing_is_there():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(CHILD), root],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    size = PAGES * PAGE
    assert (done.returncode, done.stderr) == (0, "")
    child, parent = done.stdout.splitlines()
    assert child == f"[({size}, '---p', False)] False True"
    assert parent == f"[({size}, 'rw-s', True)] b'bytes'"
