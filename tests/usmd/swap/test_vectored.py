"""Runs of slots, and the transfer loop against a scripted system call."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usmd.swap import vectored
from usmd.swap.vectored import IOV_MAX, adjacent_runs, transfer

SIZE = 8


class Disk:
    """A write call into `data` that moves at most `most` bytes a call and fails on pages in `bad`."""

    def __init__(self, pages, most=None, bad=(), end=None):
        self.data = bytearray(pages * SIZE)
        self.most = most
        self.bad = set(bad)
        self.end = len(self.data) if end is None else end
        self.calls = []

    def __call__(self, descriptor, buffers, offset):
        self.calls.append((descriptor, len(buffers), offset))
        wanted = b"".join(buffers)
        if self.most is not None:
            wanted = wanted[: self.most]
        wanted = wanted[: max(0, self.end - offset)]
        for page in range(offset // SIZE, (offset + len(wanted) - 1) // SIZE + 1):
            if page in self.bad:
                wanted = wanted[: max(0, page * SIZE - offset)]
                if not wanted:
                    raise OSError(errno.EIO, f"page {page}")
                break
        self.data[offset : offset + len(wanted)] = wanted
        return len(wanted)


def pages(count):
    return [memoryview(bytes([n % 255 + 1]) * SIZE) for n in range(count)]


@pytest.mark.parametrize(
    ("slots", "runs"),
    [
        ([], []),
        ([4], [[0]]),
        ([4, 5, 6], [[0, 1, 2]]),
        ([6, 4, 5], [[1, 2, 0]]),
        ([1, 3, 2, 7, 9, 8], [[0, 2, 1], [3, 5, 4]]),
        ([0, 2, 4], [[0], [1], [2]]),
        ([3, 3], [[0], [1]]),
    ],
)
def test_runs_join_neighbours_and_split_at_gaps(slots, runs):
    assert adjacent_runs(slots) == runs


def test_neighbouring_pages_take_one_call():
    disk = Disk(66)
    assert transfer(disk, 7, pages(64), 2 * SIZE) == {}
    assert disk.calls == [(7, 64, 2 * SIZE)]
    assert bytes(disk.data) == bytes(2 * SIZE) + b"".join(pages(64))


def test_more_buffers_than_one_call_takes_are_split():
    disk = Disk(2 * IOV_MAX + 5)
    assert transfer(disk, 7, pages(2 * IOV_MAX + 5), 0) == {}
    assert [count for _, count, _ in disk.calls] == [IOV_MAX, IOV_MAX, 5]
    assert bytes(disk.data) == b"".join(pages(2 * IOV_MAX + 5))


@given(st.integers(1, 40), st.integers(1, 50), st.sets(st.integers(0, 39)))
def test_short_transfers_are_taken_up_and_only_bad_pages_fail(count, most, bad):
    disk = Disk(count, most=most, bad=bad)
    failures = transfer(disk, 7, pages(count), 0)
    assert set(failures) == {page for page in bad if page < count}
    assert all(str(page) in str(error) for page, error in failures.items())
    for index, page in enumerate(pages(count)):
        stored = bytes(disk.data[index * SIZE : (index + 1) * SIZE])
        assert stored == (bytes(SIZE) if index in failures else page)


def test_a_call_that_fails_as_a_whole_is_tried_buffer_by_buffer():
    def call(_descriptor, buffers, offset):
        if offset <= SIZE < offset + len(buffers) * SIZE:
            raise OSError(errno.EIO, "second page")
        return len(buffers) * SIZE

    assert list(transfer(call, 7, pages(4), 0)) == [1]


@pytest.mark.parametrize(("end", "failed"), [(2 * SIZE, [2, 3]), (2 * SIZE + 3, [2, 3]), (0, [0, 1, 2, 3])])
def test_the_end_of_the_file_fails_what_lies_beyond_it(end, failed):
    failures = transfer(Disk(4, end=end), 7, pages(4), 0)
    assert list(failures) == failed
    assert all(isinstance(error, EOFError) for error in failures.values())


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_what_is_to_be_tried_again_is_no_failure_but_has_an_end(number, monkeypatch):
    monkeypatch.setattr(vectored, "PAUSE_SECONDS", 0)
    disk = Disk(4)
    left = [3]

    def interrupted(descriptor, buffers, offset):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, "again")
        return disk(descriptor, buffers, offset)

    assert transfer(interrupted, 7, pages(4), 0) == {}
    assert len(disk.calls) == 1  # and not buffer by buffer
    left[0] = vectored.MAX_TRIES + 10
    assert list(transfer(interrupted, 7, pages(1), 0)) == [0]
