"""Direct I/O: switching it on, buffers wherever they are in memory, and transfers that stop short."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading

import pytest

from usmd.swap import direct
from usmd.swap.direct import BLOCK, DirectIO, switch_on

BLOCKS = 256


@pytest.fixture
def descriptor(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, b"header")
    os.posix_fallocate(descriptor, 0, BLOCKS * BLOCK)
    switch_on(descriptor, b"header")
    yield descriptor
    os.close(descriptor)


def aligned(count):
    return memoryview(mmap.mmap(-1, count * BLOCK))


def unaligned(size):
    """A buffer that begins at an odd address."""
    return memoryview(mmap.mmap(-1, size + BLOCK))[1 : size + 1]


def content(number, size=BLOCK):
    return bytes([number % 251 + 1]) * size


@pytest.fixture
def calls(monkeypatch):
    """What the kernel was asked for: the call, how many buffers, and the bytes moved or the error."""
    seen = []

    def counted(name, real):
        def call(descriptor, buffers, offset):
            try:
                moved = real(descriptor, buffers, offset)
            except OSError as error:
                seen.append((name, len(buffers), errno.errorcode[error.errno]))
                raise
            seen.append((name, len(buffers), moved))
            return moved

        return call

    for name in ("preadv", "pwritev"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return seen


def test_all_later_io_is_direct_and_what_was_written_before_is_on_the_disk(descriptor):
    assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT
    buffer = aligned(1)
    assert os.preadv(descriptor, [buffer], 0) == BLOCK
    assert bytes(buffer[:6]) == b"header"


def test_a_file_system_that_reads_something_else_is_refused(tmp_path):
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(bytes(BLOCK))
        with pytest.raises(OSError, match="what was written is not what is read"):
            switch_on(file.fileno(), b"header")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_has_no_direct_io_is_refused(tmp_path, monkeypatch, code):
    def refuse(descriptor, command, flags=0):
        if command == fcntl.F_SETFL:
            raise OSError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(direct.fcntl, "fcntl", refuse)
    with (tmp_path / "file").open("w+b") as file, pytest.raises(OSError, match=os.strerror(code)):
        switch_on(file.fileno(), b"")


def test_aligned_buffers_go_as_they_are(descriptor, calls):
    io = DirectIO(BLOCK)
    source, target = aligned(3), aligned(3)
    source[:] = b"".join(map(content, range(3)))
    parts = [source[n * BLOCK : (n + 1) * BLOCK] for n in range(3)]
    assert io.pwritev(descriptor, parts, BLOCK) == 3 * BLOCK
    assert io.preadv(descriptor, [target], BLOCK) == 3 * BLOCK
    assert bytes(target) == bytes(source)
    assert calls == [("pwritev", 3, 3 * BLOCK), ("preadv", 1, 3 * BLOCK)]


@pytest.mark.parametrize("size", [BLOCK, 4 * BLOCK, 128 * BLOCK])
def test_buffers_anywhere_in_memory_go_by_way_of_aligned_memory(descriptor, size):
    io = DirectIO(size)
    first = unaligned(size)
    first[:] = content(1, size)
    assert io.pwritev(descriptor, [first], BLOCK) == size
    frozen = memoryview(content(2, BLOCK))  # of an immutable object: it cannot be written to
    assert io.pwritev(descriptor, [frozen], (BLOCKS - 1) * BLOCK) == BLOCK
    target = unaligned(size)
    assert io.preadv(descriptor, [target], BLOCK) == size
    assert bytes(target) == content(1, size)
    last = unaligned(BLOCK)
    assert io.preadv(descriptor, [last], (BLOCKS - 1) * BLOCK) == BLOCK
    assert bytes(last) == content(2)


def test_more_than_there_is_room_for_stops_short_and_the_rest_is_asked_for_again(descriptor, calls):
    io = DirectIO(BLOCK)
    targets = [unaligned(BLOCK) for _ in range(100)]
    for number in range(100):
        io.pwritev(descriptor, [memoryview(content(number))], (number + 1) * BLOCK)
    moved = io.preadv(descriptor, targets, BLOCK)
    assert moved == 64 * BLOCK  # 256 KiB
    assert [bytes(target) == content(number) for number, target in enumerate(targets)] == [True] * 64 + [False] * 36


def test_only_whole_blocks_count(descriptor):
    os.ftruncate(descriptor, 2 * BLOCK + 512)
    io = DirectIO(BLOCK)
    for target in (aligned(3), unaligned(3 * BLOCK)):
        assert io.preadv(descriptor, [target], 0) == 2 * BLOCK
        assert io.preadv(descriptor, [target], 2 * BLOCK) == 0
        assert io.preadv(descriptor, [target], 4 * BLOCK) == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_other_errors_are_those_of_the_kernel(descriptor, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match=os.strerror(code)):
        DirectIO(BLOCK).preadv(descriptor, [aligned(1)], 0)


def test_what_no_alignment_cures_is_told(descriptor):
    with pytest.raises(OSError, match="Invalid argument"):
        DirectIO(BLOCK).preadv(descriptor, [aligned(1)], 1)


def test_many_threads_do_not_share_a_bounce_buffer(descriptor):
    io = DirectIO(BLOCK)
    for number in range(8):
        io.pwritev(descriptor, [memoryview(content(number))], (number + 1) * BLOCK)
    begin = threading.Barrier(8)
    wrong = []

    def read(number):
        begin.wait(90)
        target = unaligned(BLOCK)
        for _ in range(100):
            target[:] = bytes(BLOCK)
            moved = io.preadv(descriptor, [target], (number + 1) * BLOCK)
            if moved != BLOCK or bytes(target) != content(number):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
