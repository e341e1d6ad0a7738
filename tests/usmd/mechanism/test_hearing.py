"""Deaf regions: the kernel maps their folios as a whole, until a page is protected, punched or taken out."""

import contextlib
import errno
import os
import re

import pytest

from tests.support.folios import shmem_enabled
from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism import memory_world
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    advise,
    map_memory,
    read,
    remap,
    write,
)
from tests.usmd.mechanism.memory_world import REGION, World, key
from usmd.core.events import MINOR, MISSING, PROTECTED
from usmd.mechanism import hearing, uffd
from usmd.mechanism.zeroing import Way, Zeroing

FOLIO = 2 << 20
PAGES = 3 * 512
MADV_DONTNEED = 4


@pytest.fixture
def world(monkeypatch):
    """A world with a deaf region of PAGES pages."""
    require_real_memory()
    monkeypatch.setattr(memory_world, "PAGES", PAGES)
    with shmem_enabled("advise"):
        made = World(HARDWARE_PAGE, minor=True, connected=False)
        made.memory._zeroing = Zeroing(((FOLIO, Way("folios", FOLIO)),))
        made.connect()
        yield made
        made.close()


def hears(world):
    return world.client.memory.hearing


def zero(world, first=0, count=512):
    world.memory.zero(range(count), [key(page) for page in range(first, first + count)])


def protect(world, *pages):
    return world.memory.protect(range(len(pages)), [key(page) for page in pages])


def mapped_as_a_whole(address):
    """Bytes that are mapped by huge entries of the page table, in the mapping at an address."""
    with open("/proc/self/smaps", encoding="ascii") as smaps:
        for line in smaps:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if head:
                inside = int(head[1], 16) <= address < int(head[2], 16)
            elif inside and line.startswith("ShmemPmdMapped:"):
                return int(line.split()[1]) << 10
    raise AssertionError("nothing is mapped there")


def faults(world, at_least=1):
    return [(each.page, each.kind) for each in world.client.faults(at_least)]


def test_a_touch_of_a_folio_maps_it_as_a_whole_where_the_kernel_has_one(world):
    zero(world)
    assert read(world.at(7)).result() == b"\0"
    if world.region.no_folios_until == 0 and world.held() == FOLIO:
        assert mapped_as_a_whole(world.address) == FOLIO
    write(world.at(8), b"x").result()
    assert read(world.at(8)).result() == b"x"
    assert hears(world).is_deaf(REGION)


def test_a_missing_page_of_a_deaf_region_is_reported(world):
    touch = read(world.at(600))
    assert faults(world) == [(600, MISSING)]
    zero(world, 600, 1)
    assert touch.result() == b"\0"


def test_a_page_that_is_protected_is_so_alone_and_the_region_hears(world):
    zero(world, 0, PAGES)
    write(world.at(0), b"a" * PAGES * HARDWARE_PAGE).result()
    assert protect(world, 5) == [False]
    assert not hears(world).deaf
    touch = write(world.at(5), b"b")
    found = faults(world)
    if found == [(5, MINOR)]:  # it is out of the page table, and protected there, too
        world.memory.map_again([key(5)], [False])
        found = faults(world)
    assert found == [(5, PROTECTED)]
    world.memory.restore([key(5)], [True])
    touch.result()
    assert read(world.at(5), 2).result() == b"ba"
    assert read(world.at(1030)).result() == b"a"


def test_a_page_taken_out_of_a_folio_is_heard(world):
    zero(world)
    write(world.at(3), b"x").result()
    world.memory.sample([key(3)])
    assert not hears(world).deaf
    advise(world.address, FOLIO, MADV_DONTNEED)
    touch = read(world.at(3))
    assert faults(world) == [(3, MINOR)]
    world.memory.map_again([key(3)], [True])
    assert touch.result() == b"x"


@pytest.mark.parametrize(("first", "count", "heard"), [(0, 512, False), (5, 1, True), (0, 513, True)])
def test_parts_of_folios_that_are_punched_are_heard(world, first, count, heard):
    zero(world, 0, 1024)
    write(world.at(0), b"a" * 1024 * HARDWARE_PAGE).result()
    world.memory.release([key(page) for page in range(first, first + count)])
    world.memory.settle()
    assert hears(world).is_deaf(REGION) is not heard
    touch = read(world.at(first))
    assert faults(world) == [(first, MISSING)]
    zero(world, first, count)
    assert touch.result() == b"\0"


def test_a_page_that_comes_in_protected_is_heard(world):
    assert world.fill(9, writable=False) == [None]
    assert not hears(world).deaf
    touch = write(world.at(9), b"x")
    assert faults(world) == [(9, PROTECTED)]
    world.memory.restore([key(9)], [True])
    touch.result()


def test_a_region_that_its_client_moves_hears_at_its_new_address(world):
    zero(world)
    write(world.at(0), b"a" * FOLIO).result()
    to = world.client.spare(PAGES * HARDWARE_PAGE)
    moving = remap(world.address, PAGES * HARDWARE_PAGE, to)
    world.client.wait_for_message()  # it is unfinished now
    assert protect(world, 5) in ([False], [None])  # None: from now on it hears page by page
    moving.result()
    assert protect(world, 5) == [False]
    assert not hears(world).is_deaf(REGION)
    advise(to, FOLIO, MADV_DONTNEED)
    touch = read(to + 5 * HARDWARE_PAGE)
    assert faults(world) == [(5, MINOR)]
    world.memory.map_again([key(5)], [True])
    assert touch.result() == b"a"


def test_what_is_mapped_in_the_place_of_a_part_is_not_registered(world):
    zero(world)
    write(world.at(0), b"a" * FOLIO).result()
    other = os.memfd_create("other")
    with contextlib.closing(os.fdopen(other, "wb")):
        os.ftruncate(other, 4 * HARDWARE_PAGE)
        map_memory(4 * HARDWARE_PAGE, other, world.at(100))
        assert protect(world, 5, 6, 99, 100, 101) == [False] * 5
        assert hears(world).deaf
        assert not hears(world).is_deaf(REGION)
        write(world.at(100), b"c" * 4 * HARDWARE_PAGE).result()  # nobody serves it, and it waits for nobody
    touch = write(world.at(5), b"b")
    assert set(faults(world)) <= {(5, PROTECTED), (5, MINOR)}
    world.memory.map_again([key(5)], [True])
    world.memory.restore([key(5)], [True])
    touch.result()
    world.memory.sample([key(7)])
    world.memory.release([key(99)])
    world.memory.settle()
    touch = read(world.at(99))
    assert faults(world) == [(99, MISSING)]
    zero(world, 99, 1)
    assert touch.result() == b"\0"


def test_pages_of_a_region_in_whose_place_there_is_something_else_can_be_protected_and_it_is_not_registered(world):
    zero(world)
    map_memory(PAGES * HARDWARE_PAGE, at=world.address)
    assert protect(world, 5, 6) == [True, True]
    write(world.at(5), b"b").result()


def test_a_range_that_the_kernel_does_not_register_is_not_protected(world, monkeypatch):
    zero(world)

    def refused(descriptor, address, length, *, minor):
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(hearing.uffd, "register", refused)
    assert protect(world, 5) == [None]


def test_a_region_is_told_when_touches_of_parts_that_stay_cannot_be_heard(world, monkeypatch):
    zero(world)
    world.region.unfreed = {5 * HARDWARE_PAGE: HARDWARE_PAGE}
    held = []
    world.memory.on_held = lambda region, why: held.append((region, why))
    monkeypatch.setattr(hearing.uffd, "register", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOMEM, "")))
    world.memory.release([key(5)])
    assert [region for region, _ in held] == [REGION]


def test_only_a_client_that_could_hear_is_deaf(monkeypatch):
    require_real_memory()
    monkeypatch.setattr(memory_world, "PAGES", PAGES)
    made = World(HARDWARE_PAGE, minor=False, connected=False)
    try:
        made.memory._zeroing = Zeroing(((FOLIO, Way("folios", FOLIO)),))
        made.connect()
        assert not hears(made).deaf
        assert uffd.HEARS_TOUCHES not in made.client.features
    finally:
        made.close()
