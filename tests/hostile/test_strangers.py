"""A stranger, who shows neither token nor ticket, takes no memory and no descriptors from those who have a session."""

import os
import resource
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import lib_usm
from lib_usm.identity import connect
from lib_usm.message_stream import MessageStream
from tests.support.daemon import wait_until
from tests.support.raw_http2 import CONTINUATION, HEADERS, Connection, call_headers, frame, literal, pump_until_still
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients
from usm_wire.pb.usm.v1 import client_pb2 as pb

MIB = 1 << 20
BOUND = 256 * MIB
"""By which the daemon's memory may grow, whatever a stranger does: docs/security.md states it."""
MESSAGE = int(3.9 * MIB)
CALLS = 32
CONNECTIONS = 4
DESCRIPTORS = 400
"""That the daemon may open."""


@pytest.fixture(autouse=True)
def real_memory():
    require_real_memory()


def memory(daemon):
    """Bytes of the daemon that are resident."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def client_path(daemon):
    return daemon.address.removeprefix("unix:")


@contextmanager
def neighbour(tmp_path, *flags):
    with (
        real_daemon(tmp_path, *flags) as daemon,
        told_clients(daemon.address, "other") as (other,),
    ):
        bystander = Bystander(daemon, other)
        with bystander.watching():
            yield daemon
        bystander.check()


def calls_without_end(connection, path):
    for number in range(CALLS):
        connection.begin(1 + 2 * number, path, MESSAGE)


def headers_without_end(connection, path):
    connection.send(frame(HEADERS, 0, 1, call_headers(path)))
    piece = frame(CONTINUATION, 0, 1, literal("k", "v" * 200) * 60)
    connection.send(piece * (2 * BOUND // CONNECTIONS // len(piece)))


@pytest.mark.parametrize(
    ("attack", "path"),
    [
        (calls_without_end, "/usm.v1.ClientService/Store"),
        (calls_without_end, "/usm.v1.ClientService/Attach"),
        (calls_without_end, "/grpc.health.v1.Health/Check"),
        (calls_without_end, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
        (headers_without_end, "/usm.v1.ClientService/Attach"),
    ],
    ids=["Store", "Attach", "health", "reflection", "headers"],
)
def test_what_a_stranger_sends_without_end_is_not_kept(tmp_path, attack, path):
    with neighbour(tmp_path) as daemon, ExitStack() as opened:
        before = memory(daemon)
        connections = [opened.enter_context(Connection(client_path(daemon))) for _ in range(CONNECTIONS)]
        for connection in connections:
            attack(connection, path)
        seen = [before]
        if attack is headers_without_end:
            wait_until(lambda: pump_all(connections, daemon, seen) == 0, "all are disconnected")
            line = daemon.wait_for("connections_closed")
            assert (line["pid"], line["uid"]) == (os.getpid(), os.getuid())
        else:
            pump_until_still(connections, lambda: seen.append(memory(daemon)))
            # What is read in turns costs less than strangers may, so none need be disconnected.
            assert not any(each.ended for each in connections)
        assert (max(seen) - before) // MIB < BOUND // MIB
        with told_clients(daemon.address, "late") as (late,):
            late.map("data", 4)
            late.do("fill", name="data", seed=1, first=0, pages=4)
            assert late.do("wrong", name="data", seed=1, first=0, pages=4) == []
        assert daemon.run_usmctl("status").returncode == 0


def pump_all(connections, daemon, seen):
    """Send some more; returns how many connections are still there."""
    for each in connections:
        each.pump()
        seen.append(memory(daemon))
    return sum(not each.ended for each in connections)


def connections_to(stack, path, count, kind):
    """As many as are taken."""
    made = []
    for _ in range(count):
        mine = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
        try:
            connect(mine, path, 1.0)
        except OSError:
            break
        made.append(mine)
    return made


@pytest.mark.parametrize(
    ("suffix", "kind", "event"),
    [
        ("", socket.SOCK_STREAM, "connections_closed"),
        (".identity", socket.SOCK_STREAM, "connections_refused"),
        (".memory", socket.SOCK_SEQPACKET, "connections_refused"),
    ],
    ids=["client", "identity", "memory"],
)
def test_connections_beyond_a_users_are_closed_and_others_are_served(tmp_path, suffix, kind, event):
    with neighbour(tmp_path) as daemon, ExitStack() as opened:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        folder = Path(f"/proc/{daemon.process.pid}/fd")
        daemon.admin.status()  # what the loop opens with the first connection, and keeps, is open then
        before = len(list(folder.iterdir()))
        connections_to(opened, client_path(daemon) + suffix, 2 * DESCRIPTORS, kind)
        line = daemon.wait_for(event)
        assert (line["pid"], line["uid"]) == (os.getpid(), os.getuid())
        assert daemon.run_usmctl("status").returncode == 0
        wait_until(lambda: len(list(folder.iterdir())) < before + 150, "most are closed again")
        opened.close()
        wait_until(lambda: len(list(folder.iterdir())) <= before, "all are closed again")
        with told_clients(daemon.address, "late") as (late,):
            late.map("data", 4)
            late.do("fill", name="data", seed=1, first=0, pages=4)
            assert late.do("wrong", name="data", seed=1, first=0, pages=4) == []


@pytest.mark.parametrize("idle", [0, 4], ids=["its own", "beside idle ones"])
def test_a_client_whose_connections_are_too_many_gets_the_limit_by_name_and_its_session_goes_on(tmp_path, idle):
    """Each stream by gRPC has a connection; a session of its user gives 4, and `max_user_connections` one more."""
    with (
        real_daemon(tmp_path, config="[server]\nmax_user_connections = 1\n") as daemon,
        ExitStack() as opened,
        lib_usm.connect(daemon.address) as client,
    ):
        connections_to(opened, client_path(daemon), idle, socket.SOCK_STREAM)
        told = [how_it_ends(opened, client) for _ in range(12)]
        refused = [each for each in told if each is not None]
        assert len(refused) >= 7
        assert {type(each) for each in refused} == {lib_usm.LimitExceeded}
        assert all(f"user {os.getuid()} may have 5 (server.max_user_connections" in str(each) for each in refused)
        assert told[0] is None or idle
        with client.mmap(4096) as region:
            region.write(0, b"mine")  # for which the client needs no connection
            opened.close()
            wait_until(lambda: how_it_ends(opened, client) is None, "there is room again")
            assert region.read(0, 4) == b"mine"
        if not idle:
            daemon.never("connections_closed")


def how_it_ends(opened, client):
    """A further stream of a session, on a connection of its own: None if it serves, else what it ends with."""
    path = client.address.removeprefix("unix:")
    stream = MessageStream(path, "/usm.v1.ClientService/StreamFaults", client.channel.metadata)
    opened.callback(stream.close)
    stream.send(pb.StreamFaultsRequest(accesses=[pb.Access()]).SerializeToString())
    messages = []
    wait_until(lambda: messages.extend(stream.receive()) or messages or stream.end is not None, "it serves or ends")
    return stream.end
