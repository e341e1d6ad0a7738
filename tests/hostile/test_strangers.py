"""A stranger, who shows neither token nor ticket, takes no memory and no descriptors from those who have a session."""

import os
import resource
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lib_usm.identity import connect
from tests.support.daemon import wait_until
from tests.support.raw_client import RawClient
from tests.support.raw_http2 import CONTINUATION, HEADERS, Connection, call_headers, frame, literal, pump_until_still
from tests.support.real_daemon import Bystander, real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients
from usmd.server.session_calls import FIRST_NUMBER

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


def test_the_numbers_of_ones_regions_tell_nothing_of_those_of_others(tmp_path):
    with real_daemon(tmp_path) as daemon, RawClient(daemon.address, "one") as one:
        numbers = [one.map(4096) for _ in range(24)]
        assert numbers != sorted(numbers)
        assert len(set(numbers)) == len(numbers)
        assert min(numbers) >= FIRST_NUMBER
