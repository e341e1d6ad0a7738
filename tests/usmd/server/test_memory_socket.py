"""The memory socket against whoever connects: each ends with itself, keeps nothing, and others are served."""

import asyncio
import contextlib
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import weakref
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from tests.support import slow_farewell
from tests.support.daemon import environment, running_daemon, wait_until
from tests.support.raw_client import RawClient
from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import Doing, map_memory, read, touch_by_system_call, unmap, write
from tests.usmd.server.raw_memory import (
    PAGE,
    Peer,
    attach_packet,
    connect,
    mapped_packet,
    receive,
    region_packet,
    send,
)
from usm_wire.conventions import MAX_PACKET_BYTES
from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.userfaultfd import open_userfaultfd
from usmd.mechanism import uffd
from usmd.server.listener import REST_SECONDS
from usmd.server.memory_packets import MAX_DESCRIPTORS
from usmd.server.memory_socket import MAX_TAKEN, REGIONS_A_TURN, TURNS_A_TICK, MemorySocket

FRAMES = 2048
ATTACH_TIMEOUT = 0.3
ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def serving(folder, **options):
    require_real_memory()
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:1MiB")
    with running_daemon(folder, *flags, mechanism="userfaultfd", **options) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("usmd")) as daemon:
        with Peer(daemon) as first:  # what it opens once and keeps is open then
            first.works()
        wait_until(lambda: daemon.admin.status().processes == 0, "nobody is there")
        yield daemon


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


@contextlib.contextmanager
def nothing_is_left(daemon):
    """At the end the daemon has as many descriptors as before, and serves the next client and an old one."""
    with Peer(daemon, "bystander") as bystander:
        bystander.works()
        before = descriptors(daemon)
        yield
        wait_until(lambda: descriptors(daemon) <= before, f"no more than the {before} descriptors of before")
        assert daemon.admin.status().processes == 1
        bystander.works()
        with Peer(daemon, "next") as following:
            following.works()


@pytest.fixture(autouse=True)
def unharmed(daemon):
    wait_until(lambda: daemon.admin.status().processes == 0, "the end of earlier sessions")
    with nothing_is_left(daemon):
        yield


@pytest.fixture
def peer(daemon):
    with Peer(daemon) as peer:
        yield peer


@pytest.fixture
def stranger(daemon):
    """A peer that has not attached its memory."""
    with Peer(daemon, "stranger", attach=False) as peer:
        yield peer


def refused(peer, data, passed=()):
    """(reason, message) of a packet that must be refused, with no descriptor."""
    reply = peer.ask(data, passed)
    assert reply is not None
    assert reply.descriptors == []
    assert reply.reason != ""
    return reply.reason, reply.message


def has_ended(daemon, peer, reason, killed=""):
    """The peer's session and connection have ended, for this reason."""
    daemon.wait_for("process_detached", process_id=peer.process_id, reason=reason)
    assert peer.session.stream().ends_with()[1] == killed
    while receive(peer.connection) is not None:
        pass


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


# Attach


@pytest.mark.parametrize("count", [0, 2, MAX_DESCRIPTORS, MAX_DESCRIPTORS + 2, 250])
def test_attach_comes_with_exactly_one_descriptor(stranger, count):
    reason, message = refused(stranger, attach_packet(stranger.session.token), [stranger.userfaultfd] * count)
    assert reason == "INVALID_ARGUMENT"
    assert (f"{count} descriptors came" if count <= MAX_DESCRIPTORS else "more than") in message
    assert receive(stranger.connection) is None


def pipe():
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def used_userfaultfd():
    descriptor, _ = open_userfaultfd()
    uffd.handshake(descriptor, uffd.Feature(0))
    return descriptor


def memfd():
    descriptor = os.memfd_create("anon_inode:[userfaultfd]")
    os.ftruncate(descriptor, PAGE)
    return descriptor


def misnamed(folder):
    path = folder / "anon_inode:[userfaultfd]"
    path.write_bytes(bytes(PAGE))
    return os.open(path, os.O_RDWR)


WRONG = {
    "a pipe": lambda _: pipe(),
    "a memfd": lambda _: memfd(),
    "a regular file": misnamed,
    "a folder": lambda folder: os.open(folder, os.O_RDONLY),
    "a socket": lambda _: socket.socket(socket.AF_UNIX).detach(),
    "its own process": lambda _: os.pidfd_open(os.getpid()),
    "a path alone": lambda folder: os.open(folder, os.O_PATH),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_no_userfaultfd_is_refused(stranger, tmp_path, make):
    descriptor = make(tmp_path)
    try:
        reason, message = refused(stranger, attach_packet(stranger.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "is not a userfaultfd" in message) == ("INVALID_ARGUMENT", True)
    assert receive(stranger.connection) is None


def test_the_connection_itself_is_no_userfaultfd(stranger):
    reason, _ = refused(stranger, attach_packet(stranger.session.token), [stranger.connection.fileno()])
    assert reason == "INVALID_ARGUMENT"
    assert receive(stranger.connection) is None


def test_a_userfaultfd_on_which_the_handshake_was_done_is_refused(stranger):
    descriptor = used_userfaultfd()
    try:
        reason, message = refused(stranger, attach_packet(stranger.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "UFFDIO_API was not called" in message) == ("INVALID_ARGUMENT", True)
    assert receive(stranger.connection) is None


@pytest.mark.parametrize("token", ["", "forged", "x" * 4000, "\U0001f600" * 900], ids=["none", "forged", "long", "odd"])
def test_an_unknown_token_is_refused(stranger, token):
    assert refused(stranger, attach_packet(token), [stranger.userfaultfd])[0] == "UNKNOWN_SESSION"
    assert receive(stranger.connection) is None


def test_the_token_of_a_session_that_has_ended_is_refused(stranger):
    stranger.session.call("Detach", client_pb2.DetachRequest())
    assert refused(stranger, attach_packet(stranger.session.token), [stranger.userfaultfd])[0] == "UNKNOWN_SESSION"


VICTIM = """
import sys
from types import SimpleNamespace
from tests.usmd.server.raw_memory import Peer, attach_packet
with Peer(SimpleNamespace(address=sys.argv[1]), "victim", attach=False) as victim:
    print(victim.session.token, flush=True)
    sys.stdin.readline()
    assert victim.ask(attach_packet(victim.session.token), [victim.userfaultfd]) == ("", "ok", [])
    victim.works()
    print("served", flush=True)
    sys.stdin.readline()
"""


def test_the_token_of_another_process_stands_for_nobody_and_its_owner_goes_on(daemon, stranger):
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, daemon.address], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as victim:  # fmt: skip
        try:
            token = victim.stdout.readline().strip()
            assert token
            stolen = refused(stranger, attach_packet(token), [stranger.userfaultfd])
            with connect(daemon.address) as again:
                send(again, attach_packet("forged"), [stranger.userfaultfd])
                assert (*receive(again)[:2],) == stolen or stolen[0] == "UNKNOWN_SESSION"
            victim.stdin.write("\n")
            victim.stdin.flush()
            assert victim.stdout.readline() == "served\n"
            with connect(daemon.address) as again:
                send(again, attach_packet(token), [stranger.userfaultfd])
                assert receive(again).reason == "UNKNOWN_SESSION"
        finally:
            victim.kill()


def test_a_client_that_dies_leaves_nothing(daemon):
    with subprocess.Popen(
        [sys.executable, "-c", VICTIM, daemon.address], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as victim:  # fmt: skip
        try:
            victim.stdout.readline()
            victim.stdin.write("\n")
            victim.stdin.flush()
            assert victim.stdout.readline() == "served\n"
        finally:
            victim.kill()
    daemon.wait_for("process_detached", name="victim")


def test_a_second_attach_on_a_connection_is_refused_and_the_first_one_stays(peer):
    descriptor, _ = open_userfaultfd()
    try:
        reason, message = refused(peer, attach_packet(peer.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "one a session" in message) == ("INVALID_ARGUMENT", True)
    peer.works()


def test_a_second_connection_for_a_session_is_refused_and_the_first_one_stays(daemon, peer):
    descriptor, _ = open_userfaultfd()
    try:
        with connect(daemon.address) as second:
            send(second, attach_packet(peer.session.token), [descriptor])
            assert receive(second).reason == "UNKNOWN_SESSION"
            assert receive(second) is None
    finally:
        os.close(descriptor)
    peer.works()


def test_a_session_that_nobody_vouches_for_may_have_memory(daemon):
    descriptor, _ = open_userfaultfd()
    with RawClient(daemon.address, "no ticket") as session, connect(daemon.address) as connection:
        session.stream()
        send(connection, attach_packet(session.token), [descriptor])
        os.close(descriptor)
        assert receive(connection) == ("", "ok", [])
        send(connection, region_packet(session.map(PAGE)))
        reply = receive(connection)
        assert (reply.reason, len(reply.descriptors)) == ("", 2)
        for each in reply.descriptors:
            os.close(each)


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


# Ends


def test_a_client_that_closes_its_connection_has_ended_its_session(daemon, peer):
    peer.works()
    peer.connection.shutdown(socket.SHUT_RDWR)
    has_ended(daemon, peer, "its memory connection was closed")


def test_the_next_session_of_a_process_is_served_where_the_last_one_was_once_that_has_been_let_go(tmp_path):
    """Before that the pages of the last one would be poisoned where those of the next one are."""
    fifo = tmp_path / "farewell"
    os.mkfifo(fifo)
    environ = environment(**{slow_farewell.VARIABLE: str(fifo)})
    with serving(tmp_path, environ=environ, changes=("tests.support.slow_farewell:wait",)) as daemon:
        address = map_memory(4 * PAGE)  # a place where nothing else comes
        with Peer(daemon) as last:
            region = last.session.map(4 * PAGE)
            map_memory(4 * PAGE, last.descriptors(region)[0], address)
            assert last.ask(mapped_packet(region, address)).reason == ""
            write(address, b"last").result()
            map_memory(4 * PAGE, at=address)
        with Peer(daemon) as following:
            region = following.session.map(4 * PAGE)
            map_memory(4 * PAGE, following.descriptors(region)[0], address)
            send(following.connection, mapped_packet(region, address))
            send(following.connection, mapped_packet(region, address))  # is answered after it
            before = following.connection.gettimeout()
            following.connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                receive(following.connection)
            following.connection.settimeout(before)
            writer = os.open(fifo, os.O_WRONLY)
            fifo.unlink()
            os.close(writer)
            assert receive(following.connection) == ("", "ok", [])
            assert "is mapped already" in receive(following.connection).message
            write(address + PAGE, b"next").result()
            assert read(address, 4).result() == bytes(4)
            unmap(address, 4 * PAGE)


def test_a_session_that_is_detached_first_ends_as_it_wishes(daemon, peer):
    peer.works()
    peer.session.call("Detach", client_pb2.DetachRequest())
    daemon.wait_for("process_detached", process_id=peer.process_id)
    assert refused(peer, region_packet(1))[0] == "UNKNOWN_SESSION"


def test_a_client_that_never_reads_replies_ends_its_session_alone(daemon, peer):
    region = peer.session.map(PAGE)
    peer.works()

    def ask_and_never_listen():
        for _ in range(1_000_000):
            send(peer.connection, region_packet(region))

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        ask_and_never_listen()
    has_ended(daemon, peer, "its memory connection broke")


def test_a_client_that_makes_its_userfaultfd_blocking_ends_its_session_and_holds_up_nobody(daemon, peer):
    _, address = peer.real(2)
    write(address, b"x").result()
    os.set_blocking(peer.userfaultfd, True)
    # A system call, which fails where a touch would be a SIGBUS.
    Doing(lambda: touch_by_system_call(address + PAGE)).result()
    has_ended(daemon, peer, "its userfaultfd reports no more faults")


def test_a_userfaultfd_that_is_blocking_from_the_start_is_made_not_to_be(stranger):
    os.set_blocking(stranger.userfaultfd, True)
    assert stranger.ask(attach_packet(stranger.session.token), [stranger.userfaultfd]) == ("", "ok", [])
    stranger.works()
    assert not os.get_blocking(stranger.userfaultfd)


def test_a_client_that_fills_its_memfd_by_itself_loses_its_session_and_one_that_does_so_a_little_does_not(daemon, peer):
    with Peer(daemon, "greedy") as greedy:
        shares = []
        for each, pages in ((peer, MAX_TAKEN), (greedy, MAX_TAKEN + 1)):
            region, memory, address = each.map(2 * MAX_TAKEN)
            assert each.ask(mapped_packet(region, address)) == ("", "ok", [])
            write(address, b"x").result()  # what was given does not count
            os.pwrite(memory, b"y" * (pages * PAGE), PAGE)
            shares.append((region, address))
        reason = f"{MAX_TAKEN + 1} pages of 4096 bytes are in its memfds that usmd did not put there"
        ended = daemon.wait_for("process_detached", process_id=greedy.process_id)
        assert ended["reason"].startswith(reason)
        status, killed, text = greedy.session.stream().ends_with()
        assert (killed, text.startswith(reason)) == ("SESSION_KILLED", True), status
        region, address = shares[0]
        assert peer.session.get(region, 0, 1) == b"x"
        assert read(address).result() == b"x"
        peer.works()


def test_a_daemon_that_is_out_of_descriptors_says_so_and_goes_on(daemon, peer):
    pid = daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    region, address = peer.real(2)
    used = max(int(entry) for entry in os.listdir(f"/proc/{pid}/fd")) + 1
    with contextlib.ExitStack() as waiting:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        try:
            # Some take the gaps below the limit, one does not get in.
            for _ in range(used - descriptors(daemon) + 1):
                waiting.enter_context(connect(daemon.address))
            daemon.wait_for("memory_socket_refused")
            for _ in range(50):
                daemon.admin.status()
            write(address, b"x").result()
            refusals = daemon.events("memory_socket_refused")
            times = [datetime.fromisoformat(each["timestamp"]).timestamp() for each in refusals]
            assert all(later - earlier > 0.9 * REST_SECONDS for earlier, later in pairwise(times))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert peer.session.get(region, 0, 1) == b"x"


def attached_in_time(daemon):
    """A peer that has attached before the timeout; where the machine was slow it is tried again."""

    def attached():
        try:
            return Peer(daemon)
        except (AssertionError, OSError, grpc.RpcError):
            return None

    return wait_until(attached, "a peer attaches in time")


def test_who_says_nothing_is_closed_after_the_timeout_and_who_has_attached_is_not(tmp_path):
    text = f'[server]\nattach_timeout = {ATTACH_TIMEOUT}\nsocket_mode = "0622"\n'
    with serving(tmp_path, config=text) as daemon, attached_in_time(daemon) as peer:
        assert (tmp_path / "usmd.sock.memory").stat().st_mode & 0o777 == 0o622  # as the clients' socket
        peer.works()
        before = descriptors(daemon)
        silent = [connect(daemon.address) for _ in range(5)]
        for connection in silent:
            assert receive(connection) is None
            connection.close()
        wait_until(lambda: descriptors(daemon) <= before, f"no more than the {before} descriptors of before")
        peer.works()


def test_many_connections_that_come_and_go_leave_nothing(daemon):
    for number in range(200):
        with connect(daemon.address) as connection:
            if number % 2:
                send(connection, attach_packet("forged"), [connection.fileno()])


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
    memory = SimpleNamespace(region=lambda number: real if number in regions else None)
    socket_ = SimpleNamespace(_engine=SimpleNamespace(core=SimpleNamespace(state=state)), _memory=memory)
    look = MemorySocket._audit(socket_, SimpleNamespace(session=SimpleNamespace(process_id=1)))
    next(look)
    gone = weakref.ref(regions.pop(3))
    assert gone() is None
    assert list(look) == [True] * 3
