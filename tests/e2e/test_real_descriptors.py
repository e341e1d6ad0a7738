"""Sessions and regions of real memory come and go, and usmd is left with the descriptors and mappings that it had."""

import contextlib
import gc
import os
from pathlib import Path

import pytest

import lib_usm
from tests.support.daemon import wait_equal, wait_until
from tests.support.real_daemon import FRAMES, PAGE, in_use, memory_descriptors, memory_mappings, real_daemon
from tests.support.real_memory import require_real_memory

SESSIONS = 40
AT_ONCE = 20
REGIONS = 150
SLACK = 8
"""Mappings of the daemon that may come with its threads and its heap, and are none of a client's memory."""


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def mappings(pid):
    return len(Path(f"/proc/{pid}/maps").read_text().splitlines())


def visit(daemon, number):
    """A session with two regions: one is filled, and gives some of itself to swap; one is closed."""
    client = lib_usm.connect(daemon.address, name=f"visitor{number}")
    kept, closed = client.mmap(4 * PAGE), client.mmap(2 * PAGE)
    for region in (kept, closed):
        # Asked for first: a touch that is not served would stop this process for good.
        region.ensure()
        region.buffer[: len(region)] = os.urandom(len(region))
    kept.evict(0, PAGE)
    if number % 2:
        closed.close()
    return client


def test_many_sessions_leave_no_descriptor_mapping_frame_or_slot_behind(tmp_path):
    with real_daemon(tmp_path) as daemon:
        pid = daemon.process.pid

        def come_and_go(count):
            for start in range(0, count, AT_ONCE):
                with contextlib.ExitStack() as guests:
                    for number in range(start, start + AT_ONCE):
                        guests.enter_context(visit(daemon, number))
                    assert in_use(daemon)[0] == AT_ONCE

        def nothing_left():
            wait_equal(lambda: in_use(daemon), (0, 0, 0), "all sessions have ended")
            wait_equal(lambda: memory_descriptors(daemon), [], "userfaultfds, memfds and pidfds are closed")
            assert memory_mappings(daemon) == []

        come_and_go(AT_ONCE)
        nothing_left()
        # What the first visits opened for good is there; SLACK is for what is opened at the second visit or later.
        before, mapped, own = open_files(pid) + SLACK, mappings(pid), open_files("self") + SLACK
        come_and_go(SESSIONS)
        nothing_left()
        wait_until(lambda: open_files(pid) <= before, f"usmd has {before} open files again")
        wait_until(lambda: mappings(pid) <= mapped + SLACK, f"usmd has {mapped} mappings again")
        wait_until(lambda: open_files("self") <= own, "nor has this process more open files than before")


def test_a_hundred_and_fifty_regions_of_one_session_leave_nothing_behind_on_either_side(tmp_path):
    with real_daemon(tmp_path) as daemon, lib_usm.connect(daemon.address) as client:
        pid = daemon.process.pid
        stays = client.mmap(8 * PAGE)
        data = os.urandom(len(stays))
        stays.ensure()
        stays.buffer[:] = data

        def come_and_go(count):
            for number in range(count):
                region = client.mmap((1 + number % 5) * PAGE)
                region.ensure()
                region.buffer[:1] = b"1"
                array = region.ndarray("u1")
                array[-1] = 2
                del array
                region.close()

        def counts():
            gc.collect()
            return (
                open_files(pid), open_files("self"), len(memory_descriptors(daemon)), len(memory_mappings(daemon)),
                mappings_of_memory("self"),
            )  # fmt: skip

        come_and_go(10)
        before = counts()
        mapped = mappings(pid)
        come_and_go(REGIONS)
        wait_until(
            lambda: all(now <= then + SLACK for now, then in zip(counts(), before, strict=True)),
            f"open files and mapped memfds are what they were, {before}",
        )
        wait_until(lambda: mappings(pid) <= mapped + SLACK, f"usmd has {mapped} mappings again")
        stays.ensure()
        assert bytes(stays.buffer) == data
        _, frames, slots = in_use(daemon)
        assert frames + slots == 8
        assert frames < FRAMES


def mappings_of_memory(pid):
    """The memfds of usmd that a process has mapped."""
    return sum(1 for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/memfd:usmd-" in line)
