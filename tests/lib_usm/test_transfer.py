"""Loads and stores through a daemon that evicts as it likes."""

import random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import lib_usm
from lib_usm import transfer
from tests.support.examples import examples
from usm_wire.pb.usm.v1 import client_pb2

PAGE = 16
DATA = bytes(range(256)) * 4


def test_long_reads_and_writes_go_in_chunks_of_the_daemons_limit(daemon, client):
    region = client.mmap(1024)
    region.write(3, DATA[:1000])
    assert region.read(3, 1000) == DATA[:1000]
    stores, loads = daemon.requests("Store"), daemon.requests("Load")
    assert max(len(store.data) for store in stores) == 64 == max(load.length for load in loads)
    assert len(stores) == len(loads) == 16


def test_absent_neighbours_are_one_fault_up_to_the_limit_and_one_batch(make_daemon):
    daemon = make_daemon(max_transfer_bytes=160)
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(160)
        client.fault(region, 5 * PAGE, 1)
        region.read(0, 160)
        batch = daemon.requests("StreamFaults")[1]
        assert [(fault.first_page, fault.page_count) for fault in batch.faults] == [(0, 4), (4, 1), (6, 4)]
        assert not any(fault.write for fault in batch.faults)
        assert len(daemon.requests("StreamFaults")) == 2


def test_a_store_faults_for_writing(daemon, client):
    client.mmap(64).write(0, b"x")
    assert [fault.write for fault in daemon.faults()] == [True]


def test_resident_pages_are_not_faulted_again(daemon, client):
    region = client.mmap(64)
    region.write(0, b"x" * 64)
    for _ in range(3):
        region.read(0, 64)
    assert len(daemon.faults()) == 1


def test_a_stale_entry_costs_a_round_trip_and_no_wrong_byte(daemon, client):
    region = client.mmap(64)
    region.write(0, DATA[:64])
    daemon.evict(region, 0)
    assert region.read(0, 64) == DATA[:64]
    assert [(fault.first_page, fault.page_count) for fault in daemon.faults()] == [(0, 4), (0, 1)]
    assert len(daemon.requests("Load")) == 2


def test_a_partial_load_goes_on_behind_its_resident_prefix(daemon, client):
    region = client.mmap(64)
    region.write(0, DATA[:64])
    daemon.evict(region, 1, 3)
    assert region.read(5, 50) == DATA[5:55]
    assert [(load.offset, load.length) for load in daemon.requests("Load")] == [(5, 50), (16, 39)]
    assert [(f.first_page, f.page_count) for f in daemon.faults()[1:]] == [(1, 1), (3, 1)]


def test_a_partial_store_goes_on_behind_its_resident_prefix(daemon, client):
    region = client.mmap(64)
    region.write(0, bytes(64))
    daemon.evict(region, 2)
    region.write(1, DATA[:60])
    assert region.read(0, 64) == b"\0" + DATA[:60] + bytes(3)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_memory_smaller_than_a_chunk_still_makes_progress(make_daemon, frames):
    daemon = make_daemon(frames=frames, max_transfer_bytes=256, max_fault_pages=16)
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(1024)
        region.write(0, DATA)
        assert region.read(0, 1024) == DATA
        rounds = sum(bool(request.faults) for request in daemon.requests("StreamFaults"))
        assert rounds < 4 * 64, "the window does not settle on what memory holds"


def test_the_window_grows_again_when_memory_does(make_daemon):
    daemon = make_daemon(frames=1, max_transfer_bytes=256, max_fault_pages=16)
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(1024)
        region.read(0, 256)
        daemon.frames = None
        for _ in range(4):
            region.read(0, 1024)
        assert daemon.requests("Load")[-1].length == 256


def test_memory_that_is_short_for_many_pages_is_asked_for_fewer(daemon, client, wire):
    daemon.answers = lambda fault: (
        wire.failed(fault, "OUT_OF_MEMORY") if fault.page_count > 1 else daemon.serve_fault(fault)
    )
    region = client.mmap(64)
    region.write(0, DATA[:64])
    assert region.read(0, 64) == DATA[:64]


def test_memory_that_is_short_for_one_page_is_an_error(daemon, client, wire):
    daemon.answers = lambda fault: wire.failed(fault, "OUT_OF_MEMORY", "no frame left")
    region = client.mmap(64)
    with pytest.raises(lib_usm.OutOfMemory, match="no frame left"):
        region.read(0, 64)
    with pytest.raises(lib_usm.OutOfMemory, match="no frame left"):
        region.write(0, bytes(64))


def test_a_page_that_never_stays_is_an_error_and_not_a_hang(make_daemon, monkeypatch):
    monkeypatch.setattr(transfer, "_MAX_FRUITLESS_ROUNDS", 20)
    daemon = make_daemon(frames=0)
    with lib_usm.connect(daemon.address) as client:
        region = client.mmap(64)
        with pytest.raises(lib_usm.Thrashing, match=f"page 0 of region {region.region_id} was evicted 20 times"):
            region.read(0, 64)


def test_a_damaged_page_is_an_error_and_the_others_are_read(daemon, client, wire):
    region = client.mmap(64)
    daemon.answers = lambda fault: (
        wire.failed(fault, "DATA_LOSS", "checksum") if fault.first_page == 2 else daemon.serve_fault(fault)
    )
    assert region.read(0, 32) == bytes(32)
    with pytest.raises(lib_usm.DataLoss) as caught:
        region.read(0, 64)
    assert caught.value.page == 2
    assert region.read(48, 16) == bytes(16)


@pytest.mark.parametrize(
    "answer",
    [
        client_pb2.LoadResponse(),
        client_pb2.LoadResponse(absent_pages=[3]),
        client_pb2.LoadResponse(data=b"x" * 65),
    ],
)
def test_a_load_that_breaks_the_contract_is_an_error_and_not_a_loop(daemon, client, answer, monkeypatch):
    monkeypatch.setattr(daemon, "load", lambda request: answer)
    with pytest.raises(lib_usm.InternalError, match="the daemon moved"):
        client.mmap(64).read(0, 64)


@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 12), waits=st.booleans())
def test_every_byte_comes_back_whatever_is_evicted_and_when(daemon, client, wire, seed, frames, waits):
    chance = random.Random(seed)
    daemon.frames = frames
    tokens = iter(range(1, 1 << 30))

    def serve(fault):
        for _ in range(min(len(daemon.resident), chance.randrange(3))):
            daemon.resident.popleft()
        if waits and chance.random() < 0.3:
            token = next(tokens)
            daemon.send(wire.yielded(fault, token))
            daemon.make_resident(fault)
            return wire.allocated(fault, token)
        return daemon.serve_fault(fault)

    daemon.answers = serve
    with client.mmap(300) as region:
        truth = bytearray(300)
        for _ in range(12):
            offset = chance.randrange(300)
            n = chance.randrange(300 - offset)
            if chance.random() < 0.5:
                truth[offset : offset + n] = data = chance.randbytes(n)
                region.write(offset, data)
            else:
                assert region.read(offset, n) == truth[offset : offset + n]
        assert region[:] == truth
