"""Poison for missing pages, wherever a client has moved them, and what is put off while it is stuck in a remap."""

import errno
import mmap

import pytest
import structlog

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.client_world import OTHER, REGION, SIZE, World, first_byte, patient, poisoning, stuck, world
from tests.usmd.mechanism.mapped import HARDWARE_PAGE, advise, read, remap, unmap, write
from usmd.core.events import PROTECTED, PageFault
from usmd.mechanism import poisoning as poisoning_module
from usmd.mechanism import uffd
from usmd.mechanism.uffd import Drained, Feature

__all__ = ["patient", "poisoning", "stuck", "world"]


def test_poison_is_for_missing_pages_only(poisoning):
    poisoning.copy(2)
    assert poisoning.poison(0, 5)
    assert [poisoning.client.is_poisoned(poisoning.at(page)) for page in range(5)] == [True, True, False, True, True]
    assert first_byte(poisoning.at(2)) == 3
    assert poisoning.memory.read() == []


def test_poison_goes_over_the_mark_that_a_missing_page_was_protected(poisoning):
    poisoning.copy(1)
    assert poisoning.protect(0, 4)
    advise(poisoning.at(1), HARDWARE_PAGE, mmap.MADV_REMOVE)
    assert poisoning.poison(0, 4)
    assert [poisoning.client.is_poisoned(poisoning.at(page)) for page in range(4)] == [True] * 4


def test_who_waits_for_a_page_that_is_poisoned_gets_an_error(poisoning):
    poisoning.protect(3)
    touches = [poisoning.client.wait_in_system_call(poisoning.at(page)) for page in (2, 3)]
    poisoning.client.faults(2)
    assert poisoning.poison(2, 2)
    assert [touch.result() for touch in touches] == [errno.EFAULT, errno.EFAULT]


def test_poison_finds_pages_that_were_moved(poisoning):
    to = poisoning.client.spare(SIZE)
    poisoning.client.moved(poisoning.at(2), 2 * HARDWARE_PAGE, to)
    assert poisoning.poison(0, 5)
    places = [poisoning.at(0), poisoning.at(1), to, to + HARDWARE_PAGE, poisoning.at(4)]
    assert [poisoning.client.is_poisoned(place) for place in places] == [True] * 5


def test_poison_of_what_is_nowhere_has_nothing_to_do(poisoning):
    unmap(poisoning.at(1), HARDWARE_PAGE)
    assert poisoning.poison(1)
    assert poisoning.memory.poison(1234, 0, HARDWARE_PAGE)


@pytest.mark.parametrize("known", [True, False])
def test_all_that_is_missing_is_poisoned_when_nobody_serves_any_more(poisoning, known, monkeypatch):
    poisoning.copy(1)
    unmap(poisoning.at(5), HARDWARE_PAGE)
    to = poisoning.client.spare(SIZE)
    poisoning.client.moved(poisoning.at(2), HARDWARE_PAGE, to)
    if not known:
        monkeypatch.setattr(poisoning_module, "mappings_of", lambda pid: None)
    poisoning.memory.poison_all()
    places = [poisoning.at(0), to, poisoning.at(3), poisoning.at(4)]
    assert [poisoning.client.is_poisoned(place) for place in places] == [True] * 4
    assert first_byte(poisoning.at(1)) == 2
    assert poisoning.client.is_poisoned(poisoning.at(0, OTHER))
    if known:
        assert poisoning.client.is_poisoned(poisoning.at(7))


def test_without_the_feature_nobody_gets_an_error():
    require_real_memory()
    world = World(poison=False)
    assert not world.poison(1)
    world.memory.poison_all()
    world.memory.drop([REGION], ended=True)
    touching = read(world.at(1))
    world.client.wait_for_message()
    assert world.memory.read() == []
    assert not touching.done
    world.client.stop_serving()  # then there is no userfaultfd
    assert touching.result() == b"\0"
    world.close()


def test_poison_during_a_remap_of_the_very_page_is_where_it_goes(poisoning, patient):
    to = poisoning.client.spare(SIZE)
    moving = remap(poisoning.at(0), HARDWARE_PAGE, to)
    poisoning.client.wait_for_message()
    assert poisoning.poison(0)
    assert moving.result() == to
    assert poisoning.client.is_poisoned(to)


# Poison that is put off


def test_poison_that_is_put_off_is_done_later(stuck):
    if Feature.POISON not in stuck.world.client.features:
        pytest.skip("this kernel cannot poison")
    assert stuck.world.poison(0, 2)
    stuck.let_go()
    stuck.memory.retry()
    assert [stuck.world.client.is_poisoned(stuck.world.at(page)) for page in (0, 1)] == [True, True]


@pytest.mark.parametrize("fill", ["copy", "zero"])
def test_what_is_brought_in_while_its_poison_is_put_off_is_poisoned_no_more_and_its_writes_are_heard_of(stuck, fill):
    if Feature.POISON not in stuck.world.client.features:
        pytest.skip("this kernel cannot poison")
    world = stuck.world
    assert world.poison(0, 3)
    stuck.let_go()
    if fill == "copy":
        assert world.copy(1, writable=False) == Drained(HARDWARE_PAGE, 0)
    else:
        assert world.zero(1)
        assert world.protect(1)
    world.memory.retry()
    assert [world.client.is_poisoned(world.at(page)) for page in (0, 2)] == [True, True]
    writing = write(world.at(1), b"w")
    assert world.client.faults() == [PageFault(REGION, 1, True, PROTECTED)]
    world.unprotect(1)
    writing.result()


def test_poison_of_a_page_whose_mark_cannot_be_taken_away_is_done_later(poisoning, monkeypatch):
    def busy(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "busy")

    assert poisoning.protect(0)
    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logged:
        patch.setattr(uffd, "write_protect", busy)
        assert poisoning.poison(0)
        poisoning.memory.retry()
    assert not poisoning.client.is_poisoned(poisoning.at(0))
    poisoning.memory.retry()
    assert poisoning.client.is_poisoned(poisoning.at(0))
    assert logged == []
