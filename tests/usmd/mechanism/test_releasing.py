"""Punches in the background: nothing that comes in meanwhile is lost, and clients that delay one are ended."""

import errno
import os
import threading

import pytest

from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import HARDWARE_PAGE
from tests.usmd.mechanism.memory_world import OTHER, REGION, World, full, key, small, world
from usmd.mechanism import off_loop, releasing

__all__ = ["small", "world"]


class Punch:
    """A punch that waits until somebody waits for it."""

    def __init__(self, monkeypatch):
        self.may_go = threading.Event()
        self.done = 0
        monkeypatch.setattr(releasing, "punch", self._punch)
        monkeypatch.setattr(off_loop._Thread, "waits_for_a_lock", lambda _: self._waited_for())

    def _punch(self, memfd, runs):
        assert self.may_go.wait(60)
        off_loop.punch(memfd, runs)
        self.done += 1

    def _waited_for(self):
        self.may_go.set()
        return False


@pytest.fixture
def punch(monkeypatch):
    made = Punch(monkeypatch)
    yield made
    made.may_go.set()


def leave(world, *pages):
    """Pages that were there leave; their punch is under way."""
    world.region.share()
    world.fill(*pages, writable=False)
    world.memory.protect(list(pages), [key(page) for page in pages])
    world.memory.release([key(page) for page in pages])


def test_a_release_waits_for_nothing_and_pages_elsewhere_come_in_meanwhile(world, punch):
    leave(world, 2, 5)
    world.memory.zero([3], [key(3)])
    assert world.fill(1, 4) == [None, None]
    assert punch.done == 0
    assert world.resident() == [1, 3, 4]
    world.memory.settle()
    assert punch.done == 1
    assert world.held() == 3 * world.page_size
    assert [world.seen(page) for page in (1, 3, 4)] == [full(1, world), bytes(world.page_size), full(4, world)]


@pytest.mark.parametrize("connected", [True, False])
def test_a_page_that_comes_back_is_what_came_and_not_what_was_there(punch, connected):
    require_real_memory()
    world = World(HARDWARE_PAGE, connected=connected)
    try:
        leave(world, 2, 3, 4)
        assert world.memory.load([0], key(3), 0, 1) == b"\4"  # it is still there
        world.memory.zero([3], [key(3)])
        assert punch.done == 1
        assert world.memory.load([0], key(3), 0, HARDWARE_PAGE) == bytes(HARDWARE_PAGE)
        assert world.fill(2, 4) == [None, None]
        world.memory.settle()
        assert [world.memory.load([0], key(page), 0, 1) for page in (2, 4)] == [b"\3", b"\5"]
    finally:
        punch.may_go.set()
        world.close()


def test_a_run_of_pages_that_comes_back_in_part_waits_too(world, punch):
    leave(world, 5)
    assert world.fill(3, 4, 5, 6) == [None] * 4
    assert punch.done == 1
    assert [world.seen(page) for page in (3, 4, 5, 6)] == [full(page, world) for page in (3, 4, 5, 6)]


def test_the_next_release_waits_for_the_one_before(world, punch):
    leave(world, 2)
    world.fill(4)
    world.memory.release([key(4)])
    assert punch.done >= 1
    world.memory.settle()
    assert (punch.done, world.held()) == (2, 0)


def test_another_region_is_not_held_up(small, punch):
    small.memory.add_region(OTHER, 1, 8)
    leave(small, 2)
    small.memory.zero([1], [key(2, OTHER)])
    assert punch.done == 0
    assert small.memory.region(OTHER).residency[2] == 1


def test_a_page_that_is_to_be_poison_is_missing_first(small, punch):
    leave(small, 2)
    assert small.memory.poison([key(2)], [0]) == []
    assert punch.done == 1
    small.memory.settle()
    assert small.held() == 0


def test_a_region_that_goes_and_a_tick_wait_for_it(small, punch):
    leave(small, 2)
    small.memory.tick()
    assert punch.done == 1
    punch.may_go.clear()
    leave(small, 3)
    small.memory.drop_regions([REGION], ended=False)
    assert punch.done == 2


def test_a_punch_that_fails_ends_the_client(small, monkeypatch):
    told = []
    small.memory.on_held = lambda region, why: told.append((region, why))
    small.region.share()
    small.fill(2)

    def fails(memfd, runs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(releasing, "punch", fails)
    small.memory.release([key(2)])
    small.memory.settle()
    assert told == [(REGION, "its memory cannot be given back: Input/output error")]


def test_a_run_of_zeros_over_a_page_that_left_waits_too(world, punch):
    leave(world, 4)
    world.memory.zero([0, 1, 2], [key(3), key(4), key(5)])
    assert punch.done == 1
    assert [world.seen(page) for page in (3, 4, 5)] == [bytes(world.page_size)] * 3
