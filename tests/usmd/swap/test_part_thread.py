"""Threads of a mirror: what is discarded while it is written, and how they end."""

import threading

import pytest

from tests.support.failing_device import FailingDevice
from usmd.swap.copies import Copies
from usmd.swap.part_thread import Parts, PartThread
from usmd.swap.reachable import Reachable

SECONDS = 60


class World:
    """A thread that runs until it is closed, on the far part."""

    def __init__(self):
        far, local = (FailingDevice(name, slots=8, page_size=16) for name in ("far", "local"))
        self.discarded = []
        far.discard = self.discarded.extend
        self.ends = threading.Event()
        self.one = PartThread(Parts(far, local, Copies(8), Reachable(), 1, lambda: 0.0), far, self.run)

    def run(self):
        with self.one._changed:
            self.one._changed.wait_for(lambda: self.one._closed)
        self.ends.wait(SECONDS)


@pytest.fixture
def world():
    return World()


def test_slots_that_are_being_written_are_discarded_later_and_others_at_once(world):
    world.one._active = {2, 3}
    world.one.discard([1, 2])
    assert (world.discarded, world.one._discarded) == ([1], [2])
    world.one.discard([4, 5])
    assert (world.discarded, world.one._discarded) == ([1, 4, 5], [2])


def test_a_thread_that_never_began_has_ended(world):
    assert world.one.close(0.0)
    assert not world.one._thread.is_alive()


def test_a_thread_ends_when_it_is_told_to_and_what_hangs_is_told(world):
    world.one._thread.start()
    assert not world.one.close(0.0)
    world.ends.set()
    assert world.one.close(SECONDS)


def test_a_defect_is_logged_with_the_part_and_its_traceback(world, capsys):
    try:
        1 / 0  # noqa: B018 - a defect
    except ZeroDivisionError:
        world.one._defect()
    said = capsys.readouterr().out
    assert all(each in said for each in ("swap_device_defect", "far", "ZeroDivisionError"))
