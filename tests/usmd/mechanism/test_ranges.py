"""Single calls on a client's addresses, and which of their failures are told."""

import errno
import os

import pytest
from structlog.testing import capture_logs

from tests.usmd.mechanism.memory_world import small
from usmd.mechanism import ranges, uffd

__all__ = ["small"]


@pytest.fixture
def logged():
    with capture_logs() as lines:
        yield lines


def test_the_kernel_knows_pages_of_regions_and_no_others(small):
    descriptor = small.client.memory.descriptor
    assert ranges.is_registered(descriptor, small.at(0))
    assert not ranges.is_registered(descriptor, small.address - small.page_size)


@pytest.mark.parametrize(("error", "told"), [(errno.ENOENT, False), (errno.ESRCH, False), (errno.EFAULT, True)])
def test_a_failure_is_told_unless_the_range_is_gone(logged, error, told):
    ranges.refused("wake", error)
    found = [(each["operation"], each["error"]) for each in logged if each["event"] == "userfaultfd_refused"]
    assert found == ([("wake", "EFAULT")] if told else [])


def test_an_unfinished_remap_is_no_failure_of_unprotect_and_not_done(small, monkeypatch, logged):
    def busy(*_, **__):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    assert ranges.unprotect(small.client.memory.descriptor, small.at(0), small.page_size)
    monkeypatch.setattr(uffd, "write_protect", busy)
    assert not ranges.unprotect(small.client.memory.descriptor, small.at(0), small.page_size)
    assert logged == []


def test_nothing_waits_where_a_wake_finds_nobody(small, logged):
    ranges.wake(small.client.memory.descriptor, small.at(0), small.page_size)
    assert logged == []
