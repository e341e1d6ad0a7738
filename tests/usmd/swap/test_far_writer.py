"""What the far part of a mirror is given first, and what becomes of pages that wait; the rest is in test_mirror.py."""

import time

import pytest

from tests.support.failing_device import FailingDevice
from tests.support.waiting import wait_until
from usmd.swap import far_writer, reachable
from usmd.swap.copies import BEHIND, BOTH, COMING, Copies
from usmd.swap.far_writer import FarWriter, fresh_entries, part_entry
from usmd.swap.part_thread import Parts
from usmd.swap.reachable import Reachable

PAGE = 16
SECONDS = 60


class Bench:
    def __init__(self, slots=256):
        self.far = FailingDevice("far", slots=slots, page_size=PAGE)
        self.local = FailingDevice("local", slots=slots, page_size=PAGE)
        self.copies = Copies(slots)
        self.reachable = Reachable()
        self.writer = FarWriter(Parts(self.far, self.local, self.copies, self.reachable, 1 << 40, time.monotonic))

    def write(self, slots):
        """Write pages to the local part, and offer them."""
        numbers = self.copies.begin(slots)
        entries = [
            part_entry(slot, number, memoryview(bytearray([number % 256]) * PAGE))
            for slot, number in zip(slots, numbers, strict=True)
        ]
        assert self.local.write(entries) == [None] * len(slots)
        self.writer.offer(entries)
        for entry in entries:
            entry.buffer[:] = bytes(PAGE)  # the caller's memory is its own again

    def are(self, state, count):
        wait_until(lambda: self.copies.count(state) == count, f"{count} pages in state {state}")


@pytest.fixture
def bench():
    found = Bench()
    yield found
    found.far.mend()
    found.local.mend()
    assert found.writer.close(SECONDS)


def test_pages_are_written_from_copies_made_when_they_were_offered(bench):
    bench.far.fail("write", "hold")
    bench.write([1, 2])
    bench.far.wait_for_call("write")
    bench.write([3])
    assert bench.copies.count(COMING) == 3
    bench.far.mend()
    bench.are(BOTH, 3)
    entries = fresh_entries([(1, 1), (2, 2), (3, 3)], PAGE)
    assert bench.far.read(entries) == [None] * 3
    assert [entry.buffer[0] for entry in entries] == [1, 2, 3]


def test_what_finds_no_room_in_memory_is_read_from_the_local_part_later(bench, monkeypatch):
    monkeypatch.setattr(far_writer, "WAITING_BYTES", 2 * PAGE)
    bench.far.fail("write", "hold")
    bench.write([1])
    bench.far.wait_for_call("write")
    bench.write([2, 3, 4])
    bench.write([5])
    assert (bench.copies.count(COMING), bench.copies.count(BEHIND)) == (4, 1)
    bench.far.mend()
    bench.are(BOTH, 5)
    assert bench.writer.repaired == 1


def test_only_the_last_of_several_writes_to_a_slot_is_written(bench):
    bench.far.fail("write", "hold")
    bench.write([1])
    bench.far.wait_for_call("write")
    bench.write([2])
    bench.write([2])
    bench.far.mend()
    bench.are(BOTH, 2)
    assert bench.far.read(fresh_entries([(2, 3)], PAGE)) == [None]


def test_what_waits_when_the_far_part_fails_is_behind_and_not_in_memory(bench, monkeypatch):
    monkeypatch.setattr(reachable, "FIRST_PAUSE", 3600.0)
    bench.far.fail("write", "hold")
    bench.write([1])
    bench.far.wait_for_call("write")
    bench.write([2])
    bench.far.fail("write", "io")
    bench.are(BEHIND, 2)
    assert bench.reachable.away
    bench.write([3])
    assert bench.copies.count(BEHIND) == 3


def test_a_page_that_the_local_part_cannot_read_is_tried_again_and_one_that_it_has_lost_is_not(bench, monkeypatch):
    monkeypatch.setattr(reachable, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(reachable, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(far_writer, "REST_SECONDS", 0.001)
    bench.local.fail("read", "io")
    bench.far.fail("write", "io")
    bench.write([1])
    bench.local.wait_for_call("read", 2)
    assert bench.copies.state(1) == BEHIND
    bench.local.fail("read", "noise")
    wait_until(lambda: bench.copies.count(BEHIND) == 0, "the page is given up")
    assert bench.writer.repaired == 0


def test_a_defect_of_the_far_device_is_logged_and_ends_nothing(bench, monkeypatch, capsys):
    monkeypatch.setattr(reachable, "FIRST_PAUSE", 0.001)
    real = bench.far.write
    bench.far.write = lambda batch: 1 // 0
    bench.write([1])
    bench.are(BEHIND, 1)
    bench.far.write = real
    bench.are(BOTH, 1)
    assert "ZeroDivisionError" in capsys.readouterr().out
