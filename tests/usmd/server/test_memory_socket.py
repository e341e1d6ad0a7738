"""The memory socket against whoever connects: packets, regions, and its end; others are served.

Attaching is in test_memory_attach.py, peers that end in test_memory_socket_ends.py.
"""

import asyncio
import mmap
import os
import signal
import struct
import weakref
from itertools import pairwise
from types import SimpleNamespace

import pytest

from tests.usmd.mechanism.mapped import map_memory, unmap, write
from tests.usmd.server.memory_peers import (
    daemon,
    has_ended,
    peer,
    refused,
    serving,
    stranger,
    unharmed,
    used_userfaultfd,
)
from tests.usmd.server.raw_memory import (
    PAGE,
    Peer,
    attach_packet,
    mapped_packet,
    receive,
    region_packet,
)
from usm_wire.conventions import MAX_PACKET_BYTES
from usm_wire.pb.usm.v1 import client_pb2
from usmd.mechanism import uffd
from usmd.server.memory_socket import REGIONS_A_TURN, TURNS_A_TICK, MemorySocket

__all__ = ["daemon", "peer", "stranger", "unharmed"]


# Packets


GARBAGE = {
    "no message": b"\xff\x00garbage",
    "cut off": attach_packet("token")[:-3],
    "text that is none": b"\x0a\x04\x0a\x02\xff\xff",
    "of another field": client_pb2.AttachRequest(name="x" * 30).SerializeToString(),
    "nothing that is known": b"\x98\x06\x01",
    "as large as it may be": b"\xff" * MAX_PACKET_BYTES,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_a_stranger_that_sends_garbage_is_told_so_and_closed(stranger, data):
    assert refused(stranger, data)[0] == "INVALID_ARGUMENT"
    assert receive(stranger.connection) is None


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_a_peer_that_sends_garbage_is_told_so_and_may_go_on(peer, data):
    assert refused(peer, data)[0] == "INVALID_ARGUMENT"
    peer.works()


@pytest.mark.parametrize("size", [MAX_PACKET_BYTES + 1, 100_000])
@pytest.mark.parametrize("passed", [0, 1])
def test_a_packet_that_is_too_large_is_refused_and_nothing_of_it_is_done(daemon, stranger, size, passed):
    data = attach_packet(stranger.session.token)
    data += b"\x9a\x06" + b"\x00" * (size - len(data) - 2)
    assert len(data) == size
    reason, message = refused(stranger, data, [stranger.userfaultfd] * passed)
    assert (reason, f"more than {MAX_PACKET_BYTES} bytes" in message) == ("INVALID_ARGUMENT", True)
    assert receive(stranger.connection) is None


def test_an_empty_packet_is_the_end_of_the_connection(daemon, peer):
    peer.works()
    assert peer.ask(b"") is None
    has_ended(daemon, peer, "its memory connection was closed")


def test_an_empty_packet_with_a_descriptor_asks_for_nothing(stranger):
    assert refused(stranger, b"", [stranger.userfaultfd])[0] == "INVALID_ARGUMENT"
    assert receive(stranger.connection) is None


@pytest.mark.parametrize("packet", [region_packet(1), mapped_packet(1, PAGE)], ids=["region", "mapped"])
def test_who_has_not_attached_gets_nothing(stranger, packet):
    assert refused(stranger, packet)[0] == "UNKNOWN_SESSION"
    assert receive(stranger.connection) is None


def test_a_request_that_takes_no_descriptors_is_refused_with_some_and_they_are_closed(peer):
    region = peer.session.map(PAGE)
    for packet in (region_packet(region), mapped_packet(region, PAGE)):
        reason, message = refused(peer, packet, [peer.userfaultfd] * 3)
        assert (reason, "3 descriptors" in message) == ("INVALID_ARGUMENT", True)
    peer.works()


# Regions


def test_a_region_comes_as_a_sealed_memfd_and_a_residency_map_that_cannot_be_written_to(peer):
    region, address = peer.real(3)
    memory, residency = peer.descriptors(region)
    assert (os.fstat(memory).st_size, os.fstat(residency).st_size) == (3 * PAGE, 6)
    for descriptor in (memory, residency):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1 << 20)
    with pytest.raises(PermissionError):
        os.pwrite(residency, b"\1", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(residency, 3)
    write(address + PAGE, b"x").result()
    assert os.pread(residency, 3, 0) == b"\0\1\0"


def test_a_region_of_another_session_is_as_unknown_as_one_that_does_not_exist(daemon, peer):
    with Peer(daemon, "owner") as owner:
        region, _, address = owner.map(2)
        for data in (region_packet(region), mapped_packet(region, address)):
            reason, message = refused(peer, data)
            assert reason == "NOT_FOUND"
            unknown = data.replace(struct.pack("B", region), struct.pack("B", 125), 1) if region < 125 else None
            if unknown is not None:
                assert refused(peer, unknown) == (reason, message.replace(str(region), "125", 1))
        owner.works()
    peer.works()


@pytest.mark.parametrize("region", [0, 1 << 40, (1 << 64) - 1])
def test_a_region_that_does_not_exist_is_not_found(peer, region):
    assert refused(peer, region_packet(region))[0] == "NOT_FOUND"
    assert refused(peer, mapped_packet(region, PAGE))[0] == "NOT_FOUND"
    peer.works()


def test_a_region_that_was_given_back_is_not_found(peer):
    region, _, address = peer.map(2)
    peer.session.call("UnmapRegion", client_pb2.UnmapRegionRequest(region_id=region))
    assert refused(peer, region_packet(region))[0] == "NOT_FOUND"
    assert refused(peer, mapped_packet(region, address))[0] == "NOT_FOUND"
    peer.works()


def test_a_region_is_mapped_once(peer):
    region, address = peer.real(2)
    again = map_memory(2 * PAGE, peer.descriptors(region)[0])
    try:
        for place in (address, again):
            reason, message = refused(peer, mapped_packet(region, place))
            assert (reason, "is mapped already" in message) == ("INVALID_ARGUMENT", True)
    finally:
        unmap(again, 2 * PAGE)
    write(address, b"y").result()
    assert peer.session.get(region, 0, 1) == b"y"


@pytest.mark.parametrize(
    "address",
    [0, 1, PAGE, PAGE + 8, 0x1000_0000_0000, 1 << 47, 1 << 63, (1 << 64) - PAGE, 0xFFFF_8000_0000_0000, (1 << 64) - 1],
    ids=hex,
)
def test_an_address_where_nothing_can_be_served_is_refused_and_another_may_be_told(peer, address):
    region, _, right = peer.map(2)
    assert refused(peer, mapped_packet(region, address))[0] == "INVALID_ARGUMENT"
    assert refused(peer, mapped_packet(region, right + 1))[0] == "INVALID_ARGUMENT"
    assert peer.ask(mapped_packet(region, right)) == ("", "ok", [])
    write(right, b"z").result()
    assert peer.session.get(region, 0, 1) == b"z"


def test_an_address_that_another_userfaultfd_serves_is_refused(peer):
    region, _, address = peer.map(2)
    descriptor = used_userfaultfd()
    try:
        uffd.register(descriptor, address, 2 * PAGE)
        assert refused(peer, mapped_packet(region, address))[0] == "INVALID_ARGUMENT"
    finally:
        os.close(descriptor)
    assert peer.ask(mapped_packet(region, address)) == ("", "ok", [])


def test_a_client_that_lies_about_where_it_has_mapped_a_region_deceives_itself_alone(peer):
    region, _, _ = peer.map(2)
    elsewhere = map_memory(2 * PAGE)
    try:
        assert peer.ask(mapped_packet(region, elsewhere)) == ("", "ok", [])
        write(elsewhere, b"mine").result()
        assert peer.session.get(region, 0, 4) == bytes(4)
        peer.session.hint(region, "DONTNEED")
        peer.works()
    finally:
        unmap(elsewhere, 2 * PAGE)


# The socket


def test_the_socket_of_a_killed_daemon_is_removed_by_the_next_and_none_is_left_after_a_drain(tmp_path):
    with serving(tmp_path, exit_code=None) as first:
        assert (tmp_path / "usmd.sock.memory").is_socket()
        first.signal(signal.SIGKILL)
        first.wait_exit()
    assert (tmp_path / "usmd.sock.memory").is_socket()
    with serving(tmp_path) as second, Peer(second) as peer:
        peer.works()
    assert list(tmp_path.iterdir()) == []


def test_a_look_at_very_many_regions_is_spread_over_turns_of_the_loop():
    looked = []
    socket_ = SimpleNamespace(_round=iter(range(1, 1000)))
    socket_._audit_some = lambda turns: MemorySocket._audit_some(socket_, turns)

    async def main():
        socket_._audit_some(TURNS_A_TICK)
        for _ in range(2 * TURNS_A_TICK):
            looked.append(next(socket_._round))
            await asyncio.sleep(0)

    asyncio.run(main())
    apart = [after - before - 1 for before, after in pairwise([0, *looked])]
    assert apart == [REGIONS_A_TURN] * TURNS_A_TICK + [0] * TURNS_A_TICK


def test_a_look_at_very_many_regions_keeps_none_that_goes_meanwhile():
    """Or all that went since it began would be freed at its end, in one turn of the loop."""

    class Region(SimpleNamespace):
        resident = 0

    regions = {number: Region(region_id=number) for number in range(4)}
    real = SimpleNamespace(pages_in_memory=lambda: 0)
    state = SimpleNamespace(processes={1: SimpleNamespace(regions=regions)}, settings=SimpleNamespace(page_size=PAGE))
    memory = SimpleNamespace(settle=lambda: None, region=lambda number: real if number in regions else None)
    socket_ = SimpleNamespace(_engine=SimpleNamespace(core=SimpleNamespace(state=state)), _memory=memory)
    look = MemorySocket._audit(socket_, SimpleNamespace(session=SimpleNamespace(process_id=1)))
    next(look)
    gone = weakref.ref(regions.pop(3))
    assert gone() is None
    assert list(look) == [True] * 3
