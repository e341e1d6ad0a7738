"""Making and removing swap files: which are made, which are refused, and that nobody else's is touched."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from usmd.errors import SwapDeviceError, SwapIOError
from usmd.swap.swap_file import HEADER, MAGIC, VERSION, create_swap_file, remove_swap_file

PAGE = 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "swap"


@pytest.fixture
def create(path):
    """Makes swap files and removes them at the end."""
    made = []

    def build(at=path, slots=16, page_size=PAGE):
        made.append((at, create_swap_file(at, page_size, slots)))
        return made[-1][1]

    yield build
    for at, descriptor in made:
        remove_swap_file(at, descriptor)


def leave_stale(path, slots=16):
    """A swap file as a killed daemon leaves it: complete, with nobody holding the lock."""
    descriptor = create_swap_file(path, PAGE, slots)
    os.pwrite(descriptor, b"old" * 100, PAGE)
    os.close(descriptor)


def test_the_file_is_private_preallocated_locked_and_not_inherited(create, path):
    descriptor = create()
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 17 * PAGE
    assert status.st_blocks * 512 >= 17 * PAGE
    assert not os.get_inheritable(descriptor)
    with path.open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_header_says_what_the_file_is(create, path):
    create(slots=5)
    header = HEADER.unpack(path.read_bytes()[: HEADER.size])
    assert header == (MAGIC, VERSION, PAGE, 5, os.getpid())


@pytest.mark.parametrize("content", [b"", b"dear diary", b"\0" * PAGE, MAGIC[:-1] + b"x" * PAGE, MAGIC])
def test_a_file_that_is_no_swap_file_is_refused_and_untouched(path, content):
    path.write_bytes(content)
    before = path.stat()
    with pytest.raises(SwapDeviceError, match="exists and is not a usmd swap file, so it is left alone"):
        create_swap_file(path, PAGE, 16)
    after = path.stat()
    assert path.read_bytes() == content
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)


@pytest.mark.parametrize("target", ["nothing", "diary", "stale"])
def test_a_symbolic_link_is_refused_wherever_it_leads(tmp_path, path, target):
    (tmp_path / "diary").write_text("dear diary")
    leave_stale(tmp_path / "stale")
    path.symlink_to(tmp_path / target)
    with pytest.raises(SwapDeviceError, match="is a symbolic link"):
        create_swap_file(path, PAGE, 16)
    assert path.is_symlink()
    assert (tmp_path / "diary").read_text() == "dear diary"
    assert not (tmp_path / "nothing").exists()


def test_folders_pipes_and_sockets_are_refused(tmp_path):
    folder, pipe, sock = tmp_path / "folder", tmp_path / "pipe", tmp_path / "sock"
    folder.mkdir()
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        for path in (folder, pipe, sock, Path("/dev/null")):
            with pytest.raises(SwapDeviceError, match="is not a regular file"):
                create_swap_file(path, PAGE, 16)
            assert path.exists()


def test_a_file_in_use_is_refused_with_its_user_and_stays_in_use(create, path):
    descriptor = create()
    with pytest.raises(SwapDeviceError, match=f"in use by the running usmd with process number {os.getpid()};"):
        create_swap_file(path, PAGE, 16)
    assert os.path.samestat(path.stat(), os.fstat(descriptor))


def test_a_stale_file_is_replaced_by_a_new_one_of_the_new_size(create, path):
    leave_stale(path, slots=32)
    with path.open("rb") as old:
        create(slots=8)
        assert not os.path.samestat(os.fstat(old.fileno()), path.stat())
    assert path.stat().st_size == 9 * PAGE
    assert path.read_bytes()[PAGE:] == bytes(8 * PAGE)


def test_a_stale_file_that_was_truncated_is_still_known(create, path):
    leave_stale(path)
    os.truncate(path, HEADER.size)
    create()
    assert path.stat().st_size == 17 * PAGE


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SwapDeviceError, match=r"the folder .*/no/such does not exist; make it first"):
        create_swap_file(tmp_path / "no" / "such" / "swap", PAGE, 16)


def test_a_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SwapDeviceError, match=r"cannot be opened \(Not a directory\)"):
        create_swap_file(tmp_path / "file" / "swap", PAGE, 16)


def refuse(*_):
    """A system call without permission; the superuser, who runs tests too, is refused nothing for real."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize(("stale", "what"), [(False, "made"), (True, "opened")])
def test_a_system_that_refuses_the_file_is_quoted(path, monkeypatch, stale, what):
    if stale:
        leave_stale(path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SwapDeviceError, match=rf"cannot be {what} \(Permission denied\)"):
        create_swap_file(path, PAGE, 16)


def test_a_stale_file_that_may_not_be_removed_is_a_device_error(path, monkeypatch):
    leave_stale(path)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SwapDeviceError, match=r"cannot be replaced \(Permission denied\)"):
        create_swap_file(path, PAGE, 16)


def test_a_file_that_appears_just_before_ours_is_made_is_left_alone(path, monkeypatch):
    real = os.open

    def beaten(name, flags, *mode):
        path.write_text("first")
        return real(name, flags, *mode)

    monkeypatch.setattr(os, "open", beaten)
    with pytest.raises(SwapDeviceError, match="another process made it just now"):
        create_swap_file(path, PAGE, 16)
    assert path.read_text() == "first"


@pytest.mark.parametrize("slots", [2**40, 2**62])
def test_more_than_the_disk_has_is_refused_before_the_disk_is_filled(path, slots, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: pytest.fail("the disk would be filled"))
    with pytest.raises(SwapDeviceError, match=r"needs .*iB, but .*iB are free; free some space, or give a smaller"):
        create_swap_file(path, PAGE, slots)
    assert not path.exists()


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "No space left on device; free some space"), (errno.EIO, "Input/output error")],
)
def test_a_preallocation_that_fails_leaves_no_file(path, monkeypatch, number, message):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(SwapDeviceError, match=message):
        create_swap_file(path, PAGE, 16)
    assert not path.exists()


def test_a_full_disk_is_refused_and_left_as_it_was(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        with pytest.raises(SwapDeviceError, match="needs 68 KiB, but 64 KiB are free"):
            create_swap_file(tmp_path / "swap", PAGE, 16)
        assert list(tmp_path.iterdir()) == []
        remove_swap_file(tmp_path / "swap", create_swap_file(tmp_path / "swap", PAGE, 15))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_removing_takes_away_the_file_and_its_descriptor(path):
    descriptor = create_swap_file(path, PAGE, 4)
    remove_swap_file(path, descriptor)
    assert not path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_removing_leaves_another_file_of_that_name_alone(path):
    descriptor = create_swap_file(path, PAGE, 4)
    path.unlink()
    path.write_text("new")
    remove_swap_file(path, descriptor)
    assert path.read_text() == "new"


def test_removing_a_file_that_is_gone_is_no_error(path):
    descriptor = create_swap_file(path, PAGE, 4)
    path.unlink()
    remove_swap_file(path, descriptor)


def test_a_file_that_cannot_be_removed_is_reported_and_closed(path, monkeypatch):
    descriptor = create_swap_file(path, PAGE, 4)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SwapIOError, match=r"cannot be removed \(Permission denied\); remove it by hand"):
        remove_swap_file(path, descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_stale_file_that_another_process_replaces_meanwhile_is_left_alone(path, monkeypatch):
    leave_stale(path)
    real = fcntl.flock

    def replaced(descriptor, operation):
        real(descriptor, operation)
        path.unlink()
        path.write_text("new")

    monkeypatch.setattr(fcntl, "flock", replaced)
    with pytest.raises(SwapDeviceError, match="another process replaced it just now"):
        create_swap_file(path, PAGE, 4)
    assert path.read_text() == "new"
