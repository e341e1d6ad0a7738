"""Which limit an error of the kernel means."""

import errno
import os
import resource

import pytest

import lib_usm
from lib_usm import limits

MIB = 1 << 20


@pytest.mark.parametrize(
    ("code", "size", "name"),
    [
        (errno.EMFILE, 0, "RLIMIT_NOFILE, ulimit -n"),
        (errno.ENFILE, 0, "sysctl fs.file-max"),
        (errno.EAGAIN, 4096, "RLIMIT_MEMLOCK, ulimit -l"),
        (errno.ENOMEM, 4096, "sysctl vm.overcommit_memory"),
    ],
)
def test_each_error_names_its_limit(code, size, name):
    error = limits.limit_reached(OSError(code, os.strerror(code)), "it cannot be done", size)
    assert isinstance(error, lib_usm.LimitExceeded)
    assert isinstance(error, MemoryError)
    assert str(error).startswith("it cannot be done: ")
    assert name in str(error)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EAGAIN, errno.ENOENT])
def test_an_error_that_is_no_limit_is_none(code):
    assert limits.limit_reached(OSError(code, os.strerror(code)), "it") is None


def no_memory(size=4096):
    return str(limits.limit_reached(OSError(errno.ENOMEM, "no"), "it", size))


def test_no_memory_is_told_apart_by_what_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "_PROC", tmp_path)
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "self/statm").write_text("1000 5 5")
    (tmp_path / "self/maps").write_text("line\n" * 98)
    (tmp_path / "sys/vm/max_map_count").write_text("100\n")
    assert "98 mappings and may have 100 (sysctl vm.max_map_count)" in no_memory()
    (tmp_path / "sys/vm/max_map_count").write_text("101\n")
    assert "sysctl vm.overcommit_memory" in no_memory()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000 * resource.getpagesize() + 4096, -1))
    assert "sysctl vm.overcommit_memory" in no_memory()
    assert "RLIMIT_AS, ulimit -v" in no_memory(4097)
