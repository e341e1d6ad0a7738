"""Pages that leave the page table and come back, with the kernel's own system calls, under a client that interferes."""

import mmap
import os

import pytest

from lib_usm import taking_out
from tests.support.real_memory import require_pageout, require_sampling
from tests.support.waiting import wait_until
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    SECONDS,
    advise,
    is_mapped,
    make_read_only,
    read,
    remap,
    unmap,
    write,
)
from tests.usmd.mechanism.memory_world import LARGE, PAGES, REGION, World, key
from usmd.core.events import MINOR, MISSING, PROTECTED, PageFault
from usmd.mechanism import client_memory
from usmd.mechanism.base import Busy
from usmd.mechanism.sampler import ByClient, Pageout, ReferenceSampler


class Sampled(World):
    """A world whose client's touches are sampled; pages 0 and 1 are there, the second one clean.

    It stays on one CPU: each CPU collects pages for their LRU list, and the kernel leaves a page in the page table that
    another CPU has collected, as after a sample there.
    """

    def __init__(self, page_size, way):
        self._cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._cpus)})
        super().__init__(page_size, minor=True)
        self.pidfd = os.pidfd_open(os.getpid())
        sampler = self.client.memory.sampled.sampler = ByClient() if way is ByClient else Pageout(self.pidfd)
        if isinstance(sampler, ByClient):
            taking_out.begin(sampler.theirs.detach())
        self.refused = []
        self.memory.on_unsampled = lambda client, why: self.refused.append((client, why))
        self.fill(0)
        self.fill(1, writable=False)

    def sample(self, *pages):
        """Take pages out, and make sure that they are. A client does it in its own time."""
        self.memory.sample([key(page) for page in pages])
        wait_until(lambda: self.out() >= set(pages), "the pages are out", SECONDS)

    def out(self):
        """Pages no part of which is in the page table."""
        steps = range(0, self.page_size, HARDWARE_PAGE)
        return {page for page in range(PAGES) if not any(is_mapped(self.at(page) + step) for step in steps)}

    def back(self, page, *, writable):
        self.memory.map_again([key(page)], [writable])

    def close(self):
        os.sched_setaffinity(0, self._cpus)
        self.client.memory.sampled.stop()
        os.close(self.pidfd)
        super().close()


@pytest.fixture(params=[(size, way) for size in (HARDWARE_PAGE, LARGE) for way in (ByClient, Pageout)])
def world(request):
    size, way = request.param
    if way is Pageout:
        require_pageout()
    else:
        require_sampling()
    made = Sampled(size, way)
    yield made
    made.close()


@pytest.mark.parametrize(("page", "writable"), [(0, True), (1, False)])
def test_a_page_that_is_out_keeps_its_bytes_and_its_next_touch_is_a_minor_fault(world, page, writable):
    world.sample(0, 1)
    reading = read(world.at(page), world.page_size)
    assert world.client.faults() == [PageFault(REGION, page, False, MINOR)]
    assert not reading.done
    world.back(page, writable=writable)
    assert reading.result() == bytes([page + 1]) * world.page_size
    assert world.out() & {0, 1} == {1 - page}


def test_a_clean_page_comes_back_write_protected_and_a_dirty_one_does_not(world):
    world.sample(0, 1)
    for page in (0, 1):
        reading = read(world.at(page))
        world.client.faults()
        world.back(page, writable=page == 0)
        reading.result()
    write(world.at(0), b"w").result()
    writing = write(world.at(1), b"w")
    assert world.client.faults() == [PageFault(REGION, 1, True, PROTECTED)]
    world.memory.restore([key(1)], [True])
    writing.result()
    assert world.seen(1)[:1] == b"w"


def test_a_write_brings_a_clean_page_back_writable(world):
    world.sample(1)
    writing = write(world.at(1), b"w")
    assert world.client.faults() == [PageFault(REGION, 1, True, MINOR)]
    world.back(1, writable=True)
    writing.result()
    assert world.seen(1) == b"w" + bytes([2]) * (world.page_size - 1)


@pytest.mark.parametrize("writable", [True, False])
def test_a_page_that_is_in_again_already_only_wakes(world, writable):
    world.sample(0)
    threads = [read(world.at(0)), write(world.at(0), b"w")]
    world.client.faults(2)
    world.back(0, writable=False)  # as for a thread that reads
    threads[0].result()
    world.back(0, writable=writable)
    if not writable:
        assert PageFault(REGION, 0, True, PROTECTED) in world.client.faults()
        world.memory.restore([key(0)], [True])
    threads[1].result()
    assert world.seen(0)[:1] == b"w"


def test_a_page_that_was_punched_meanwhile_is_missing_for_its_thread(world):
    world.sample(0)
    reading = read(world.at(0))
    world.client.faults()
    advise(world.at(0), world.page_size, mmap.MADV_REMOVE)
    world.back(0, writable=True)
    assert world.client.faults() == [PageFault(REGION, 0, False, MISSING)]
    assert world.memory.wake([key(0)]) == [key(0)]
    assert reading.result() == b"\0"


def test_an_eviction_finds_the_bytes_of_a_page_that_is_out_and_hears_of_a_write_meanwhile(world):
    world.sample(0)
    assert world.memory.protect([0], [key(0)]) == [False]
    writing = write(world.at(0), b"w")
    assert world.client.faults() == [PageFault(REGION, 0, True, MINOR)]
    assert not writing.done
    world.back(0, writable=True)
    world.memory.restore([key(0)], [True])
    writing.result()
    assert world.seen(0)[:1] == b"w"


def test_a_page_that_is_out_is_released_and_its_touch_is_missing(world):
    world.sample(0)
    world.memory.protect([0], [key(0)])
    world.memory.release([key(0)])
    reading = read(world.at(0))
    assert world.client.faults() == [PageFault(REGION, 0, False, MISSING)]
    world.memory.zero([0], [key(0)])
    assert reading.result() == b"\0"


def test_a_client_that_takes_its_pages_out_itself_is_served(world):
    advise(world.at(0), 2 * world.page_size, mmap.MADV_DONTNEED)
    for page in (0, 1):
        reading = read(world.at(page))
        assert world.client.faults() == [PageFault(REGION, page, False, MINOR)]
        world.back(page, writable=page == 0)
        assert reading.result() == bytes([page + 1])


def test_a_page_that_moved_while_it_was_out_comes_back_where_it_is_now(world):
    world.sample(0, 1)
    to = world.client.spare(PAGES * world.page_size)
    world.client.moved(world.address, PAGES * world.page_size, to)
    reading = read(to, world.page_size)
    assert world.client.faults() == [PageFault(REGION, 0, False, MINOR)]
    world.back(0, writable=True)
    assert reading.result() == bytes([1]) * world.page_size
    world.memory.sample([key(0)])
    wait_until(lambda: not is_mapped(to), "it is out again", SECONDS)


def test_unmapped_and_read_only_pages_are_no_error(world):
    unmap(world.at(0), world.page_size)
    make_read_only(world.at(1), world.page_size)
    world.memory.sample([key(0), key(1)])
    wait_until(lambda: not is_mapped(world.at(1)), "the other one is out", SECONDS)
    world.back(0, writable=True)
    reading = read(world.at(1))
    assert world.client.faults() == [PageFault(REGION, 1, False, MINOR)]
    world.back(1, writable=False)
    assert reading.result() == b"\2"
    assert world.refused == []


def test_pages_of_a_region_that_is_gone_are_left_alone(world):
    world.memory.drop_regions([REGION], ended=False)
    world.memory.sample([key(0)])
    world.back(0, writable=True)
    assert world.refused == []


def test_a_refusal_is_told_once_and_ends_it(world):
    class Refusing(ReferenceSampler):
        name = "refusing"
        asked = 0

        def take_out(self, ranges):
            self.asked += 1
            return "not permitted"

    world.client.memory.sampled.stop()
    refusing = world.client.memory.sampled.sampler = Refusing()
    for _ in range(2):
        world.memory.sample([key(0), key(1)])
    assert (refusing.asked, world.refused) == (1, [(world.client.memory, "not permitted")])


def test_a_page_is_put_back_while_its_client_is_in_the_middle_of_a_move(world, monkeypatch):
    monkeypatch.setattr(client_memory, "BUSY_TRIES", 1 << 30)  # a machine may be busy
    world.sample(0)
    to = world.client.spare(PAGES * world.page_size)
    moving = remap(world.address, PAGES * world.page_size, to)
    world.client.wait_for_message()  # nobody has read of the move
    world.back(0, writable=True)
    world.memory.sample([key(0), key(1)])
    world.client.read_until(moving)
    wait_until(lambda: not is_mapped(to) and not is_mapped(to + world.page_size), "both are out", SECONDS)
    for page in (0, 1):
        reading = read(to + page * world.page_size, world.page_size)
        assert world.client.faults() == [PageFault(REGION, page, False, MINOR)]
        world.back(page, writable=page == 0)
        assert reading.result() == bytes([page + 1]) * world.page_size


def test_a_page_that_its_client_wrote_to_the_memfd_is_served_in_the_end(world):
    """The core takes it for absent."""
    world.client_writes_into_the_memfd(5)
    reading = read(world.at(5))
    assert world.client.faults() == [PageFault(REGION, 5, False, MINOR)]
    world.memory.zero([5], [key(5)])
    assert reading.result() == b"c"


def test_a_page_from_swap_that_its_client_wrote_to_the_memfd_has_the_bytes_from_swap(world):
    world.client_writes_into_the_memfd(5)
    reading = read(world.at(5), world.page_size)
    assert world.client.faults() == [PageFault(REGION, 5, False, MINOR)]
    stage = world.stage(5, writable=False)
    results = world.memory.fill(stage, [None])
    while isinstance(results[0], Busy):
        results = world.memory.fill(stage, results)
    assert results == [None]
    assert reading.result() == bytes([6]) * world.page_size
