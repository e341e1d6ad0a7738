"""One suite over every channel: each request completes once, with the bytes it moved or an errno."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select

import pytest

from tests.support.io_ways import require_way
from usmd.swap.channel import DEPTH
from usmd.swap.io_uring import IoUring
from usmd.swap.linux_aio import LinuxAio

PAGE = 4096
PAGES = 64
SECONDS = 60


class File:
    """A file with direct I/O, memory for its pages, and a channel to it."""

    def __init__(self, channel, path):
        path.write_bytes(b"".join(bytes([number]) * PAGE for number in range(PAGES)))
        self.descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.memory = mmap.mmap(-1, DEPTH * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.channel = channel(self.descriptor)

    def request(self, page, place, number, *, write=False, length=PAGE):
        return write, page * PAGE, self.address + place * PAGE, length, number

    def wait(self, count):
        ready = select.poll()
        ready.register(self.channel.descriptor, select.POLLIN)
        found = []
        while len(found) < count:
            assert ready.poll(SECONDS * 1000), f"{len(found)} of {count} requests have completed"
            found += self.channel.completed()
        return sorted(found)

    def page(self, place):
        return self.memory[place * PAGE : (place + 1) * PAGE]


@pytest.fixture(params=[IoUring, LinuxAio], ids=lambda channel: channel.way)
def file(request, tmp_path):
    require_way(request.param.way)
    file = File(request.param, tmp_path / "file")
    yield file
    file.channel.close()
    os.close(file.descriptor)


def test_a_read_brings_the_bytes_and_is_told_once(file):
    assert file.channel.submit([file.request(3, 0, 7)]) == 1
    assert file.wait(1) == [(7, PAGE)]
    assert file.page(0) == b"\3" * PAGE
    assert file.channel.completed() == []


def test_a_write_is_read_again(file):
    file.memory[: 2 * PAGE] = b"w" * 2 * PAGE
    assert file.channel.submit([file.request(10, 0, 1, write=True, length=2 * PAGE)]) == 1
    assert file.wait(1) == [(1, 2 * PAGE)]
    assert os.preadv(file.descriptor, [memoryview(file.memory)[PAGE : 4 * PAGE]], 10 * PAGE) == 3 * PAGE
    assert [file.page(place)[:1] for place in (1, 2, 3)] == [b"w", b"w", b"\x0c"]


def test_as_many_as_the_channel_holds_are_in_flight_again_and_again(file):
    for turn in range(5):
        requests = [file.request((place + turn) % PAGES, place, 1000 * turn + place) for place in range(DEPTH)]
        assert file.channel.submit(requests) == DEPTH
        assert file.wait(DEPTH) == [(1000 * turn + place, PAGE) for place in range(DEPTH)]
        assert all(file.page(place) == bytes([(place + turn) % PAGES]) * PAGE for place in range(DEPTH))


def test_the_descriptor_is_readable_only_while_something_has_completed(file):
    ready = select.poll()
    ready.register(file.channel.descriptor, select.POLLIN)
    assert ready.poll(0) == []
    for number in range(3):
        file.channel.submit([file.request(number, number, number)])
        file.wait(1)
        assert ready.poll(0) == []


def test_a_read_at_the_end_is_short_and_one_behind_it_moves_nothing(file):
    file.channel.submit([file.request(PAGES - 1, 0, 1, length=2 * PAGE), file.request(PAGES, 2, 2)])
    assert file.wait(2) == [(1, PAGE), (2, 0)]


def test_an_error_is_that_of_its_request_alone(file):
    bad = (False, 0, 4096, PAGE, 2)  # no memory is mapped there
    file.channel.submit([file.request(1, 0, 1), bad, file.request(2, 1, 3)])
    taken = [(1, PAGE), (2, -errno.EFAULT), (3, PAGE)]
    assert file.wait(3) == taken


def test_a_number_may_be_large(file):
    file.channel.submit([file.request(1, 0, 1 << 62)])
    assert file.wait(1) == [(1 << 62, PAGE)]
