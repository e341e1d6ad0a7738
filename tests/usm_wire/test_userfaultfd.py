"""Ways to a userfaultfd: each is tried in its turn, and none leaves a descriptor behind."""

import ctypes
import errno
import os

import pytest

from tests.support.real_memory import require_real_memory
from usm_wire import userfaultfd as module
from usm_wire.userfaultfd import DEVICE, SYSCTL, open_userfaultfd
from usmd.mechanism import uffd

NO_DEVICE = FileNotFoundError(errno.ENOENT, "No such file or directory")
NUMBER = 323


class Libc:
    """System calls that answer as a test says, by their flags: a descriptor, or a negative errno."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.calls = []

    def syscall(self, number, flags):
        self.calls.append((number, flags))
        answer = self.answers.pop(0)
        if answer < 0:
            ctypes.set_errno(-answer)
            return -1
        return answer


@pytest.fixture
def kernel(monkeypatch):
    """Has no device, a machine with a known number, and system calls that a test answers."""

    def kernel(*answers, device=NO_DEVICE, machine="x86_64"):
        libc = Libc(answers)

        def open_(path, flags):
            assert path == DEVICE
            assert flags & os.O_CLOEXEC
            if isinstance(device, OSError):
                raise device
            return os.dup(device)

        monkeypatch.setattr(module.os, "open", open_)
        monkeypatch.setattr(module.ctypes, "CDLL", lambda name, use_errno: libc)
        monkeypatch.setattr(module.platform, "machine", lambda: machine)
        return libc

    return kernel


def test_a_real_one_is_fresh_non_blocking_and_closed_on_exec():
    require_real_memory()
    descriptor, way = open_userfaultfd()
    try:
        assert way in ("device", "syscall", "user-mode")
        assert uffd.is_userfaultfd(descriptor)
        assert not os.get_blocking(descriptor)
        assert not os.get_inheritable(descriptor)
        uffd.handshake(descriptor, uffd.Feature(0))  # which can be done once
    finally:
        os.close(descriptor)


def test_opening_leaves_nothing_but_the_descriptor():
    require_real_memory()
    before = os.listdir("/proc/self/fd")
    descriptor, _ = open_userfaultfd()
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    os.close(descriptor)
    assert os.listdir("/proc/self/fd") == before


def test_the_device_is_asked_first_and_closed_again(kernel, monkeypatch):
    reader, writer = os.pipe()
    libc = kernel(device=reader)
    asked = []

    def ioctl(descriptor, request, flags):
        asked.append((os.fstat(descriptor).st_ino, request, flags))
        return 77

    monkeypatch.setattr(module.fcntl, "ioctl", ioctl)
    before = os.listdir("/proc/self/fd")
    assert open_userfaultfd() == (77, "device")
    assert os.listdir("/proc/self/fd") == before
    assert asked == [(os.fstat(reader).st_ino, 0xAA00, os.O_CLOEXEC | os.O_NONBLOCK)]
    assert libc.calls == []
    os.close(reader)
    os.close(writer)


def test_a_device_that_refuses_is_closed_and_its_error_told(kernel):
    reader, writer = os.pipe()
    kernel(device=reader)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="ioctl"):  # a pipe knows no such request
        open_userfaultfd()
    assert os.listdir("/proc/self/fd") == before
    os.close(reader)
    os.close(writer)


def test_without_the_device_the_system_call_is_next(kernel):
    libc = kernel(77)
    assert open_userfaultfd() == (77, "syscall")
    assert libc.calls == [(NUMBER, os.O_CLOEXEC | os.O_NONBLOCK)]


def test_where_that_is_not_allowed_user_mode_is_what_is_left(kernel):
    libc = kernel(-errno.EPERM, 0, device=PermissionError(errno.EACCES, "Permission denied"))
    assert open_userfaultfd() == (0, "user-mode")
    assert [flags & 1 for _, flags in libc.calls] == [0, 1]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EMFILE])
def test_where_nothing_is_allowed_the_last_refusal_is_told(kernel, code):
    kernel(-errno.EPERM, -code)
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        open_userfaultfd()
    assert caught.value.errno == code


def test_a_machine_whose_number_is_not_known_has_the_device_alone(kernel):
    libc = kernel(machine="pdp11")
    with pytest.raises(FileNotFoundError):
        open_userfaultfd()
    assert libc.calls == []


def test_the_names_of_the_kernel():
    assert DEVICE == "/dev/userfaultfd"
    assert SYSCTL == "/proc/sys/vm/unprivileged_userfaultfd"
