"""What is said before a SIGBUS ends a process, and that it ends as it would have. Each such process is forked."""

import contextlib
import ctypes
import faulthandler
import mmap
import os
import re
import signal
import socket

import pytest

from lib_usm import sigbus
from usm_wire.pb.usm.v1 import common_pb2

PAGE = 4096
PAGES = 8
SENTENCE = r"lib_usm: SIGBUS at page 5 \(byte 20483\) of <a region>: "


@pytest.fixture(scope="module", autouse=True)
def compiled():
    if not sigbus.available:
        pytest.fail("lib_usm/sigbus.c was not compiled: install a C compiler, then `touch pyproject.toml; make`")


def touched(prepare=lambda: None, touch=None, *, ended=False, stderr=None, watches=True, reason=0):
    """What a child process says that touches what lies behind its file's end, and how it ended."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(write if stderr is None else stderr, 2)
            faulthandler.disable()  # which pytest has enabled
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            file = os.memfd_create("truncated")
            os.ftruncate(file, PAGES * PAGE)
            memory = mmap.mmap(file, PAGES * PAGE)
            os.ftruncate(file, PAGE)
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            prepare()
            residency = mmap.mmap(-1, 2 * PAGES)
            residency[PAGES + 5] = reason
            if watches:
                reasons = sigbus.address_of(residency) + PAGES
                sigbus.watch(address, PAGES * PAGE, PAGE, near.fileno(), "<a region>", reasons)
            if ended:
                far.close()
            (touch or (lambda memory: memory[5 * PAGE + 3]))(memory)
        finally:
            os._exit(77)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return said, os.waitstatus_to_exitcode(status)


def test_a_page_that_cannot_be_had_is_named_with_what_may_be_the_cause():
    said, code = touched()
    assert code == -signal.SIGBUS
    assert re.fullmatch(SENTENCE + r"the daemon could not bring the page; its log and `usmctl explain` .*\n", said)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (common_pb2.FAILURE_REASON_OUT_OF_MEMORY, "there was no memory for it: no frame is free"),
        (common_pb2.FAILURE_REASON_DATA_LOSS, "its bytes in swap are damaged"),
        (common_pb2.FAILURE_REASON_SWAP_IO, "its swap device cannot be read"),
    ],
)
def test_the_reason_that_the_daemon_gave_is_told(reason, text):
    said, code = touched(reason=reason)
    assert code == -signal.SIGBUS
    assert re.fullmatch(SENTENCE + rf"the daemon could not bring the page: {text}.*; its log .*\n", said)
    assert "session has ended" in touched(reason=reason, ended=True)[0], "whatever the page's reason was before"


@pytest.mark.parametrize("reason", [common_pb2.FAILURE_REASON_INTERNAL, 64, 255])
def test_a_reason_without_words_is_told_as_none(reason):
    assert re.fullmatch(SENTENCE + r"the daemon could not bring the page; its log .*\n", touched(reason=reason)[0])


@pytest.mark.parametrize("prot", [mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE])
def test_the_address_of_a_mapping_is_where_its_bytes_are(prot):
    file = os.memfd_create("bytes")
    os.write(file, b"abcd" * 1024)
    mapping = mmap.mmap(file, PAGE, prot=prot)
    os.close(file)
    assert ctypes.string_at(sigbus.address_of(mapping), 6) == b"abcdab"
    mapping.close()


def test_the_end_of_the_session_is_told():
    said, code = touched(ended=True)
    assert code == -signal.SIGBUS
    assert re.fullmatch(SENTENCE + r"the session has ended.*\n", said)


def test_a_thread_without_the_interpreters_lock_ends_the_process_too():
    """While another thread keeps the lock and does not let go."""

    def touch(memory):
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 5 * PAGE + 3
        libc = ctypes.PyDLL(None)  # which keeps the lock
        thread = ctypes.c_void_p()
        libc.pthread_create(ctypes.byref(thread), None, libc.strlen, ctypes.c_void_p(address))
        libc.sleep(60)

    said, code = touched(touch=touch)
    assert code == -signal.SIGBUS
    assert re.match(SENTENCE, said)


def test_faulthandler_says_its_part_as_well():
    said, code = touched(lambda: faulthandler.enable(2))
    assert code == -signal.SIGBUS
    assert re.match(SENTENCE, said)
    assert said.count("Fatal Python error: Bus error") == 1
    assert "in touched" in said


def test_a_faulthandler_between_two_regions_does_not_make_it_go_round():
    other = mmap.mmap(-1, PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(other))

    def prepare():
        sigbus.watch(address, PAGE, PAGE, -1, "<another>", address)
        faulthandler.enable(2)

    said, code = touched(prepare)
    assert code == -signal.SIGBUS
    assert re.match(SENTENCE, said)
    assert said.count("Fatal Python error: Bus error") == 1


def test_a_handler_of_the_application_stays():
    def prepare():
        signal.signal(signal.SIGBUS, lambda *_: os._exit(3))

    said, code = touched(prepare, lambda _: signal.raise_signal(signal.SIGBUS))
    assert (said, code) == ("", 3)


@pytest.mark.parametrize(
    "send", [lambda: os.kill(os.getpid(), signal.SIGBUS), lambda: signal.raise_signal(signal.SIGBUS)]
)
def test_a_signal_that_was_sent_is_no_touch(send):
    assert touched(touch=lambda _: send()) == ("", -signal.SIGBUS)


def test_what_is_not_watched_is_not_spoken_of():
    assert touched(watches=False) == ("", -signal.SIGBUS)

    def forgets(memory):
        sigbus.forget(0)
        return memory[5 * PAGE]

    assert touched(touch=forgets) == ("", -signal.SIGBUS)


def test_a_pipe_that_nobody_reads_does_not_keep_the_process():
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    assert touched(stderr=write) == ("", -signal.SIGBUS)
    os.close(read)
    os.close(write)


def test_more_regions_than_the_table_has_are_not_watched():
    numbers = [sigbus.watch(PAGE * (1 + index), PAGE, PAGE, -1, "many", 0) for index in range(4097)]
    try:
        assert numbers[-1] == -1
        assert len(set(numbers)) == 4097
    finally:
        for number in numbers:
            sigbus.forget(number)
