"""A client that is stuck in a remap: what is put off, when it is done, and who is told what meanwhile."""

import errno
import itertools

import pytest
import structlog

from tests.usmd.mechanism.client_world import (
    OTHER,
    REGION,
    Clock,
    stuck,
    world,
)
from tests.usmd.mechanism.mapped import (
    HARDWARE_PAGE,
    read,
    write,
)
from usmd.core.events import PROTECTED, PageFault
from usmd.mechanism import client_memory, uffd
from usmd.mechanism.client_memory import BUSY_TRIES, STUCK_SECONDS
from usmd.mechanism.uffd import Drained, Feature

__all__ = ["stuck", "world"]


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
