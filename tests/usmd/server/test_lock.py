import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from usmd.errors import AlreadyRunning, ConfigError
from usmd.server import lock as module
from usmd.server.lock import SocketLock

HOLD = "import sys; from pathlib import Path; from usmd.server.lock import SocketLock\n"
HOLD += "SocketLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "usmd.sock"


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


def leave_socket(path):
    """Make a socket file that nobody serves, as a crash does."""
    kind = socket.SOCK_SEQPACKET if str(path).endswith(".memory") else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as dead:
        dead.bind(str(path))


def test_a_lock_holds_a_private_file_with_the_holders_pid_and_leaves_nothing(path):
    with SocketLock(path) as lock:
        assert lock.lock_path.read_text() == f"{os.getpid()}\n"
        assert lock.lock_path.stat().st_mode & 0o777 == 0o600
        assert names(path) == ["usmd.sock.lock"]
    assert names(path) == []


def test_the_second_taker_learns_who_holds_it_and_the_first_keeps_it(path):
    with SocketLock(path) as first:
        with pytest.raises(AlreadyRunning) as caught:
            SocketLock(path).acquire()
        assert str(path) in str(caught.value)
        assert f"pid {os.getpid()}" in str(caught.value)
        assert "stop it, or choose other paths" in str(caught.value)
        assert first.lock_path.exists()
        with pytest.raises(AlreadyRunning):
            SocketLock(path).acquire()


def test_a_holder_that_has_not_written_its_pid_yet_is_just_another_usmd(path):
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning, match="served by another usmd;"):
            SocketLock(path).acquire()
    finally:
        os.close(descriptor)


def test_the_lock_and_the_sockets_of_a_killed_daemon_are_taken_over(path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning, match=f"pid {child.pid};"):
            SocketLock(path).acquire()
        leave_socket(path)
        leave_socket(f"{path}.identity")
        leave_socket(f"{path}.memory")
    finally:
        child.kill()
        child.communicate()
    assert names(path) == ["usmd.sock", "usmd.sock.identity", "usmd.sock.lock", "usmd.sock.memory"]
    with SocketLock(path) as lock:
        assert names(path) == ["usmd.sock.lock"]
        assert lock.lock_path.read_text() == f"{os.getpid()}\n"


def test_release_removes_the_sockets_that_were_bound(path):
    with SocketLock(path) as lock, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(lock.place()))
        leave_socket(lock.place(".identity"))
        leave_socket(lock.place(".memory"))
        assert names(path) == ["usmd.sock", "usmd.sock.identity", "usmd.sock.lock", "usmd.sock.memory"]
        lock.made()
    assert names(path) == []


def test_what_is_found_at_its_end_that_it_did_not_make_is_left_alone(path):
    with SocketLock(path) as lock:
        leave_socket(lock.place())
        leave_socket(lock.place(".identity"))
        lock.made()
        path.rename(path.with_name("keeps the inode in use"))
        leave_socket(path)
        leave_socket(f"{path}.memory")
    assert names(path) == ["keeps the inode in use", "usmd.sock", "usmd.sock.memory"]


def test_a_folder_that_was_moved_is_tidied_and_the_one_in_its_place_is_not(tmp_path):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    folder.mkdir()
    path = folder / "usmd.sock"
    with SocketLock(path) as lock:
        leave_socket(lock.place())
        lock.made()
        folder.rename(moved)
        folder.mkdir()
        theirs = [path, Path(f"{path}.identity"), Path(f"{path}.lock")]
        for each in theirs:
            each.touch()
    assert list(moved.iterdir()) == []
    assert sorted(folder.iterdir()) == theirs


@pytest.mark.parametrize("another", [False, True])
def test_a_folder_that_is_replaced_before_the_sockets_are_bound_stops_the_start(tmp_path, another):
    folder, moved = tmp_path / "run", tmp_path / "moved"
    folder.mkdir()
    with SocketLock(folder / "usmd.sock") as lock:
        folder.rename(moved)
        if another:
            folder.mkdir()
        leave_socket(lock.place())
        assert (moved / "usmd.sock").exists()
        with pytest.raises(ConfigError, match="its folder was replaced while usmd started"):
            lock.made()
    assert list(moved.iterdir()) == []


def test_release_twice_leaves_the_next_holder_alone(path):
    first = SocketLock(path)
    first.acquire()
    first.release()
    with SocketLock(path) as second:
        first.release()
        assert second.lock_path.exists()
        with pytest.raises(AlreadyRunning):
            first.acquire()


@pytest.mark.parametrize("backlog", [0, 8])
def test_a_socket_that_is_served_without_a_lock_is_left_alone(path, backlog):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen(backlog)
        client.connect(str(path))  # with no backlog this fills the queue
        with pytest.raises(AlreadyRunning, match="holds no lock"):
            SocketLock(path).acquire()
    assert names(path) == ["usmd.sock"]


@pytest.mark.parametrize("backlog", [0, 8])
def test_a_memory_socket_that_is_served_without_a_lock_is_left_alone(path, backlog):
    kind = socket.SOCK_SEQPACKET
    with socket.socket(socket.AF_UNIX, kind) as server, socket.socket(socket.AF_UNIX, kind) as client:
        server.bind(f"{path}.memory")
        server.listen(backlog)
        client.connect(f"{path}.memory")
        with pytest.raises(AlreadyRunning, match="holds no lock"):
            SocketLock(path).acquire()
    assert names(path) == ["usmd.sock.memory"]


def test_a_file_in_the_sockets_place_is_kept(path):
    path.write_text("precious")
    with pytest.raises(ConfigError, match="other than a socket is there; choose another path"):
        SocketLock(path).acquire()
    assert path.read_text() == "precious"
    assert names(path) == ["usmd.sock"]


def test_a_place_without_a_folder_is_an_error_of_the_configuration(tmp_path):
    path = tmp_path / "absent" / "usmd.sock"
    with pytest.raises(ConfigError) as caught:
        SocketLock(path).acquire()
    assert str(path) in str(caught.value)
    assert "No such file" in str(caught.value)


def test_a_folder_that_is_not_writable_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match=r"Permission denied|Read-only file system") as caught:
        SocketLock(Path("/sys/usmd.sock")).acquire()  # where not even root makes files
    assert "make its folder writable for this user, or choose another path" in str(caught.value)


def test_a_link_in_the_lock_files_place_is_not_followed(path, tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    os.symlink(target, f"{path}.lock")
    with pytest.raises(ConfigError):
        SocketLock(path).acquire()
    assert target.read_text() == "precious"


def test_a_lock_on_a_file_that_was_removed_in_between_does_not_count(path, monkeypatch):
    # The holder removes its file between the taker's open and the taker's flock, and a third makes a new one.
    holder, third = SocketLock(path), SocketLock(path)
    holder.acquire()
    real = fcntl.flock
    calls = []

    def flock(descriptor, operation):
        calls.append(descriptor)
        if len(calls) == 1:
            holder.release()
            third.acquire()
        real(descriptor, operation)

    monkeypatch.setattr(module.fcntl, "flock", flock)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(AlreadyRunning):
        SocketLock(path).acquire()
    assert len(calls) == 3
    assert len(os.listdir("/proc/self/fd")) == before
    assert third.lock_path.exists()
    third.release()
    assert names(path) == []


def test_of_many_takers_there_is_never_more_than_one_holder(path):
    inside, most, taken = [], [], []

    def take():
        while len(taken) < 200:
            try:
                with SocketLock(path):
                    inside.append(1)
                    most.append(len(inside))
                    taken.append(1)
                    inside.pop()
            except AlreadyRunning:
                continue

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert names(path) == []


def test_a_child_process_does_not_inherit_the_lock(path):
    lock = SocketLock(path)
    lock.acquire()
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        with SocketLock(path):
            assert child.poll() is None
        child.communicate()
