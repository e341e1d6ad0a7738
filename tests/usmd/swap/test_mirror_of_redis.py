"""A mirror of a real Redis and memory: whatever befalls the server, pages come back, and the parts get into step."""

import random

import pytest

from tests.support.redis_servers import QUICK, RedisServer, require_redis
from tests.support.waiting import wait_until
from usmd.config_values import read_table
from usmd.swap.base import SlotIO
from usmd.swap.mirror import MirrorKind
from usmd.swap.open import open_devices

PAGE = 4096
PAGES = 130
"""More than two extents hold."""


class Bench:
    """A mirror, its server, and what was written."""

    def __init__(self, folder):
        self.server = RedisServer(folder)
        far = {"kind": "redis", "size": "8MiB", "url": self.server.url, **QUICK}
        table = {"far": far, "local": {"kind": "memory", "size": "8MiB"}, "repair_rate": "1GiB"}
        (self.device,) = open_devices([read_table(MirrorKind, table, "swap[0]").placed(folder, 0)], PAGE)
        self.written = {}

    def write(self, seed):
        batch = [
            SlotIO(slot, 1, slot, seed, memoryview(bytearray(random.Random(f"{seed}/{slot}").randbytes(PAGE))))
            for slot in range(PAGES)
        ]
        assert self.device.write(batch) == [None] * PAGES
        self.written = {entry.slot: entry for entry in batch}

    def is_right(self):
        targets = [entry._replace(buffer=memoryview(bytearray(PAGE))) for entry in self.written.values()]
        assert self.device.read(targets) == [None] * PAGES
        return all(target.buffer == self.written[target.slot].buffer for target in targets)

    def settled(self):
        wait_until(lambda: self.device.status().in_step and not self.device.status().coming, "the server has all pages")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    require_redis()
    found = Bench(tmp_path_factory.mktemp("redis"))
    yield found
    found.device.close()
    found.server.close()


def test_pages_come_from_the_server(bench):
    bench.write(1)
    bench.settled()
    before = bench.device.status().fallbacks
    assert bench.is_right()
    assert bench.device.status().fallbacks == before


def test_a_server_that_is_killed_costs_nothing_and_one_that_starts_empty_gets_all_pages_again(bench):
    bench.write(2)
    bench.settled()
    bench.server.kill()
    assert bench.is_right()
    bench.write(3)
    assert bench.is_right()
    wait_until(lambda: bench.device.status().away, "the server is away")
    bench.server.start()
    bench.settled()
    assert bench.is_right()
    bench.settled()
    before = bench.device.status().fallbacks
    assert bench.is_right()
    assert bench.device.status().fallbacks == before, "all of them come from the server again"


def test_a_server_that_a_stranger_empties_costs_nothing(bench):
    bench.write(4)
    bench.settled()
    bench.server.client.flushall()
    assert bench.is_right()
    bench.settled()
    assert bench.is_right()


def test_a_server_that_stands_still_costs_nothing_and_is_used_when_it_goes_on(bench):
    bench.write(5)
    bench.settled()
    bench.server.stop()
    try:
        assert bench.is_right()
        bench.write(6)
        assert bench.is_right()
        wait_until(lambda: bench.device.status().away, "the server is away")
    finally:
        bench.server.go_on()
    bench.settled()
    assert bench.is_right()
