"""System calls by number: results, and errors by errno."""

import errno
import os
import platform

import pytest

from usmd.syscalls import syscall

CLOSE = {"x86_64": 3, "aarch64": 57}
DUP = {"x86_64": 32, "aarch64": 23}

pytestmark = pytest.mark.skipif(platform.machine() not in CLOSE, reason="numbers of two architectures are known here")


def test_a_system_call_returns_its_result():
    descriptor = syscall(DUP[platform.machine()], 1)
    assert os.path.samestat(os.fstat(descriptor), os.fstat(1))
    assert syscall(CLOSE[platform.machine()], descriptor) == 0


def test_a_system_call_that_fails_raises_its_errno():
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syscall(CLOSE[platform.machine()], -1)
    assert caught.value.errno == errno.EBADF
