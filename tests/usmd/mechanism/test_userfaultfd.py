"""Real memory beyond what every mechanism does: clients that interfere, regions that are gone, descriptors, seals."""

import errno
import mmap
import os

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, advise, make_read_only, read, write
from tests.usmd.mechanism.memory_world import LARGE, OTHER, PAGES, REGION, World, full, key, large, small, world
from usmd.core.commands import SlotPage
from usmd.core.events import PROTECTED, PageFault
from usmd.errors import DataLoss
from usmd.mechanism.base import Stage
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.uffd import Feature
from usmd.mechanism.userfaultfd import NAME, UserfaultfdMemory

__all__ = ["large", "small", "world"]


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


# Mappings and memfds that the client has changed


def test_zeros_come_in_a_mapping_split_within_a_large_page(large):
    make_read_only(large.at(2) + 3 * HARDWARE_PAGE, HARDWARE_PAGE)
    large.memory.zero([0, 1, 2], [key(1), key(2), key(3)])
    assert [large.seen(page) for page in (1, 2, 3)] == [bytes(LARGE)] * 3


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


@pytest.mark.parametrize("page_size", [HARDWARE_PAGE, LARGE])
def test_of_pages_that_cannot_be_poisoned_the_waiters_go_on_waiting(page_size):
    require_real_memory()
    world = World(page_size, poison=False)
    assert world.memory.poison([key(2), key(1, 99), key(4)], [9, 9, 9]) == [key(2), key(4)]
    world.memory.drop_regions([REGION], ended=True)
    assert world.memory.poison([key(2)], [9]) == [key(2)]
    world.close()


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
    assert calls == [], "nothing was put off"
    monkeypatch.setattr(ClientMemory, "is_behind", True)
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
