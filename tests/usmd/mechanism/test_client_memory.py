"""A client's mappings, whatever it does with them, and how pages come and go there.

Moves are in test_client_memory_moves.py, clients that are stuck in one in test_client_memory_stuck.py.
"""

import errno
import mmap
import os

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.client_world import (
    OTHER,
    PAGES,
    REGION,
    SIZE,
    first_byte,
    poisoning,
    world,
)
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    Client,
    advise,
    make_read_only,
    map_memory,
    read,
    unmap,
    write,
)
from usmd.core.events import PROTECTED, PageFault
from usmd.mechanism import uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.uffd import Drained, Feature

__all__ = ["poisoning", "world"]


# Faults


@pytest.mark.parametrize(("touch", "is_write"), [(read, False), (lambda address: write(address, b"w"), True)])
def test_a_touch_of_a_missing_page_is_a_fault_on_it(world, touch, is_write):
    touching = touch(world.at(5) + 99)
    assert world.client.faults() == [PageFault(REGION, 5, is_write)]
    assert not touching.done
    assert world.zero(5)
    touching.result()
    assert world.memory.last_thread > 0


def test_faults_of_several_regions_are_told_apart(world):
    touches = [read(world.at(page, region)) for page, region in ((1, REGION), (2, OTHER), (3, REGION))]
    expected = {PageFault(REGION, 1, False), PageFault(OTHER, 2, False), PageFault(REGION, 3, False)}
    assert set(world.client.faults(3)) == expected
    for page, region in ((1, REGION), (2, OTHER), (3, REGION)):
        world.zero(page, 1, region)
    for touch in touches:
        touch.result()


def test_no_more_faults_are_read_than_are_asked_for_and_early_ones_come_first(world):
    touches = [read(world.at(page)) for page in range(3)]
    found = set(world.client.faults(3))
    world.memory._early += found
    assert world.memory.has_early
    first = world.memory.read(2)
    assert (len(first), world.memory.has_early) == (2, True)
    assert {*first, *world.memory.read(2)} == found
    assert (world.memory.has_early, world.memory.read(1)) == (False, [])
    world.zero(0, 3)
    for touch in touches:
        touch.result()


def test_a_write_to_a_protected_page_is_a_fault_of_its_own_kind(world):
    world.zero(2)
    assert world.protect(2)
    assert first_byte(world.at(2)) == 0
    writing = write(world.at(2), b"w")
    assert world.client.faults() == [PageFault(REGION, 2, True, PROTECTED)]
    world.unprotect(2)
    writing.result()
    assert first_byte(world.at(2)) == ord("w")


def test_pages_are_larger_than_the_hardwares():
    require_real_memory()
    client = Client(4 * HARDWARE_PAGE)
    memfd = os.memfd_create("test")
    os.ftruncate(memfd, SIZE)
    address = client.map(memfd, SIZE)
    client.memory.register(REGION, address, SIZE)
    touching = read(address + 6 * HARDWARE_PAGE)
    assert client.faults() == [PageFault(REGION, 1, False)]
    client.memory.zero(REGION, 4 * HARDWARE_PAGE, 4 * HARDWARE_PAGE)
    touching.result()
    client.close()
    os.close(memfd)


def test_a_fault_at_an_address_of_no_region_is_poisoned(poisoning):
    gone = poisoning.addresses.pop(OTHER)
    poisoning.memory.drop([OTHER], ended=True)
    unknown = poisoning.client.map(poisoning.memfds[OTHER], SIZE)
    uffd.register(poisoning.memory.descriptor, unknown, SIZE)
    for address in (gone, unknown):
        touching = poisoning.client.wait_in_system_call(address + HARDWARE_PAGE)
        poisoning.client.wait_for_message()
        assert poisoning.memory.read() == []
        assert touching.result() == errno.EFAULT
        assert poisoning.client.is_poisoned(address + HARDWARE_PAGE)


# Fills


def test_zero_says_whether_anything_was_missing(world):
    assert world.zero(1, 3)
    assert not world.zero(1, 3)
    assert world.zero(0, 5)
    assert world.held() == 5


def test_zero_goes_round_pages_that_the_client_has_put_there(world):
    with os.fdopen(os.dup(world.memfds[REGION]), "r+b") as file:
        for page in (1, 2, 5):
            file.seek(page * HARDWARE_PAGE)
            file.write(b"c")
    assert world.zero(0, PAGES)
    assert [first_byte(world.at(page)) for page in range(PAGES)] == [0, ord("c"), ord("c"), 0, 0, ord("c"), 0, 0]


def test_who_waits_for_a_page_that_the_client_has_put_there_goes_on(world):
    touching = read(world.at(3))
    world.client.faults()
    os.pwrite(world.memfds[REGION], b"c", 3 * HARDWARE_PAGE)
    assert not world.zero(3)
    assert touching.result() == b"c"


@pytest.mark.parametrize("end", ["zero", "poison", "refill"])
def test_a_thread_whose_page_the_client_has_mapped_over_meanwhile_goes_on(poisoning, end):
    touching = read(poisoning.at(3))
    poisoning.client.faults()
    map_memory(HARDWARE_PAGE, at=poisoning.at(3))
    getattr(poisoning, end)(3)
    assert touching.result() == b"\0"


def test_copies_are_whole_and_say_what_stopped_them(world):
    assert world.copy(0, PAGES) == Drained(SIZE, 0)
    assert [first_byte(world.at(page)) for page in range(PAGES)] == list(range(1, PAGES + 1))
    assert world.copy(2) == Drained(0, errno.EEXIST)


def test_a_copy_stops_at_a_page_that_is_there(world):
    world.zero(3)
    assert world.copy(1, 5) == Drained(2 * HARDWARE_PAGE, errno.EEXIST)
    assert [first_byte(world.at(page)) for page in (1, 2, 3)] == [2, 3, 0]
    assert world.held() == 3


@pytest.mark.parametrize("writable", [False, True])
def test_a_copy_that_is_not_writable_has_its_first_write_told(world, writable):
    world.copy(4, writable=writable)
    writing = write(world.at(4), b"w")
    if not writable:
        assert world.client.faults() == [PageFault(REGION, 4, True, PROTECTED)]
        world.unprotect(4)
    writing.result()
    assert world.memory.read() == []


# What clients do by themselves


def test_what_was_unmapped_is_nowhere_and_the_rest_is_served(world):
    unmap(world.at(2), 2 * HARDWARE_PAGE)
    assert world.copy(2) == Drained(0, errno.ENOENT)
    assert not world.zero(3)
    assert world.zero(0, PAGES)
    assert world.held() == PAGES - 2
    assert [first_byte(world.at(page)) for page in (0, 1, 4, 5, 6, 7)] == [0] * 6
    assert world.protect(0, PAGES)
    for page in (1, 4, 7):
        writing = write(world.at(page), b"w")
        assert world.client.faults() == [PageFault(REGION, page, True, PROTECTED)]
        world.unprotect(page)
        writing.result()


def test_a_region_that_is_unmapped_and_given_back_is_forgotten(world):
    unmap(world.at(0), SIZE)
    world.memory.drop([REGION], ended=False)
    assert not world.memory.mapped(REGION)
    assert world.memory.mapped(OTHER)
    world.memory.drop([REGION], ended=False)


@pytest.mark.parametrize("ended", [False, True])
def test_what_is_mapped_still_of_a_region_that_is_gone_is_an_error(poisoning, ended):
    touching = poisoning.client.wait_in_system_call(poisoning.at(2))
    poisoning.client.wait_for_message()
    poisoning.memory.drop([REGION], ended=ended)
    assert poisoning.memory.read() == []
    assert touching.result() == errno.EFAULT
    assert poisoning.memory.mapped(REGION)
    assert not poisoning.client.is_poisoned(poisoning.at(3))  # only when it is touched, by whatever way


def test_pages_that_the_client_has_dropped_from_its_tables_are_still_there(world):
    world.copy(0, PAGES)
    advise(world.at(2), 3 * HARDWARE_PAGE, mmap.MADV_DONTNEED)
    assert [first_byte(world.at(page)) for page in range(PAGES)] == list(range(1, PAGES + 1))
    assert world.memory.read() == []


def test_protection_outlasts_madv_dontneed(world):
    world.copy(2, writable=False)
    advise(world.at(2), HARDWARE_PAGE, mmap.MADV_DONTNEED)
    writing = write(world.at(2), b"w")
    assert world.client.faults() == [PageFault(REGION, 2, True, PROTECTED)]
    world.unprotect(2)
    writing.result()


def test_pages_that_the_client_has_removed_fault_again(world):
    world.copy(0, PAGES)
    advise(world.at(2), HARDWARE_PAGE, mmap.MADV_REMOVE)
    touching = read(world.at(2))
    assert world.client.faults() == [PageFault(REGION, 2, False)]
    assert world.zero(2)
    assert touching.result() == b"\0"
    assert first_byte(world.at(1)) == 2


@pytest.mark.parametrize("split", [1, 3, 7])
def test_in_a_mapping_that_was_split_zeros_go_page_by_page(world, split):
    make_read_only(world.at(split), HARDWARE_PAGE)
    assert world.zero(0, PAGES)
    assert world.held() == PAGES
    assert [first_byte(world.at(page)) for page in range(PAGES)] == [0] * PAGES


def test_in_a_mapping_that_was_split_a_copy_goes_as_far_as_it_can(world):
    make_read_only(world.at(3), HARDWARE_PAGE)
    done = 0
    assert world.copy(0, PAGES) == Drained(0, errno.ENOENT)
    for page in range(PAGES):
        assert world.copy(page) == Drained(HARDWARE_PAGE, 0)
        done += 1
    assert [first_byte(world.at(page)) for page in range(done)] == list(range(1, PAGES + 1))


def test_a_mapping_that_was_split_is_protected_and_poisoned_as_a_whole(poisoning):
    make_read_only(poisoning.at(3), HARDWARE_PAGE)
    poisoning.zero(0, 5)
    assert poisoning.protect(0, PAGES)
    for page in (0, 4):
        writing = write(poisoning.at(page), b"w")
        assert poisoning.client.faults() == [PageFault(REGION, page, True, PROTECTED)]
        poisoning.unprotect(page)
        writing.result()


# The descriptor, and mappings of a process


def test_the_descriptor_is_closed_and_a_refused_handshake_leaves_it_to_its_owner(world):
    before = len(os.listdir("/proc/self/fd"))
    descriptor, _ = uffd.open_userfaultfd()
    with pytest.raises(OSError, match="Invalid argument"):
        ClientMemory(descriptor, Feature(1 << 60), HARDWARE_PAGE, os.getpid())
    ClientMemory(descriptor, uffd.REQUIRED, HARDWARE_PAGE, os.getpid()).close()
    assert len(os.listdir("/proc/self/fd")) == before
