"""Which limit an error of the kernel means."""

import _thread
import errno
import os
import resource
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import lib_usm
from lib_usm import limits
from tests.support.clients import run_python
from tests.support.daemon import running_daemon
from tests.support.real_memory import require_real_memory

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


def refuse_threads(*_):
    raise RuntimeError("can't start new thread")


def test_a_thread_that_cannot_be_started_names_what_may_be_the_cause(monkeypatch):
    error = limits.thread_limit(RuntimeError("can't start new thread"), "it cannot be done")
    assert str(error).startswith("it cannot be done (can't start new thread): this user may have ")
    assert "RLIMIT_NPROC, ulimit -u" in str(error)
    monkeypatch.setattr(limits, "_tight_mappings", lambda size: f"no room for {size}")
    assert str(limits.thread_limit(RuntimeError("no"), "it")) == f"it (no): no room for {8 * MIB}"


def test_room_is_looked_for_and_nothing_of_it_is_kept(monkeypatch):
    before = os.listdir("/proc/self/fd")
    limits.check_room("it")
    assert os.listdir("/proc/self/fd") == before
    monkeypatch.setattr(_thread, "start_new_thread", refuse_threads)
    with pytest.raises(lib_usm.LimitExceeded, match=r"^it \(can't start new thread\)"):
        limits.check_room("it")
    assert os.listdir("/proc/self/fd") == before


def test_the_threads_of_the_check_have_all_run_when_it_ends(monkeypatch):
    ran = []
    start = _thread.start_new_thread

    def started(function, arguments):
        return start(lambda: (function(*arguments), ran.append(function)), ())

    monkeypatch.setattr(_thread, "start_new_thread", started)
    before = sys.getswitchinterval()
    sys.setswitchinterval(10)  # a thread that has the interpreter keeps it until it waits
    try:
        limits.check_room("it")
        assert len(ran) == limits._THREADS
    finally:
        sys.setswitchinterval(before)


COMMON = """
    import ctypes, mmap, os, resource, sys
    import lib_usm

    def mapped():
        count = 0
        with open("/proc/self/maps", "rb", buffering=0) as maps:
            while part := maps.read(1 << 14):
                count += part.count(b"memfd:usmd")
        return count

    def addresses():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * mmap.PAGESIZE

    def held():
        return len(os.listdir("/proc/self/fd")), mapped()

    def refused(call, which=resource.RLIMIT_CORE, soft=0):
        before = held()
        old, hard = resource.getrlimit(which)
        resource.setrlimit(which, (soft, hard))
        try:
            call()
        except lib_usm.LimitExceeded as error:
            print(error)
        finally:
            resource.setrlimit(which, (old, hard))
        assert held() == before, (held(), before)

    def works(client):
        assert client.mmap(4096)[:] == bytes(4096)
        client.close()

    address = sys.argv[1]
"""

PROGRAMS = {
    "descriptors, connecting": (
        """
        for spare in (0, 1, 4, 8, 15):
            # os.listdir has one of its own.
            soft = len(os.listdir("/proc/self/fd")) - 1 + spare
            refused(lambda: lib_usm.connect(address), resource.RLIMIT_NOFILE, soft)
        works(lib_usm.connect(address))
        """,
        ["RLIMIT_NOFILE, ulimit -n"] * 5,
    ),
    "descriptors, mapping": (
        """
        client = lib_usm.connect(address)
        for spare in (0, 1):
            soft = len(os.listdir("/proc/self/fd")) - 1 + spare
            refused(lambda: client.mmap(4096), resource.RLIMIT_NOFILE, soft)
        works(client)
        """,
        ["RLIMIT_NOFILE, ulimit -n"] * 2,
    ),
    "addresses": (
        """
        client = lib_usm.connect(address)
        refused(lambda: client.mmap(64 << 20), resource.RLIMIT_AS, addresses() + (8 << 20))
        works(client)
        """,
        ["RLIMIT_AS, ulimit -v"],
    ),
    "mappings": (
        """
        client = lib_usm.connect(address)
        kept = [None] * 70000
        try:
            for index in range(70000):  # neighbours with other rights are not joined
                rights = mmap.PROT_READ | (mmap.PROT_WRITE if index % 2 else 0)
                kept[index] = mmap.mmap(-1, mmap.PAGESIZE, prot=rights)
        except (OSError, MemoryError):
            kept[index - 1] = None  # one is left, and a region takes two
        refused(lambda: client.mmap(4096))
        del kept
        works(client)
        """,
        ["sysctl vm.max_map_count"],
    ),
    "locked memory": (
        """
        client = lib_usm.connect(address)
        client.mmap(4096).close()
        ctypes.CDLL(None).mlockall(2)  # MCL_FUTURE
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20,) * 2)
        os.seteuid(65534)
        refused(lambda: client.mmap(64 << 20))
        os.seteuid(0)
        ctypes.CDLL(None).munlockall()
        works(client)
        """,
        ["RLIMIT_MEMLOCK, ulimit -l"],
    ),
    "threads": (
        """
        for spare in (0, 4, 8):
            child = os.fork()
            if not child:
                resource.setrlimit(resource.RLIMIT_NPROC, (1 + spare,) * 2)
                os.setuid(54321)  # of which there are no other threads
                refused(lambda: lib_usm.connect(address))
                sys.stdout.flush()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """,
        ["RLIMIT_NPROC, ulimit -u"] * 3,
    ),
}
AS_ROOT = {"locked memory", "threads"}


@pytest.fixture(scope="module")
def daemon():
    """Real memory, in a folder that every user may enter, which pytest's are not."""
    require_real_memory()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        with running_daemon(folder, "--memory", "1MiB", mechanism="userfaultfd") as running:
            for place in folder.glob("usmd.sock*"):
                place.chmod(0o777)
            yield running


@pytest.mark.parametrize("limit", PROGRAMS)
def test_each_limit_of_the_process_ends_in_an_error_that_names_it_and_leaves_nothing(daemon, limit):
    if limit in AS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    program, names = PROGRAMS[limit]
    done = run_python(textwrap.dedent(COMMON) + textwrap.dedent(program), daemon.address)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert [name for name, line in zip(names, said, strict=True) if name not in line] == []
