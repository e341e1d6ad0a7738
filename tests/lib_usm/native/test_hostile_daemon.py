"""A daemon that answers nonsense or too little, or goes at any point: the program keeps its bytes, and says so."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from tests.support.daemon import SECONDS
from tests.support.native import compiled, require_native, run_managed, started
from usm_wire.pb.usm.v1 import client_pb2 as pb

CLIENT = Path(__file__).parents[2] / "e2e" / "native_client.c"
PAGE = 4096
LENGTH = 1 << 30
BEGUN = pb.MemoryReply(begun=pb.MemoryBegun(process_id=1, page_size=PAGE, capacity_bytes=1 << 20))
REGION = pb.MemoryReply(region=pb.Region(region_id=7, length=LENGTH, page_count=LENGTH // PAGE))
OK = pb.MemoryReply(message="ok")
GONE = None
KILLED = pb.MemoryReply(reason=5, message="a policy has \x1b[31mchosen it")
SIZES = (LENGTH, 2 * LENGTH // PAGE)
NONSENSE = b"\xff" * 40
NOT_UNDERSTOOD = "what usmd answered cannot be understood"


def begun(**fields):
    return pb.MemoryReply(begun=pb.MemoryBegun(process_id=1, **fields))


def region(**fields):
    return pb.MemoryReply(region=pb.Region(**{"region_id": 7, "length": LENGTH, **fields}))


def file(size):
    descriptor = os.memfd_create("fake")
    os.ftruncate(descriptor, size)
    return descriptor


def answer(peer, what, sizes):
    """Send an answer with memfds of these sizes."""
    data = what.SerializeToString() if isinstance(what, pb.MemoryReply) else what
    files = [file(size) for size in sizes]
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(peer, [data], files)
    for each in files:
        os.close(each)


@contextlib.contextmanager
def daemon(folder, answers, unasked=None):
    """A daemon that gives these answers, each with sizes of memfds, and then repeats the last one.

    `unasked`: what it says after them before it goes, with no request for it.
    """
    path = folder / "fake"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{path}.memory")
    listener.listen()
    listener.settimeout(SECONDS)

    def serve():
        peer, _ = listener.accept()
        peer.settimeout(SECONDS)
        with peer:
            left = list(answers)
            while True:
                try:
                    data, descriptors, _, _ = socket.recv_fds(peer, PAGE, 4)
                except ConnectionResetError:
                    return
                for each in descriptors:
                    os.close(each)
                what, sizes = left.pop(0) if len(left) > 1 else left[0]
                if not data or what is GONE:
                    return
                answer(peer, what, sizes)
                if unasked is not None and len(left) == 1:
                    answer(peer, unasked, ())
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    require_native()
    return compiled(tmp_path_factory.mktemp("client"), CLIENT)


STARTS = {
    "gone": ([(GONE, ())], "usmd has closed the connection"),
    "nonsense": ([(NONSENSE, ())], NOT_UNDERSTOOD),
    "cut": ([(BEGUN.SerializeToString()[:-1], ())], NOT_UNDERSTOOD),
    "too long": ([(b"\x0a" * 5000, ())], NOT_UNDERSTOOD),
    "surplus descriptors": ([(BEGUN, (1, 1, 1, 1, 1, 1))], NOT_UNDERSTOOD),
    "no page size": ([(begun(), ())], NOT_UNDERSTOOD),
    "odd page size": ([(begun(page_size=PAGE + 1), ())], NOT_UNDERSTOOD),
    "huge page size": ([(begun(page_size=1 << 31), ())], NOT_UNDERSTOOD),
    "refused": ([(pb.MemoryReply(reason=8, message="too \x1b[31mmany"), ())], "usmd refuses: too ?[31mmany"),
    "no descriptors": ([(BEGUN, ()), (REGION, ())], NOT_UNDERSTOOD),
    "one descriptor": ([(BEGUN, ()), (REGION, (LENGTH,))], NOT_UNDERSTOOD),
    "short memory": ([(BEGUN, ()), (REGION, (LENGTH - 1, LENGTH))], NOT_UNDERSTOOD),
    "short map": ([(BEGUN, ()), (REGION, (LENGTH, 1))], NOT_UNDERSTOOD),
    "no region": ([(BEGUN, ()), (region(region_id=0), SIZES)], NOT_UNDERSTOOD),
    "another length": ([(BEGUN, ()), (region(length=PAGE), SIZES)], NOT_UNDERSTOOD),
    "never room": ([(BEGUN, ()), (pb.MemoryReply(reason=8, message="no room"), ())], "usmd refuses: no room"),
    "not served": ([(BEGUN, ()), (REGION, SIZES), (pb.MemoryReply(reason=1, message="no"), ())], "usmd refuses: no"),
    "gone when mapped": ([(BEGUN, ()), (REGION, SIZES), (GONE, ())], "usmd has closed the connection"),
}  # fmt: skip


@pytest.mark.parametrize("case", STARTS)
def test_a_program_starts_without_usmd_if_the_start_of_its_session_goes_wrong(tmp_path, client, case):
    answers, words = STARTS[case]
    with daemon(tmp_path, answers) as address:
        done = run_managed(address, client, "hold", 64, require=False)
    assert (done.returncode, done.stdout) == (0, "right\ndone\n")
    [line] = done.stderr.splitlines()
    assert line.endswith(f"): {words}; it runs without usmd")


@pytest.mark.parametrize("touches", [(), (1,)], ids=["no socket", "a file for a socket"])
@pytest.mark.parametrize(
    ("last", "words"),
    [
        ((GONE, ()), "usmd has closed the connection"),
        ((NONSENSE, ()), NOT_UNDERSTOOD),
        ((OK, (1,)), NOT_UNDERSTOOD),
        ((pb.MemoryReply(reason=5, message="out of memory"), ()), "usmd refuses: out of memory"),
    ],
)
def test_a_program_keeps_its_bytes_if_usmd_goes_later(tmp_path, client, last, words, touches):
    """The pages of this region are the kernel's own: nothing registered them."""
    with daemon(tmp_path, [(BEGUN, touches), (REGION, SIZES), (OK, ()), last]) as address:
        done = run_managed(address, client, "signals")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    [line] = done.stderr.splitlines()
    assert line.endswith(f"): {words}; new memory is not usmd's from now on")


@pytest.mark.parametrize(
    ("unasked", "words"),
    [
        (KILLED, "usmd has ended the session: a policy has ?[31mchosen it"),
        (NONSENSE, "usmd has closed the connection"),
        (OK, "usmd has closed the connection"),
    ],
)
def test_why_usmd_has_ended_the_session_is_told_without_a_request(tmp_path, client, unasked, words):
    with (
        daemon(tmp_path, [(BEGUN, ()), (REGION, SIZES), (OK, ()), (OK, ())], unasked) as address,
        started(address, client, "hold", 64) as process,
    ):
        line = process.stderr.readline()
        assert line.endswith(f"): {words}; new memory is not usmd's from now on\n")
        assert process.communicate() == ("right\ndone\n", "")
