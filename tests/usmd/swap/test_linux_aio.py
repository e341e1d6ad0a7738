"""What is particular to Linux AIO; tests/contracts/test_channels.py has the rest."""

import errno
import os
import platform

import pytest

from tests.support.io_ways import require_way
from usmd.swap import linux_aio
from usmd.swap.linux_aio import LinuxAio


def test_an_architecture_that_is_not_known_is_named(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="x86_64, aarch64, and not of riscv64"):
        LinuxAio(0)


def test_a_request_that_the_kernel_refuses_is_not_taken(tmp_path):
    require_way("aio")
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    channel = LinuxAio(descriptor)
    assert channel.submit([(False, 0, 0, 4096, 1)]) == 0
    channel.close()
    os.close(descriptor)


def test_a_machine_without_aio_says_why(monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(linux_aio, "syscall", missing)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(OSError, match="Function not implemented"):
        LinuxAio(0)
