"""What is particular to io_uring; tests/contracts/test_channels.py has the rest."""

import ctypes
import errno
import mmap
import os

import pytest

from tests.support.io_ways import require_way
from usmd.swap import io_uring
from usmd.swap.io_uring import IoUring

PAGE = 4096


@pytest.fixture
def cached(tmp_path):
    require_way("io_uring")
    (tmp_path / "file").write_bytes(b"c" * PAGE)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    channel = IoUring(descriptor)
    memory = mmap.mmap(-1, PAGE)
    yield channel, (False, 0, ctypes.addressof(ctypes.c_char.from_buffer(memory)), PAGE, 5), memory
    channel.close()
    os.close(descriptor)


def test_a_read_of_cached_bytes_has_completed_when_it_is_submitted(cached):
    channel, request, memory = cached
    assert channel.submit([request]) == 1
    assert channel.completed() == [(5, PAGE)]
    assert memory[:] == b"c" * PAGE


def test_requests_that_the_kernel_does_not_take_are_taken_back(cached, monkeypatch):
    channel, request, _ = cached

    def refuse(*_):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(io_uring, "syscall", refuse)
    assert channel.submit([request, request]) == 0
    monkeypatch.undo()
    assert channel.submit([request]) == 1
    assert channel.completed() == [(5, PAGE)]


def test_a_machine_without_io_uring_says_why(monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(io_uring, "syscall", missing)
    with pytest.raises(OSError, match="Function not implemented"):
        IoUring(0)
