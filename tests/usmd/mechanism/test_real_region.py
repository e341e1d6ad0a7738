"""Regions of real memory: descriptors, seals, and what they hold."""

import mmap
import os
import resource

import pytest

from tests.usmd.mechanism.mapped import HARDWARE_PAGE
from tests.usmd.mechanism.memory_world import PAGES, REGION, key, open_descriptors, world
from usmd.errors import LimitExceeded
from usmd.mechanism.userfaultfd import UserfaultfdMemory

__all__ = ["world"]


def test_a_client_can_map_the_residency_map_to_read_and_cannot_write_to_it(world):
    world.memory.zero([0], [key(2)])
    descriptor = world.region.residency_fd
    with mmap.mmap(descriptor, PAGES, prot=mmap.PROT_READ) as seen:
        assert seen[:4] == b"\0\0\1\0"
    with pytest.raises(OSError, match="Operation not permitted"):
        mmap.mmap(descriptor, PAGES)
    with pytest.raises(OSError, match="Operation not permitted"):
        os.pwrite(descriptor, b"\1", 0)
    world.memory.zero([0], [key(3)])
    assert world.resident() == [2, 3]


@pytest.mark.parametrize("name", ["memfd", "residency_fd"])
@pytest.mark.parametrize("size", [0, 1 << 30])
def test_a_client_cannot_change_the_size_of_what_it_is_given(world, name, size):
    with pytest.raises(OSError, match="Operation not permitted"):
        os.ftruncate(getattr(world.region, name), size)


def test_pages_that_a_client_takes_by_itself_are_counted(world):
    assert world.region.pages_in_memory() == 0
    world.memory.zero([0], [key(0)])
    world.client_writes_into_the_memfd(3)
    assert world.region.pages_in_memory() == world.page_size // HARDWARE_PAGE + 1


def test_a_region_takes_two_descriptors_and_gives_them_back():
    memory = UserfaultfdMemory(HARDWARE_PAGE)
    before = open_descriptors()
    memory.add_region(REGION, 1, PAGES)
    assert open_descriptors() == before + 2
    memory.drop_regions([REGION], ended=False)
    memory.finish()
    del memory
    assert open_descriptors() == before


def test_closing_lets_go_of_all_regions():
    before = open_descriptors()
    memory = UserfaultfdMemory(HARDWARE_PAGE)
    for region in range(1, 20):
        memory.add_region(region, 1, PAGES)
        memory.zero([0], [key(1, region)])
    memory.close()
    memory.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("room", [0, 1])
def test_a_region_for_which_there_is_no_descriptor_is_refused_and_leaves_nothing(room):
    memory = UserfaultfdMemory(HARDWARE_PAGE)
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0) for _ in range(64)]
    limit = max(taken) + 1
    for descriptor in taken[len(taken) - room :] if room else []:
        os.close(descriptor)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        with pytest.raises(LimitExceeded, match=r"no (descriptor for|room to map) a region"):
            memory.add_region(REGION, 1, PAGES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken[: len(taken) - room]:
            os.close(descriptor)
    assert open_descriptors() == before
    assert memory.region(REGION) is None


@pytest.mark.parametrize("pages", [1 << 36, 1 << 40, 1 << 50])
def test_a_region_larger_than_any_machines_is_refused_and_leaves_nothing(pages):
    memory = UserfaultfdMemory(HARDWARE_PAGE)
    before = open_descriptors()
    with pytest.raises(LimitExceeded, match=r"no (memory for|room to map) a region of"):
        memory.add_region(REGION, 1, pages)
    assert open_descriptors() == before
    assert memory.region(REGION) is None
