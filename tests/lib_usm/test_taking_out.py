"""The thread that takes pages of its own process out: what it does with ranges, with nonsense, and at its end."""

import contextlib
import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lib_usm import taking_out
from tests.support.other_user import UID
from tests.support.real_memory import require_sampling
from tests.support.waiting import wait_until
from tests.usmd.mechanism.mapped import is_mapped, map_memory, unmap
from usm_wire.conventions import MAX_RANGES_TO_TAKE_OUT, RANGE_TO_TAKE_OUT

PAGE = mmap.PAGESIZE


def threads():
    """Threads of this process that take pages out."""
    found = 0
    for each in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += (each / "comm").read_text() == "usm-touches\n"
    return found


class Asking:
    """What the daemon does: it asks for ranges. `descriptor`: the thread's own."""

    def __init__(self):
        self.before = threads()
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.descriptor = theirs.detach()
        taking_out.begin(self.descriptor)

    def ask(self, *ranges):
        self.ours.send(b"".join(RANGE_TO_TAKE_OUT.pack(*each) for each in ranges))

    def is_over(self):
        """Whether its thread is gone and has closed its socket."""
        return threads() == self.before and not Path(f"/proc/self/fd/{self.descriptor}").exists()


@pytest.fixture
def asking():
    """On one CPU: the kernel leaves a page in that another CPU has collected for its LRU list."""
    require_sampling()
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    made = Asking()
    yield made
    os.sched_setaffinity(0, cpus)
    made.ours.close()
    wait_until(lambda: threads() == made.before, "its thread ends")


@pytest.fixture
def page():
    """The address of a page of shared memory that is in the page table, with bytes."""
    memfd = os.memfd_create("test")
    os.ftruncate(memfd, PAGE)
    os.pwrite(memfd, b"bytes", 0)
    address = map_memory(PAGE, memfd)
    touch(address)
    yield address
    unmap(address, PAGE)
    os.close(memfd)


def touch(address):
    """Five bytes at an address."""
    return ctypes.string_at(address, 5)


def goes_out(asking, address):
    """It still does what it is asked; what came before was done before."""
    assert is_mapped(address)
    asking.ask((address, PAGE))
    wait_until(lambda: not is_mapped(address), "the page is out")
    return touch(address) == b"bytes"


def test_a_page_is_taken_out_and_keeps_its_bytes(asking, page):
    assert goes_out(asking, page)
    assert is_mapped(page)


def test_it_has_a_thread_of_its_own_on_which_no_signal_is_handled(asking, page):
    wait_until(lambda: threads() == asking.before + 1, "it has its name")
    blocked = [
        int(line.split()[1], 16)
        for each in Path("/proc/self/task").iterdir()
        if (each / "comm").read_text() == "usm-touches\n"
        for line in (each / "status").read_text().splitlines()
        if line.startswith("SigBlk:")
    ]
    # All but SIGKILL and SIGSTOP, and two of the C library's own, which it needs on every thread.
    assert {each | 1 << 8 | 1 << 18 | 3 << 31 for each in blocked} == {(1 << 64) - 1}


def test_many_ranges_and_what_is_no_range_or_no_memory_are_no_error(asking, page):
    gone = map_memory(2 * PAGE)
    unmap(gone, 2 * PAGE)
    odd = [(page + 1, PAGE), (gone, 2 * PAGE), (0, 1 << 63), ((1 << 64) - PAGE, PAGE), (page, (1 << 64) - 1)]
    asking.ask(*[(page, PAGE)] * (MAX_RANGES_TO_TAKE_OUT - len(odd)), *odd)
    asking.ours.send(b"\xff" * 100)  # no whole number of ranges
    asking.ours.send(b"x")
    asking.ours.send(b"\xff" * 8192)  # more than any packet has
    touch(page)
    assert goes_out(asking, page)


def test_memory_of_its_own_that_the_program_has_there_by_then_keeps_its_bytes(asking, page):
    with mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as private:
        private[:] = bytes(range(256)) * (16 * PAGE // 256)
        hold = ctypes.c_char.from_buffer(private)
        asking.ask((ctypes.addressof(hold), 16 * PAGE))
        del hold
        assert goes_out(asking, page)  # after the other one
        assert private[:] == bytes(range(256)) * (16 * PAGE // 256)


def test_its_thread_and_its_socket_end_with_the_daemon(asking):
    wait_until(lambda: threads() == asking.before + 1, "it has begun")
    asking.ours.close()
    wait_until(asking.is_over, "it is over")


def test_a_file_that_has_its_number_by_then_is_left_alone(asking, page):
    """As in a program that closes all descriptors that it does not know."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        wait_until(lambda: threads() == asking.before + 1, "it has begun")
        os.dup2(theirs.fileno(), asking.descriptor)
        asking.ask((page, PAGE))  # it waits in the socket that it had
        wait_until(lambda: threads() == asking.before, "its thread ends")
        ours.send(b"not for it")
        assert theirs.recv(100) == b"not for it"
        assert socket.socket(fileno=asking.descriptor).detach() == asking.descriptor  # it is still open
        os.close(asking.descriptor)
    with pytest.raises(ConnectionError):
        asking.ask((page, PAGE))


def test_a_child_by_fork_has_no_such_thread_and_disturbs_none(asking, page):
    child = os.fork()
    if not child:
        os._exit(threads())  # with the socket open
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert goes_out(asking, page)


def test_without_a_thread_the_socket_is_closed_so_that_the_daemon_knows(monkeypatch):
    class Failing:
        @staticmethod
        def usm_begin_taking_out(_):
            return 11

    for library in (None, Failing):
        monkeypatch.setattr(taking_out, "_library", library)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        taking_out.begin(theirs.detach())
        with ours:
            assert ours.recv(1) == b""


FILTERED = """
import ctypes, os, socket, struct, sys
from lib_usm import taking_out
libc = ctypes.CDLL(None)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))
number = {"x86_64": 28, "aarch64": 233}[os.uname().machine]
code = struct.pack("=" + "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, number, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code, len(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.prctl(22, 2, ctypes.byref(Filter(4, ctypes.addressof(held))), 0, 0) == 0
taking_out.begin(theirs.detach())
ours.send(struct.pack("=QQ", 4096, 4096))
sys.exit(len(ours.recv(1)))
"""


def test_a_program_that_may_not_call_madvise_ends_it_so_that_the_daemon_knows():
    require_sampling()
    done = subprocess.run([sys.executable, "-c", FILTERED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_that_is_a_file_of_another_user_is_taken_out():
    """As that of a region, which is the daemon's, where usmd has a user of its own."""
    require_sampling()
    if os.getuid():
        pytest.skip("only root can become another user")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, open(os.memfd_create("test"), "wb", buffering=0) as memfd:
        os.ftruncate(memfd.fileno(), PAGE)
        address = map_memory(PAGE, memfd.fileno())
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            os.pwrite(memfd.fileno(), b"bytes", 0)
            os.setresuid(UID, UID, UID)
            touch(address)
            taking_out.begin(theirs.detach())
            while True:
                signal.pause()
    try:
        with ours, open(f"/proc/{child}/pagemap", "rb", buffering=0) as pagemap:
            wait_until(lambda: is_mapped(address, pagemap), "the page is touched")
            ours.send(RANGE_TO_TAKE_OUT.pack(address, PAGE))
            wait_until(lambda: not is_mapped(address, pagemap), "the page is out")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        unmap(address, PAGE)
