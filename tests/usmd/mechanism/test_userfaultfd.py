"""Real memory beyond what every mechanism does: clients that interfere, regions that are gone, descriptors, seals."""

import errno
import mmap
import os

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    advise,
    make_read_only,
    read,
    remap,
    unmap,
    write,
)
from tests.usmd.mechanism.memory_world import LARGE, OTHER, PAGES, REGION, World, key, large, small, world
from usmd.core.commands import SlotPage
from usmd.core.events import PROTECTED, PageFault
from usmd.errors import DataLoss, SwapIOError, Unmapped
from usmd.mechanism import userfaultfd
from usmd.mechanism.base import Busy, Stage
from usmd.mechanism.uffd import Drained, Feature
from usmd.mechanism.userfaultfd import NAME, UserfaultfdMemory

__all__ = ["large", "small", "world"]


def full(page, world):
    return bytes([page + 1]) * world.page_size


def kinds(errors):
    return [type(error) for error in errors]


# Residency


def test_the_residency_map_says_which_pages_are_there(world):
    assert world.resident() == []
    world.memory.zero([0, 1], [key(1), key(2)])
    world.memory.zero([2], [key(5)])
    assert world.fill(6, 7) == [None, None]
    assert world.resident() == [1, 2, 5, 6, 7]
    world.memory.protect([0, 1], [key(1), key(6)])
    assert world.resident() == [2, 5, 7]  # on their way out
    world.memory.restore([key(6)], [False])
    assert world.resident() == [2, 5, 6, 7]
    world.memory.release([key(2), key(5)])
    assert world.resident() == [6, 7]


def test_a_page_that_could_not_be_read_is_not_resident(world):
    error = DataLoss("damaged")
    assert world.memory.fill(world.stage(1, 2, 3), [None, error, None]) == [None, error, None]
    assert world.resident() == [1, 3]
    assert world.held() == 2 * world.page_size


# Pages that the client has put there


def test_a_page_that_the_client_has_put_there_is_punched_and_brought_in_at_the_next_try(small):
    small.client_writes_into_the_memfd(2)
    stage = small.stage(2)
    errors = small.memory.fill(stage, [None])
    assert kinds(errors) == [Busy]
    assert small.memory.fill(stage, errors) == [None]
    assert small.seen(2) == full(2, small)


def test_of_several_pages_those_before_are_there_and_the_others_come_at_the_next_try(small):
    small.client_writes_into_the_memfd(3)
    stage = small.stage(1, 2, 3, 4)
    errors = small.memory.fill(stage, [None] * 4)
    assert kinds(errors) == [type(None), type(None), Busy, Busy]
    assert small.resident() == [1, 2]
    while any(errors):
        errors = small.memory.fill(stage, errors)
    assert small.resident() == [1, 2, 3, 4]
    assert [small.seen(page) for page in (1, 2, 3, 4)] == [full(page, small) for page in (1, 2, 3, 4)]


@pytest.mark.parametrize("pages", [(1, 5), (5, 1), (1, 2, 5), (1, 3, 5, 6)])
def test_what_is_written_to_a_page_that_came_is_not_lost_when_another_is_tried_again(world, pages):
    world.client_writes_into_the_memfd(5)
    stage = world.stage(*pages)
    errors = world.memory.fill(stage, [None] * len(pages))
    assert Busy in kinds(errors)
    there = [page for page, error in zip(pages, errors, strict=True) if error is None]
    assert 1 in there
    for page in there:
        write(world.at(page), b"written").result()
    while any(errors):
        assert set(kinds(errors)) <= {Busy, type(None)}
        errors = world.memory.fill(stage, errors)
    for page in pages:
        assert world.seen(page)[:7] == (b"written" if page in there else bytes([page + 1]) * 7)


def test_an_error_of_the_read_stays_that_over_the_tries(small):
    small.client_writes_into_the_memfd(3)
    stage = small.stage(2, 3, 4)
    damaged = DataLoss("damaged")
    errors = small.memory.fill(stage, [damaged, None, None])
    assert errors[0] is damaged
    assert kinds(errors[1:]) == [Busy, Busy]
    assert small.memory.fill(stage, errors) == [damaged, None, None]
    assert small.resident() == [3, 4]


@pytest.mark.parametrize("page_size", [HARDWARE_PAGE, LARGE])
def test_a_client_that_puts_the_page_there_again_and_again_gets_an_error_in_the_end(page_size, monkeypatch):
    require_real_memory()
    monkeypatch.setattr(userfaultfd, "MAX_BUSY", 7)
    world = World(page_size)
    stage = world.stage(2)
    errors = [None]
    tries = 0
    while tries == 0 or isinstance(errors[0], Busy):
        world.client_writes_into_the_memfd(2)
        errors = world.memory.fill(stage, errors)
        tries += 1
        assert tries <= 7
    assert tries == 7
    assert kinds(errors) == [SwapIOError]
    assert "File exists" in str(errors[0])
    with pytest.raises(ValueError, match="released"):
        bytes(stage.buffers[0])
    world.close()


@pytest.mark.parametrize("part", [0, 1, 7, 15])
def test_of_a_large_page_what_was_copied_is_not_copied_again(large, part):
    large.client_writes_into_the_memfd(2, offset=part * HARDWARE_PAGE)
    stage = large.stage(2)
    errors = large.memory.fill(stage, [None])
    assert kinds(errors) == [Busy]
    assert large.resident() == []
    assert large.held() == part * HARDWARE_PAGE
    assert large.memory.fill(stage, errors) == [None]
    assert large.seen(2) == full(2, large)
    assert large.resident() == [2]


def test_of_large_pages_each_comes_whole_whatever_the_client_put_where(large):
    places = {(1, 3), (1, 9), (2, 0), (4, 15)}
    for page, part in places:
        large.client_writes_into_the_memfd(page, offset=part * HARDWARE_PAGE)
    stage = large.stage(1, 2, 3, 4, writable=False)
    errors = large.memory.fill(stage, [None] * 4)
    tries = 1
    while any(errors):
        assert set(kinds(errors)) <= {Busy, type(None)}, errors
        errors = large.memory.fill(stage, errors)
        tries += 1
    assert tries <= len(places) + 1
    assert [large.seen(page) for page in (1, 2, 3, 4)] == [full(page, large) for page in (1, 2, 3, 4)]
    assert large.resident() == [1, 2, 3, 4]


def test_a_remap_that_does_not_end_holds_a_page_up_and_is_tried_again(world, monkeypatch):
    answers = [Drained(0, errno.EAGAIN), Drained(0, errno.EAGAIN)]
    real = world.client.memory.copy

    def copy(*arguments, **options):
        return answers.pop() if answers else real(*arguments, **options)

    monkeypatch.setattr(world.client.memory, "copy", copy)
    stage = world.stage(1, 2)
    errors = [None, None]
    for _ in range(2):
        errors = world.memory.fill(stage, errors)
        assert kinds(errors) == [Busy, Busy]
    assert world.memory.fill(stage, errors) == [None, None]
    assert world.seen(2) == full(2, world)


def test_another_error_of_the_kernel_is_told(world, monkeypatch):
    monkeypatch.setattr(world.client.memory, "copy", lambda *_, **__: Drained(0, errno.ENOMEM))
    (error,) = world.fill(1)
    assert type(error) is SwapIOError
    assert "cannot be brought in: Cannot allocate memory" in str(error)


# Mappings that the client has changed


def test_where_the_client_has_unmapped_a_page_cannot_come_and_the_others_do(world):
    unmap(world.at(2), world.page_size)
    assert kinds(world.fill(1, 2, 3)) == [type(None), Unmapped, type(None)]
    assert world.resident() == [1, 3]
    assert kinds(world.fill(2)) == [Unmapped]


def test_in_a_mapping_split_between_pages_they_come_one_by_one(world):
    make_read_only(world.at(2), world.page_size)
    assert world.fill(*range(PAGES)) == [None] * PAGES
    assert [world.seen(page) for page in range(PAGES)] == [full(page, world) for page in range(PAGES)]


def test_in_a_mapping_split_within_a_large_page_it_comes_all_the_same(large):
    make_read_only(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    assert large.fill(1, 2, 3) == [None] * 3
    assert [large.seen(page) for page in (1, 2, 3)] == [full(page, large) for page in (1, 2, 3)]


def test_zeros_come_in_a_mapping_split_within_a_large_page(large):
    make_read_only(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    large.memory.zero([0, 1, 2], [key(1), key(2), key(3)])
    assert [large.seen(page) for page in (1, 2, 3)] == [bytes(LARGE)] * 3


def test_of_a_large_page_that_was_unmapped_in_part_the_rest_comes(large):
    """munmap gives up what it unmaps and nothing else."""
    unmap(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    large.fill(2)
    touching = read(large.at(2) + 4 * HARDWARE_PAGE)
    assert touching.result() == b"\3"


def test_pages_that_were_moved_come_where_they_are(world):
    to = world.client.spare(PAGES * world.page_size)
    world.client.moved(world.at(2), 2 * world.page_size, to)
    assert world.fill(*range(PAGES)) == [None] * PAGES
    assert read(to, 2 * world.page_size).result() == full(2, world) + full(3, world)
    assert world.seen(4) == full(4, world)


def test_a_large_page_that_was_moved_in_part_comes_in_both_places(large):
    to = large.client.spare(LARGE)
    large.client.moved(large.at(2) + 4 * HARDWARE_PAGE, 4 * HARDWARE_PAGE, to)
    assert large.fill(1, 2, 3) == [None] * 3
    assert read(to, 4 * HARDWARE_PAGE).result() == full(2, large)[: 4 * HARDWARE_PAGE]
    assert read(large.at(2) + 8 * HARDWARE_PAGE, 8 * HARDWARE_PAGE).result() == full(2, large)[: 8 * HARDWARE_PAGE]


@pytest.mark.parametrize("pages", [1, 2])
def test_a_page_that_is_moved_while_it_comes_in_is_not_lost(world, pages):
    to = world.client.spare(PAGES * world.page_size)
    moving = remap(world.at(2), 2 * world.page_size, to)
    world.client.wait_for_message()
    stage = world.stage(*range(2, 2 + pages))
    errors = world.memory.fill(stage, [None] * pages)
    while any(isinstance(error, Busy) for error in errors):
        errors = world.memory.fill(stage, errors)
    assert moving.result() == to
    assert errors == [None] * pages
    assert read(to, world.page_size).result() == full(2, world)


def test_what_the_client_has_emptied_is_told_by_wake_and_holds_zeros(world):
    world.fill(1, 2, 3)
    advise(world.at(2), world.page_size, mmap.MADV_REMOVE)
    touching = read(world.at(2))
    assert world.client.faults() == [PageFault(REGION, 2, False)]
    assert world.memory.wake([key(1), key(2), key(3)]) == [key(2)]
    assert touching.result() == b"\0"
    assert world.seen(1) == full(1, world)


# Connecting


def test_pages_that_are_there_when_the_client_comes_are_protected(world):
    later = World(world.page_size, connected=False)
    later.memory.zero([0], [key(2)])
    later.fill(1, 5, 6)
    later.connect()
    for page in (1, 5, 6):
        writing = write(later.at(page), b"w")
        assert later.client.faults() == [PageFault(REGION, page, True, PROTECTED)]
        later.memory.restore([key(page)], [True])
        writing.result()
    touching = read(later.at(3))
    assert later.client.faults() == [PageFault(REGION, 3, False)]
    later.memory.zero([2], [key(3)])
    touching.result()
    assert later.seen(5) == b"w" + full(5, later)[1:]
    writing = write(later.at(2), b"w")  # zeros without a client are a hole
    assert later.client.faults() == [PageFault(REGION, 2, True)]
    assert later.memory.wake([key(2)]) == [key(2)]
    assert later.client.faults() == [PageFault(REGION, 2, True, PROTECTED)]  # its first write is heard of
    later.memory.restore([key(2)], [True])
    writing.result()
    later.close()


def test_a_range_that_the_kernel_does_not_take_is_an_error_and_the_region_has_no_client(world):
    later = World(world.page_size, connected=False)
    with pytest.raises(OSError, match="Invalid argument"):
        later.memory.connect(later.region, later.client.memory, later.address + 1)
    assert later.region.client is None
    assert later.fill(1) == [None]
    later.close()


def test_a_region_that_cannot_be_protected_now_is_mapped_nowhere_and_can_be_once_more(world, monkeypatch):
    later = World(world.page_size, connected=False)
    later.fill(1)
    with monkeypatch.context() as patched:
        patched.setattr(later.client.memory, "protect", lambda region, offset, length: False)
        with pytest.raises(OSError, match="cannot be protected now"):
            later.connect()
    assert later.region.client is None
    assert not later.client.memory.mapped(REGION)
    later.connect()
    writing = write(later.at(1), b"w")
    assert later.client.faults() == [PageFault(REGION, 1, True, PROTECTED)]
    later.memory.restore([key(1)], [True])
    writing.result()
    later.close()


def test_a_client_that_has_gone_is_not_served_and_its_pages_are_there_for_calls(world):
    world.fill(1)
    world.memory.disconnect(world.client.memory)
    assert world.region.client is None
    world.memory.zero([0], [key(2)])
    assert world.fill(3) == [None]
    assert world.memory.load([0], key(3), 0, world.page_size) == full(3, world)
    assert list(world.memory.protect([0, 1], [key(2), key(3)])) == [True, False]
    world.memory.release([key(3)])
    assert world.resident() == [1]
    assert world.memory.poison([key(4)], [9]) == []


# Poison


def needs_poison(world):
    if Feature.POISON not in world.client.features:
        pytest.skip("this kernel cannot poison")


def test_poison_ends_the_wait_for_each_hardware_page_of_it(world):
    needs_poison(world)
    last = world.page_size - HARDWARE_PAGE
    touching = world.client.wait_in_system_call(world.at(2) + last)
    world.client.wait_for_message()
    world.client.memory.read()
    assert world.memory.poison([key(2)], [9]) == []
    assert world.region.residency[PAGES : 2 * PAGES] == b"\0\0\x09" + bytes(PAGES - 3), "why, for its client"
    assert touching.result() == errno.EFAULT
    assert world.client.is_poisoned(world.at(2))
    assert not world.client.is_poisoned(world.at(3))


@pytest.mark.parametrize("ended", [False, True])
def test_poison_also_reaches_the_pages_of_regions_that_are_gone(world, ended):
    needs_poison(world)
    touching = world.client.wait_in_system_call(world.at(2))
    world.client.faults()
    world.memory.drop_regions([REGION], ended=ended)
    assert not touching.done
    assert world.memory.poison([key(2), key(5), key(1, 99)], [9, 9, 9]) == []
    assert touching.result() == errno.EFAULT
    assert [world.client.is_poisoned(world.at(page)) for page in (2, 5, 6)] == [True, True, False]
    world.memory.disconnect(world.client.memory)
    assert world.memory.poison([key(2)], [9]) == []


def test_of_pages_that_cannot_be_poisoned_the_waiters_go_on_waiting(world, monkeypatch):
    monkeypatch.setattr(world.client.memory, "features", Feature(0))
    assert world.memory.poison([key(2), key(1, 99), key(4)], [9, 9, 9]) == [key(2), key(4)]
    world.memory.drop_regions([REGION], ended=True)
    assert world.memory.poison([key(2)], [9]) == [key(2)]


def test_poison_of_a_page_in_a_mapping_split_within_it_is_over_all_of_it(large):
    needs_poison(large)
    make_read_only(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    assert large.memory.poison([key(2)], [9]) == []
    assert [large.client.is_poisoned(large.at(2) + part * HARDWARE_PAGE) for part in range(16)] == [True] * 16


# Regions that go


@pytest.mark.parametrize("ended", [False, True])
def test_a_region_that_goes_takes_no_memory_whoever_maps_it(world, ended):
    world.fill(*range(PAGES))
    residency = os.dup(world.region.residency_fd)
    world.memory.drop_regions([REGION], ended=ended)
    assert world.memory.region(REGION) is None
    world.memory.finish()
    assert world.held() == 0
    assert os.pread(residency, PAGES, 0) == bytes(PAGES)
    os.close(residency)


def test_a_region_that_goes_while_it_is_written_to_swap_leaves_the_writer_its_bytes_or_zeros(world):
    world.fill(1)
    world.memory.protect([0], [key(1)])
    with world.memory.source(SlotPage(0, 0, 1, key(1), 1)) as source:
        world.memory.drop_regions([REGION], ended=True)
        assert bytes(source) in (full(1, world), bytes(world.page_size))


def test_a_protected_page_is_read_once_for_the_check_and_the_write(world, monkeypatch):
    world.fill(1, 2, 3)
    reads = []
    monkeypatch.setattr(
        type(world.region),
        "read",
        lambda region, start, size: reads.append(size) or os.pread(region.memfd, size, start),
    )
    pages = [SlotPage(0, 0, 1, key(page), 1) for page in (1, 2, 3)]
    assert list(world.memory.protect([0, 1, 2], [page.page for page in pages])) == [False] * 3
    assert reads == [3 * world.page_size]
    assert [bytes(world.memory.source(page)) for page in pages] == [full(page, world) for page in (1, 2, 3)]
    assert len(reads) == 1
    assert bytes(world.memory.source(pages[0])) == full(1, world), "a second write reads the page again"
    assert len(reads) == 2


def test_a_page_that_was_restored_is_written_as_it_is_then(world):
    world.fill(1)
    page = SlotPage(0, 0, 1, key(1), 1)
    world.memory.protect([0], [key(1)])
    world.memory.restore([key(1)], [True])
    world.memory.store([0], key(1), 0, memoryview(b"new"))
    assert bytes(world.memory.source(page))[:3] == b"new"
    world.memory.store([0], key(1), 0, memoryview(bytes(world.page_size)))
    assert list(world.memory.protect([0], [key(1)])) == [True]
    assert bytes(world.memory.source(page)) == bytes(world.page_size)


def test_a_command_goes_on_past_regions_that_are_gone(world):
    world.memory.add_region(OTHER, 1, PAGES)
    world.memory.zero([0, 1, 2], [key(1, 99), key(1, OTHER), key(2, OTHER)])
    other = world.memory.region(OTHER)
    assert [page for page in range(PAGES) if other.residency[page]] == [1, 2]
    assert list(world.memory.protect([0, 1, 2], [key(1, 99), key(1, OTHER), key(5)])) == [None, True, True]
    world.memory.restore([key(1, 99), key(1, OTHER)], [True, True])
    world.memory.release([key(1, 99), key(1, OTHER)])
    assert [page for page in range(PAGES) if other.residency[page]] == [2]


def test_a_page_that_cannot_be_protected_keeps_its_place(world, monkeypatch):
    world.fill(1, 2)
    monkeypatch.setattr(world.client.memory, "protect", lambda *_: False)
    assert list(world.memory.protect([0, 1], [key(1), key(2)])) == [None, None]
    assert world.resident() == [1, 2]


def test_what_was_put_off_is_done_by_ticks_also_for_regions_that_are_gone(world, monkeypatch):
    calls = []
    monkeypatch.setattr(world.client.memory, "retry", lambda: calls.append(1))
    world.memory.tick()
    world.memory.add_region(OTHER, 1, 1)
    world.memory.tick()
    world.memory.drop_regions([REGION], ended=True)
    world.memory.tick()
    assert len(calls) == 3
    world.memory.disconnect(world.client.memory)
    world.memory.tick()
    assert len(calls) == 3


# Descriptors and memory of the daemon's own


def test_its_name_is_that_of_the_configuration():
    assert UserfaultfdMemory(HARDWARE_PAGE).name == NAME == "userfaultfd"


def test_a_stage_of_another_mechanism_is_refused(world):
    with pytest.raises(TypeError, match="not a stage of this mechanism"):
        world.memory.fill(Stage([], []), [])
