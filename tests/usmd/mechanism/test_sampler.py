"""The ways to take pages out: what is asked of the kernel, what its refusals mean, and when there is no way."""

import ctypes
import errno
import os
import select
import socket
import subprocess
from pathlib import Path

import pytest

from usm_wire.conventions import MAX_RANGES_TO_TAKE_OUT, RANGE_TO_TAKE_OUT
from usmd.mechanism import sampler, uffd
from usmd.mechanism.sampler import MAX_RANGES, ByClient, Pageout, kernel_swap, why_no_features, why_not_permitted
from usmd.mechanism.uffd import Feature

ALL = uffd.HEARS_TOUCHES | Feature.WP_UNPOPULATED
HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


class Kernel:
    """process_madvise: each answer is the number of bytes advised, or a negative errno; then all of them are."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def __call__(self, number, pidfd, vector, count, advice):
        at = ctypes.cast(vector, ctypes.POINTER(ctypes.c_uint64))
        ranges = [(at[2 * index], at[2 * index + 1]) for index in range(count)]
        self.calls.append(ranges)
        assert (number, pidfd, advice) == (440, 7, 21)
        answer = self.answers.pop(0) if self.answers else sum(length for _, length in ranges)
        if answer < 0:
            raise OSError(-answer, os.strerror(-answer))
        return answer


@pytest.fixture
def kernel(monkeypatch):
    def answering(*answers):
        made = Kernel(*answers)
        monkeypatch.setattr(sampler, "syscall", made)
        return made

    return answering


def test_ranges_go_out_by_one_call_for_many(kernel):
    asked = kernel()
    ranges = [(4096 * number, 4096) for number in range(1, MAX_RANGES + 2)]
    assert Pageout(7).take_out(ranges) == ""
    assert asked.calls == [ranges[:MAX_RANGES], ranges[MAX_RANGES:]]


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EINVAL, errno.ESRCH])
def test_a_range_that_its_client_unmapped_or_locked_is_skipped(kernel, error):
    asked = kernel(4096, -error)
    assert Pageout(7).take_out([(4096, 4096), (8192, 4096), (16384, 8192), (65536, 4096)]) == ""
    assert [len(each) for each in asked.calls] == [4, 2, 1]


@pytest.mark.parametrize(
    ("error", "why"),
    [(errno.EPERM, "CAP_SYS_NICE"), (errno.EACCES, "CAP_SYS_PTRACE"), (errno.ENOSYS, os.strerror(errno.ENOSYS))],
)
def test_a_refusal_for_good_says_what_is_needed(kernel, error, why):
    asked = kernel(-error)
    assert why in Pageout(7).take_out([(4096, 4096), (16384, 4096)])
    assert len(asked.calls) == 1


@pytest.fixture
def by_client():
    way = ByClient()
    yield way
    way.close()


def ranges_of(packet):
    return list(RANGE_TO_TAKE_OUT.iter_unpack(packet))


def test_a_client_gets_the_ranges_by_packets_that_it_can_take(by_client):
    ranges = [(4096 * number, 4096) for number in range(1, MAX_RANGES_TO_TAKE_OUT + 2)]
    assert by_client.take_out(ranges) == ""
    packets = [by_client.theirs.recv(1 << 16) for _ in range(2)]
    assert [ranges_of(each) for each in packets] == [ranges[:MAX_RANGES_TO_TAKE_OUT], ranges[MAX_RANGES_TO_TAKE_OUT:]]


def test_a_client_that_reads_nothing_is_not_waited_for_and_what_does_not_fit_is_left_out(by_client):
    for number in range(1, 1000):
        assert by_client.take_out([(4096 * number, 4096)] * 32) == ""
    came = []
    while select.select([by_client.theirs], [], [], 0)[0]:
        came.append(ranges_of(by_client.theirs.recv(1 << 16))[0][0] // 4096)
    assert came == list(range(1, len(came) + 1))
    assert 4 < len(came) < 100
    assert by_client.take_out([(4096, 4096)]) == ""
    assert ranges_of(by_client.theirs.recv(1 << 16)) == [(4096, 4096)]


@pytest.mark.parametrize("unread", [0, 1])
def test_a_client_that_closes_its_end_has_ended_that(by_client, unread):
    for _ in range(unread):
        by_client.take_out([(4096, 4096)])
    by_client.theirs.close()
    assert "it has closed the socket" in by_client.take_out([(4096, 4096)])


def test_a_client_can_send_nothing(by_client):
    with pytest.raises(BrokenPipeError):
        socket.send_fds(by_client.theirs, [b"x"], [0])


def test_the_end_of_that_way_is_the_end_of_the_clients_thread(by_client):
    with by_client.theirs.dup() as theirs:
        by_client.close()
        by_client.close()
        assert theirs.recv(1) == b""


NICE = 1 << 23


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """Files of /proc: the capabilities of a process, and its user namespace, which is the system's own."""
    monkeypatch.setattr(sampler, "syscall", lambda *_: 0)
    namespace = tmp_path / "user"
    namespace.touch()
    monkeypatch.setattr(sampler, "_FIRST_NAMESPACE", namespace.stat().st_ino)

    def files(capabilities):
        status = tmp_path / "status"
        status.write_text(f"Name:\tpython\nCapEff:\t{capabilities:016x}\nSeccomp:\t0\n")
        return status, namespace

    return files


def test_the_right_to_take_pages_out_is_a_capability_in_the_systems_own_user_namespace(proc, tmp_path):
    status, namespace = proc(NICE)
    assert why_not_permitted(status, namespace) == ""
    other = tmp_path / "other"
    other.touch()
    assert "CAP_SYS_NICE" in why_not_permitted(status, other)
    assert "CAP_SYS_NICE" in why_not_permitted(*proc(0xFFFFFFFF & ~NICE))


def test_what_proc_does_not_say_about_the_right_is_not_known(proc, tmp_path):
    status, namespace = proc(NICE)
    assert why_not_permitted(tmp_path / "none", namespace) == ""
    assert why_not_permitted(status, tmp_path / "none") == ""
    status.write_text("Name:\tpython\n")
    assert why_not_permitted(status, namespace) == ""


def test_a_filter_of_system_calls_is_in_the_way_and_an_odd_answer_is_not(proc, monkeypatch):
    status, namespace = proc(NICE)
    for error, why in ((errno.ENOSYS, "is refused"), (errno.EPERM, "not permitted"), (errno.EINVAL, "")):

        def refuse(number, pidfd, *_, error=error):
            assert number == 440
            assert "Pid:" in Path(f"/proc/self/fdinfo/{pidfd}").read_text()
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(sampler, "syscall", refuse)
        found = why_not_permitted(status, namespace)
        assert why in found if why else found == ""


def test_the_answer_is_the_kernels():
    """The kernel's own answer for another process, a child: the same as what is found out without one."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        pidfd = os.pidfd_open(child.pid)
        try:
            asked = Pageout(pidfd).take_out([(0, 4096)])
        finally:
            os.close(pidfd)
            child.stdin.close()
    assert why_not_permitted() == asked


@pytest.mark.parametrize("lacking", [Feature.MINOR_SHMEM, Feature.WP_UNPOPULATED])
def test_a_kernel_that_cannot_put_pages_back_as_they_were_is_named_by_what_it_lacks(lacking):
    assert why_no_features(ALL) == ""
    assert f"UFFD_FEATURE_{lacking.name}" in why_no_features(ALL & ~lacking)


def test_swap_of_the_kernel_is_in_the_way(tmp_path):
    swaps = tmp_path / "swaps"
    assert kernel_swap(swaps) == ""  # a kernel without swap has no such file
    swaps.write_text(HEADER)
    assert kernel_swap(swaps) == ""
    swaps.write_text(HEADER + "/dev/zram0 partition 1048572 0 100\n")
    assert "/dev/zram0" in kernel_swap(swaps)


def test_swap_that_cannot_be_looked_at_counts_as_in_the_way(tmp_path):
    assert "cannot be read" in kernel_swap(tmp_path)  # a folder
