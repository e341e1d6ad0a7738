"""Submitted jobs of a device: what becomes one request, and what must run in a thread."""

import ctypes
import errno
import mmap

import pytest

from tests.support.channels import HeldSubmittingDevice
from usmd.errors import DataLoss, OutOfRange
from usmd.swap.base import SlotIO
from usmd.swap.channel import DEPTH
from usmd.swap.submitting import Submission

PAGE = 16


class Bench:
    def __init__(self):
        self.device = HeldSubmittingDevice(page_size=PAGE)
        self.memory = mmap.mmap(-1, 64 * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.ended = []

    def entries(self, slots, generation=1):
        view = memoryview(self.memory)
        return [
            SlotIO(slot, 1, slot, generation, view[place * PAGE : (place + 1) * PAGE])
            for place, slot in enumerate(slots)
        ]

    def submit(self, slots, *, writing, generation=1):
        job = Submission(self.entries(slots, generation), self.address, self._end, writing=writing)
        return self.device.submit(job)

    def _end(self, job, results):
        assert not job.left
        self.ended.append(results)

    def complete(self, *, result=None):
        self.device.held.let_go(result=result)
        self.device.complete()

    def put(self, slots, fill=b"x"):
        self.memory[: len(slots) * PAGE] = fill * PAGE * len(slots)
        assert self.submit(slots, writing=True)
        self.complete()
        assert self.ended.pop() == [None] * len(slots)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.device.close()


def test_neighbours_in_the_file_are_one_request_and_others_are_not(bench):
    assert bench.submit([3, 4, 5, 9, 10, 2], writing=True)
    found = [(offset, address, length) for _, offset, address, length, _ in bench.device.held.submitted]
    assert found == [
        (3 * PAGE, bench.address, 3 * PAGE),
        (9 * PAGE, bench.address + 3 * PAGE, 2 * PAGE),
        (2 * PAGE, bench.address + 5 * PAGE, PAGE),
    ]
    assert bench.device.room == DEPTH - 3
    bench.complete()
    assert bench.ended == [[None] * 6]
    assert bench.device.room == DEPTH


def test_a_job_ends_with_the_last_of_its_requests(bench):
    assert bench.submit([1, 5], writing=True)
    bench.device.held.let_go(1)
    bench.device.complete()
    assert bench.ended == []
    bench.complete()
    assert bench.ended == [[None, None]]


def test_what_was_written_is_read_and_verified(bench):
    bench.put([1, 2])
    bench.memory[: 2 * PAGE] = bytes(2 * PAGE)
    assert bench.submit([1, 2], writing=False)
    bench.complete()
    assert bench.ended == [[None, None]]
    assert bench.memory[: 2 * PAGE] == b"x" * 2 * PAGE
    bench.device.held.data[2 * PAGE] ^= 1
    assert bench.submit([1, 2], writing=False)
    bench.complete()
    assert [type(each) for each in bench.ended[1]] == [type(None), DataLoss]


@pytest.mark.parametrize("result", [-errno.EIO, -errno.EAGAIN, 0, PAGE - 1])
@pytest.mark.parametrize("writing", [True, False])
def test_a_job_that_did_not_move_all_its_bytes_is_to_run_in_a_thread(bench, result, writing):
    bench.put([1])
    assert bench.submit([1], writing=writing)
    bench.complete(result=result)
    assert bench.ended == [None]


def test_a_slot_is_empty_while_it_is_written_and_after_a_write_that_failed(bench):
    bench.put([1])
    assert bench.submit([1], writing=True)
    assert not bench.submit([1], writing=False)
    bench.complete(result=-errno.ENOSPC)
    assert not bench.submit([1], writing=False)
    bench.put([1])
    assert bench.submit([1], writing=False)
    bench.complete()
    assert bench.ended == [None, [None]]


def test_what_the_channel_does_not_take_runs_in_a_thread(bench):
    bench.device.held.takes = 0
    assert not bench.submit([1, 5], writing=True)
    assert bench.device.room == DEPTH
    bench.device.held.takes = 1
    assert bench.submit([1, 5], writing=True)
    assert bench.device.room == DEPTH - 1
    bench.complete()
    assert bench.ended == [None]


def test_no_more_requests_are_submitted_than_the_channel_holds(bench):
    for _ in range(DEPTH // 64):
        assert bench.submit(range(0, 128, 2), writing=True)
    assert not bench.submit([1], writing=True)
    bench.complete()
    assert bench.ended == [[None] * 64] * (DEPTH // 64)
    bench.put([1])


def test_an_entry_that_fits_no_slot_is_refused(bench):
    with pytest.raises(OutOfRange, match="slot 256"):
        bench.submit([256], writing=True)


def test_a_closed_device_takes_no_job():
    bench = Bench()
    bench.device.close()
    assert not bench.submit([1], writing=True)
