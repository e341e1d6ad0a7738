"""A client's mappings, whatever it does with them, and how pages come and go there."""

import errno
import itertools
import mmap
import os

import pytest
import structlog

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.client_world import (
    OTHER,
    PAGES,
    REGION,
    SIZE,
    Clock,
    first_byte,
    patient,
    poisoning,
    stuck,
    world,
)
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    Client,
    advise,
    make_read_only,
    map_memory,
    read,
    remap,
    unmap,
    write,
)
from usmd.core.events import PROTECTED, PageFault
from usmd.mechanism import client_memory, uffd
from usmd.mechanism.client_memory import BUSY_TRIES, STUCK_SECONDS, ClientMemory
from usmd.mechanism.uffd import Drained, Feature

__all__ = ["patient", "poisoning", "stuck", "world"]


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


# A client that is stuck in a remap


def test_a_client_that_is_stuck_in_a_remap_is_waited_for_once_and_again_after_a_while(stuck):
    assert stuck.world.copy(0) == Drained(0, errno.EAGAIN)
    waited = stuck.clock.sleeps
    assert 0 < waited <= BUSY_TRIES
    for page in range(1, 6):
        assert stuck.world.copy(page) == Drained(0, errno.EAGAIN)
        assert not stuck.world.zero(page)
    assert stuck.clock.sleeps == waited
    stuck.clock.now += STUCK_SECONDS
    stuck.world.copy(0)
    assert stuck.clock.sleeps == 2 * waited


def test_what_was_put_off_is_done_later(stuck):
    assert not stuck.world.zero(0, 3)
    assert stuck.world.held() == 0
    stuck.let_go()
    stuck.memory.retry()
    assert stuck.world.held() == 3
    stuck.memory.retry()
    assert stuck.world.held() == 3


def test_what_was_put_off_and_is_put_off_again_is_not_forgotten(stuck):
    stuck.world.zero(0, 3)
    for _ in range(3):
        stuck.memory.retry()
    stuck.let_go()
    stuck.memory.retry()
    assert stuck.world.held() == 3


def test_what_was_put_off_and_is_not_wanted_any_more_is_not_done(stuck):
    stuck.world.zero(0, 2)
    stuck.world.zero(4, 2)
    stuck.world.zero(4, 1, OTHER)
    stuck.memory.not_wanted(REGION, 4 * HARDWARE_PAGE, 2 * HARDWARE_PAGE)
    stuck.memory.not_wanted(REGION, 6 * HARDWARE_PAGE, HARDWARE_PAGE)
    stuck.let_go()
    stuck.memory.retry()
    assert (stuck.world.held(), stuck.world.held(OTHER)) == (2, 1)


def test_a_page_that_leaves_out_of_a_longer_range_put_off_does_not_take_the_others_with_it(stuck):
    """A page may leave while its neighbours' zeros are still put off; their waiters must be served yet."""
    touching = [read(stuck.world.at(page)) for page in (0, 2, 3)]
    stuck.world.client.faults(3)
    stuck.world.zero(0, 4)
    stuck.memory.not_wanted(REGION, HARDWARE_PAGE, HARDWARE_PAGE)
    stuck.let_go()
    stuck.memory.retry()
    assert stuck.world.held() == 3
    assert [touch.result() for touch in touching] == [b"\0"] * 3


def test_of_a_region_that_is_gone_what_was_put_off_is_poisoned(stuck):
    if Feature.POISON not in stuck.world.client.features:
        pytest.skip("this kernel cannot poison")
    stuck.world.zero(0, 2)
    stuck.memory.drop([REGION], ended=True)
    stuck.let_go()
    stuck.memory.retry()
    assert stuck.world.held() == 0
    assert [stuck.world.client.is_poisoned(stuck.world.at(page)) for page in (0, 1)] == [True, True]


def test_zeros_for_which_there_is_no_memory_are_put_off(world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(world.memory, "_zero_page", lambda *_: False)
        patch.setattr(uffd, "zero", lambda *_, **__: Drained(HARDWARE_PAGE, errno.ENOMEM))
        assert world.zero(0, 3)
    world.memory.retry()
    assert world.held() == 2  # the first of them is said to be done


@pytest.mark.parametrize("tries", [1, 5])
def test_protecting_is_tried_again_while_the_client_is_busy(world, monkeypatch, tries):
    monkeypatch.setattr(client_memory, "time", Clock())
    real, left = uffd.write_protect, itertools.count()

    def write_protect(*arguments, **options):
        if next(left) < tries:
            raise BlockingIOError(errno.EAGAIN, "busy")
        real(*arguments, **options)

    world.zero(2)
    monkeypatch.setattr(uffd, "write_protect", write_protect)
    assert world.protect(2)


def test_a_page_that_cannot_be_protected_is_not_said_to_be(world, monkeypatch):
    def busy(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "busy")

    clock = Clock()
    monkeypatch.setattr(client_memory, "time", clock)  # for its sleep
    monkeypatch.setattr(world.memory, "_clock", clock.monotonic)
    monkeypatch.setattr(uffd, "write_protect", busy)
    with structlog.testing.capture_logs() as logged:
        assert not world.protect(2)
        waited = clock.sleeps
        assert not world.protect(3)
    assert clock.sleeps == waited
    assert logged == []  # a client on a busy machine may be long about a remap, which is no error


def test_who_cannot_be_let_write_is_woken_and_told_again(world, monkeypatch):
    world.zero(2)
    world.protect(2)
    writing = write(world.at(2), b"w")
    assert world.client.faults() == [PageFault(REGION, 2, True, PROTECTED)]
    with monkeypatch.context() as patch:

        def busy(*_, **__):
            raise BlockingIOError(errno.EAGAIN, "busy")

        patch.setattr(uffd, "write_protect", busy)
        world.unprotect(2)
    assert world.client.faults() == [PageFault(REGION, 2, True, PROTECTED)]
    world.unprotect(2)
    writing.result()


# The descriptor, and mappings of a process


def test_the_descriptor_is_closed_and_a_refused_handshake_leaves_it_to_its_owner(world):
    before = len(os.listdir("/proc/self/fd"))
    descriptor, _ = uffd.open_userfaultfd()
    with pytest.raises(OSError, match="Invalid argument"):
        ClientMemory(descriptor, Feature(1 << 60), HARDWARE_PAGE, os.getpid())
    ClientMemory(descriptor, uffd.REQUIRED, HARDWARE_PAGE, os.getpid()).close()
    assert len(os.listdir("/proc/self/fd")) == before
