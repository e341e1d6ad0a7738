"""A remote swap file over a network that is cut in the middle of reads and writes, and healed.

Whatever the cut is, no byte is wrong and none that was acknowledged is lost; an error is SwapIOError, other devices go
on, and nothing needs a restart.
"""

import contextlib
import threading

import pytest

from tests.support.redis_servers import open_redis, out, read_back, types_of
from tests.support.waiting import wait_equal, wait_until
from tools.slow_link import SlowLink
from usmd.errors import SwapIOError

TIMEOUT = 0.2
OWNED = 70
"""Slots of each user of the device, more than an extent has."""


@pytest.fixture
def link(server):
    with SlowLink(str(server.path), 0.00005) as found:
        yield found


def through(link, **settings):
    return open_redis(f"redis://127.0.0.1:{link.port}", **{"timeout": TIMEOUT, "lease": 60.0, **settings})


@pytest.fixture
def device(link):
    with contextlib.closing(through(link)) as found:
        yield found


class User(threading.Thread):
    """Writes its slots and reads them back, again and again, until it is told to end and a turn has gone well."""

    def __init__(self, device, number):
        super().__init__(daemon=True)
        self._device = device
        self._slots = range(number * OWNED, (number + 1) * OWNED)
        self._over = threading.Event()
        self.turns = 0
        """Turns in which all went well."""
        self.errors = []
        """Types of the errors of all turns."""
        self.stored = []

    def run(self):
        generation, failed = 0, []
        while failed or not self._over.is_set():
            generation += 1
            entries = [out(slot, generation) for slot in self._slots]
            results = types_of(self._device.write(entries))
            # Of a failed write nothing in the slot counts: its page is still in memory.
            self.stored = [entry for entry, error in zip(entries, results, strict=True) if error is None]
            failed = [each for each in results + read_back(self._device, self.stored) if each is not None]
            self.errors += failed
            self.turns += not failed

    def end(self):
        self._over.set()
        self.join(60)


@contextlib.contextmanager
def users(device, count=3):
    found = [User(device, number) for number in range(count)]
    for each in found:
        each.start()
    try:
        yield found
    finally:
        for each in found:
            each.end()


def wait_more(counts, before, what, of=all):
    """Wait until each count (`of=any`: one of them) is above that of before."""
    wait_until(lambda: of(now > then for now, then in zip(counts(), before, strict=True)), what)


WAYS = {
    "reset": lambda link: link.cut("reset"),
    "black hole": lambda link: link.cut("hole"),
    "answers lost": lambda link: link.cut("deaf"),
    "half-open": lambda link: link.forget(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_cut_in_the_middle_of_reads_and_writes_costs_no_byte_and_it_goes_on_by_itself(device, link, server, way):
    notice = any if way == "half-open" else all  # one user may find a new connection
    with contextlib.closing(open_redis(server.url, keyspace="other")) as other, users(other, 1) as (undisturbed,):
        with users(device) as found:
            wait_until(lambda: all(each.turns for each in found), "all have begun")
            for _ in range(2):
                failures = [len(each.errors) for each in found]
                WAYS[way](link)
                wait_more(lambda: [len(each.errors) for each in found], failures, "it is noticed", notice)
                wait_more(lambda: [undisturbed.turns], [undisturbed.turns + 1], "another device goes on meanwhile")
                link.heal()
                turns = [each.turns + 1 for each in found]
                wait_more(lambda: [each.turns for each in found], turns, "all go on")
        assert {kind for each in found for kind in each.errors} == {SwapIOError}
        stored = [entry for each in found for entry in each.stored]
        assert len(stored) == 3 * OWNED
        assert read_back(device, stored) == [None] * len(stored)
    assert undisturbed.errors == []


@pytest.mark.parametrize("way", ["reset", "hole", "deaf"])
def test_the_error_is_typed_names_the_cause_and_comes_at_once_after_the_first(device, link, way):
    entries = [out(slot) for slot in range(3)]
    assert device.write(entries) == [None] * 3
    link.cut(way)
    cause = "ConnectionError" if way == "reset" else "TimeoutError"
    (error,) = device.read([out(0)])
    assert isinstance(error, SwapIOError)
    assert cause in str(error)
    wait_until(lambda: "it is asked again in a moment" in str(device.read([out(0)])[0]), "it is not asked now")
    (error,) = device.write([out(1, 2)])
    assert isinstance(error, SwapIOError)
    link.heal()
    wait_equal(lambda: read_back(device, [entries[0], entries[2]]), [None] * 2, "it is asked again")


def test_a_write_that_a_black_hole_held_happens_late_and_harms_no_page_that_was_written_since(device, link):
    assert device.write([out(0), out(1)]) == [None] * 2
    link.cut("hole")
    assert types_of(device.write([out(0, 2)])) == [SwapIOError]
    link.heal()  # the write of before arrives, at a time that nothing tells
    wait_equal(lambda: types_of(device.write([out(0, 3)])), [None], "pages are written again")
    for _ in range(20):
        assert read_back(device, [out(0, 3), out(1)]) == [None] * 2


def test_a_cut_that_is_longer_than_the_lease_loses_nothing(link):
    with contextlib.closing(through(link, lease=0.3)) as device:
        entries = [out(slot) for slot in range(100)]
        assert device.write(entries) == [None] * 100
        link.cut("hole")
        wait_until(lambda: "may have another owner by now" in str(device.write([out(200)])[0]), "the lease has run out")
        link.heal()
        wait_equal(lambda: device.write([out(200)]), [None], "it has its keyspace again")
        wait_equal(lambda: read_back(device, entries), [None] * 100, "all pages are there")
