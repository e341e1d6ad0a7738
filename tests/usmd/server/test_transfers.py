"""Loads and stores without a wire. What clients may ask for is in test_client_service.py."""

import asyncio

import pytest

from usm_wire.pb.usm.v1 import client_pb2 as pb
from usmd.core import events
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, NotFound, OutOfRange
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.engine import Engine
from usmd.server.transfers import MAX_TRANSFER_BYTES, Transfers


class Bench:
    """A process with a region of which some pages are there."""

    def __init__(self, page_size, pages, present):
        settings = CoreSettings(frames=8, page_size=page_size, deny_budget=8, deny_budget_total=8)
        self.engine = Engine(settings, SimulatedMemory(8, page_size), [])
        self.transfers = Transfers(self.engine)
        self.process = self.engine.submit(events.Attach("app", "first_fit", "fifo", "refuse")).process_id
        self.region = self.engine.map(events.Map(self.process, pages * page_size, "")).region_id
        faults = [events.FaultRequest(page, self.region, page, 1, True) for page in present]
        self.engine.submit(events.Faults(self.process, faults))

    def load(self, offset, length):
        return self.transfers.load(self.process, pb.LoadRequest(region_id=self.region, offset=offset, length=length))

    def store(self, offset, data):
        return self.transfers.store(self.process, pb.StoreRequest(region_id=self.region, offset=offset, data=data))


@pytest.fixture
def make_bench():
    benches = []

    def make(page_size=16, pages=4, present=(0, 1, 2, 3)):
        benches.append(Bench(page_size, pages, present))
        return benches[-1]

    yield make
    for bench in benches:
        asyncio.run(bench.engine.close())


def test_what_is_stored_is_loaded(make_bench):
    bench = make_bench()
    assert bench.store(14, b"across two pages") == (16, [])
    assert bench.load(13, 18) == (b"\0across two pages\0", [])


def test_both_stop_at_the_first_absent_page_and_name_all_of_them(make_bench):
    bench = make_bench(present=(0, 2))
    assert bench.store(10, b"x" * 40) == (6, [1, 3])
    assert bench.load(8, 50) == (b"\0\0xxxxxx", [1, 3])
    assert bench.load(20, 20) == (b"", [1])


@pytest.mark.parametrize(("page_size", "limit"), [(512, MAX_TRANSFER_BYTES), (2 << 20, 2 << 20)])
def test_a_transfer_moves_a_mib_or_a_page(make_bench, page_size, limit):
    bench = make_bench(page_size, pages=8192 // (page_size // 512), present=())
    assert bench.transfers.limit == limit
    assert bench.load(0, limit)[0] == b""
    with pytest.raises(InvalidArgument, match=f"allowed are 1 to {limit}"):
        bench.load(0, limit + 1)
    with pytest.raises(InvalidArgument, match="0 bytes"):
        bench.store(0, b"")


def test_what_is_outside_is_refused_and_another_processs_region_is_unknown(make_bench):
    bench = make_bench()
    with pytest.raises(OutOfRange, match="bytes 60 to 64"):
        bench.store(60, b"12345")
    bench.process += 1
    with pytest.raises(NotFound):
        bench.load(0, 1)
