"""Mappings that a client moves, also while their pages are filled: they are served where they are."""

import errno
import mmap
import os

import pytest

from tests.usmd.mechanism.client_world import (
    OTHER,
    PAGES,
    REGION,
    SIZE,
    first_byte,
    patient,
    world,
)
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    advise,
    map_memory,
    read,
    remap,
    unmap,
    write,
)
from usmd.core.events import PROTECTED, PageFault
from usmd.mechanism.uffd import Drained

__all__ = ["patient", "world"]


# Moves


@pytest.mark.parametrize("pages", [(0, PAGES), (0, 3), (2, 3), (5, 3)])
def test_what_was_moved_is_served_where_it_is(world, pages):
    first, count = pages
    world.copy(first + 1)
    to = world.client.spare(SIZE)
    world.client.moved(world.at(first), count * HARDWARE_PAGE, to)
    assert first_byte(to + HARDWARE_PAGE) == first + 2
    for page in range(PAGES):
        if page == first + 1:
            continue
        address = to + (page - first) * HARDWARE_PAGE if first <= page < first + count else world.at(page)
        touching = read(address)
        assert world.client.faults() == [PageFault(REGION, page, False)]
        assert world.copy(page) == Drained(HARDWARE_PAGE, 0)
        assert touching.result() == bytes([page + 1])


def test_a_range_over_moved_and_unmoved_pages_is_filled_and_protected_in_all_places(world):
    to = world.client.spare(SIZE)
    world.client.moved(world.at(2), 2 * HARDWARE_PAGE, to)
    assert world.copy(0, PAGES) == Drained(SIZE, 0)
    places = [world.at(0), world.at(1), to, to + HARDWARE_PAGE, *(world.at(page) for page in range(4, PAGES))]
    assert [first_byte(place) for place in places] == list(range(1, PAGES + 1))
    assert world.protect(0, PAGES)
    for page, place in enumerate(places):
        writing = write(place, b"w")
        assert world.client.faults() == [PageFault(REGION, page, True, PROTECTED)]
        world.unprotect(page)
        writing.result()


def test_what_is_moved_back_is_as_before(world):
    to = world.client.spare(SIZE)
    world.client.moved(world.at(2), 2 * HARDWARE_PAGE, to)
    world.client.moved(to, 2 * HARDWARE_PAGE, world.at(2))
    assert world.copy(0, PAGES) == Drained(SIZE, 0)
    assert [first_byte(world.at(page)) for page in range(PAGES)] == list(range(1, PAGES + 1))


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_moved_over_another_region_covers_it(world, whole):
    count = PAGES if whole else 3
    world.client.moved(world.at(0), count * HARDWARE_PAGE, world.at(0, OTHER))
    touching = read(world.at(1, OTHER))
    assert world.client.faults() == [PageFault(REGION, 1, False)]
    assert world.copy(1) == Drained(HARDWARE_PAGE, 0)
    assert touching.result() == b"\2"
    world.zero(0, PAGES, OTHER)  # what is nowhere is done with
    assert world.held(OTHER) == PAGES - count
    assert world.memory.mapped(OTHER)
    assert world.memory.protect(OTHER, 0, SIZE)
    if not whole:
        touching = read(world.at(4, OTHER))
        assert touching.result() == b"\0"


def test_a_region_that_was_covered_and_is_gone_is_no_trouble(world):
    world.client.moved(world.at(0), SIZE, world.at(0, OTHER))
    world.memory.drop([OTHER], ended=False)
    assert not world.memory.mapped(OTHER)
    assert world.copy(0, PAGES) == Drained(SIZE, 0)
    assert first_byte(world.at(4, OTHER)) == 5


def test_a_new_region_in_the_place_of_one_that_was_unmapped_is_found_there(world):
    unmap(world.at(0, OTHER), SIZE)
    memfd = os.memfd_create("third")
    os.ftruncate(memfd, SIZE)
    map_memory(SIZE, memfd, at=world.at(0, OTHER))
    world.memory.register(9, world.at(0, OTHER), SIZE)
    touching = read(world.at(3, OTHER))
    assert world.client.faults() == [PageFault(9, 3, False)]
    assert world.memory.zero(9, 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    touching.result()
    assert not world.memory.zero(OTHER, 0, SIZE)
    os.close(memfd)


@pytest.mark.parametrize("what", ["copy", "zero"])
@pytest.mark.parametrize("pages", [1, 3])
def test_a_fill_during_a_remap_of_other_pages_is_done(world, patient, what, pages):
    to = world.client.spare(SIZE)
    moving = remap(world.at(5), 2 * HARDWARE_PAGE, to)
    world.client.wait_for_message()
    answer = getattr(world, what)(0, pages)
    assert answer == (Drained(pages * HARDWARE_PAGE, 0) if what == "copy" else True)
    assert moving.result() == to
    assert first_byte(world.at(0)) == (1 if what == "copy" else 0)
    world.zero(5, 2)
    assert first_byte(to) == 0


@pytest.mark.parametrize("pages", [1, 3])
def test_a_copy_during_a_remap_of_the_very_pages_is_done_where_they_go(world, pages):
    to = world.client.spare(SIZE)
    moving = remap(world.at(0), pages * HARDWARE_PAGE, to)
    world.client.wait_for_message()
    done, error = 0, errno.EAGAIN
    while error == errno.EAGAIN:
        rest = pages * HARDWARE_PAGE - done
        part, error = world.memory.copy(REGION, done, rest, world.source + done, writable=True)
        done += part
    assert moving.result() == to
    assert (done, error) == (pages * HARDWARE_PAGE, 0)
    assert [first_byte(to + page * HARDWARE_PAGE) for page in range(pages)] == list(range(1, pages + 1))


@pytest.mark.parametrize("pages", [1, 3])
def test_zeros_during_a_remap_of_the_very_pages_can_be_had_where_they_go(world, pages):
    to = world.client.spare(SIZE)
    moving = remap(world.at(0), pages * HARDWARE_PAGE, to)
    world.client.wait_for_message()
    filled = world.zero(0, pages)
    assert moving.result() == to
    for page in range(pages):
        touching = read(to + page * HARDWARE_PAGE)
        if not filled:  # then it is told again
            assert world.client.faults() == [PageFault(REGION, page, False)]
            assert world.zero(page)
        assert touching.result() == b"\0"


def test_faults_that_are_read_in_the_middle_of_a_fill_are_told_later_and_at_once(world):
    early = []
    world.memory.on_early = lambda: early.append(1)
    touching = read(world.at(6))
    world.client.wait_for_message()
    moving = remap(world.at(4), HARDWARE_PAGE, world.client.spare(SIZE))
    while True:  # until the kernel refuses fills because of the remap
        world.memory.zero(REGION, 0, HARDWARE_PAGE)
        if early:
            break
        advise(world.at(0), HARDWARE_PAGE, mmap.MADV_REMOVE)
    assert world.memory.read() == [PageFault(REGION, 6, False)]
    moving.result()
    world.zero(6)
    assert touching.result() == b"\0"
