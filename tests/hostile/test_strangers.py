"""A stranger, who shows neither token nor ticket, takes no memory and no descriptors from those who have a session."""

import os
import resource
import socket
from contextlib import ExitStack, contextmanager

import pytest

import lib_usm
from lib_usm.identity import connect
from lib_usm.message_stream import MessageStream
from tests.hostile.bounds import GROWTH
from tests.support.daemon import wait_until
from tests.support.own_memory import at_most_grown
from tests.support.raw_http2 import (
    CONTINUATION,
    HEADERS,
    Connection,
    call_headers,
    frame,
    literal,
    pump_until,
    pump_until_still,
)
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_real_memory
from tests.support.shared_daemon import descriptors
from usm_wire.pb.usm.v1 import client_pb2 as pb

MIB = 1 << 20
MESSAGE = int(3.9 * MIB)
CALLS = 32
CONNECTIONS = 4
DESCRIPTORS = 400
"""That the daemon may open."""


def client_path(daemon):
    return daemon.address.removeprefix("unix:")


def serves(daemon):
    """Another session begins, by a ticket, and is served; and an operator is answered."""
    with lib_usm.connect(daemon.address, name="late") as late, late.mmap(4096) as region:
        region.write(0, b"late")
        assert region.read(0, 4) == b"late"
    assert daemon.run_usmctl("status").returncode == 0


def attaches(daemon):
    """Whether a session can begin; a look at connections that is under way may still count those that are gone."""
    try:
        lib_usm.connect(daemon.address).close()
    except (lib_usm.LimitExceeded, lib_usm.DaemonUnavailable):
        return False
    return True


def test_messages_that_a_stranger_sends_without_their_ends_are_not_kept(daemon):
    paths = (
        "/usm.v1.ClientService/Store",
        "/usm.v1.ClientService/Attach",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    )
    with at_most_grown(daemon, GROWTH["messages"]), ExitStack() as opened:
        connections = [opened.enter_context(Connection(client_path(daemon))) for _ in paths]
        for connection, path in zip(connections, paths, strict=True):
            for number in range(CALLS):
                connection.begin(1 + 2 * number, path, MESSAGE)
        pump_until_still(connections)
        # What is read in turns costs less than strangers may, so none need be disconnected.
        assert not any(each.ended for each in connections)
        serves(daemon)


def test_headers_that_a_stranger_sends_without_end_are_not_kept(daemon):
    """More than the bound. Where gRPC is fast enough to keep much of it for a moment, they are disconnected."""
    piece = frame(CONTINUATION, 0, 1, literal("k", "v" * 200) * 60) * 20
    with at_most_grown(daemon, GROWTH["headers"]), ExitStack() as opened:
        connections = [opened.enter_context(Connection(client_path(daemon))) for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.send(frame(HEADERS, 0, 1, call_headers("/usm.v1.ClientService/Attach")))
            connection.send_often(piece, 5 * GROWTH["headers"] * MIB // 4 // len(piece) // CONNECTIONS)
        pump_until(lambda: all(each.over for each in connections), connections)
        serves(daemon)


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
def test_connections_beyond_a_users_are_closed_and_others_are_served(daemon, suffix, kind, event):
    opened_before, seen = descriptors(daemon), len(daemon.events(event))
    with few_descriptors(daemon), at_most_grown(daemon, GROWTH["connections"]), ExitStack() as opened:
        connections_to(opened, client_path(daemon) + suffix, 2 * DESCRIPTORS, kind)
        line = wait_until(lambda: daemon.events(event)[seen:], "it is logged")[0]
        assert (line["pid"], line["uid"]) == (os.getpid(), os.getuid())
        assert daemon.run_usmctl("status").returncode == 0
        wait_until(lambda: descriptors(daemon) < opened_before + 150, "most are closed again")
        opened.close()
        wait_until(lambda: descriptors(daemon) <= opened_before, "all are closed again")
        wait_until(lambda: attaches(daemon), "this process is no more the one with too many")
        serves(daemon)


def test_an_operator_with_too_many_connections_holds_up_no_session_and_is_told_what_is_allowed(daemon):
    """The bystander is served meanwhile."""
    opened_before, seen = descriptors(daemon), len(daemon.events("connections_refused"))
    with at_most_grown(daemon, GROWTH["connections"]), ExitStack() as opened:
        connections_to(opened, daemon.admin_address.removeprefix("unix:"), DESCRIPTORS, socket.SOCK_STREAM)
        line = wait_until(lambda: daemon.events("connections_refused")[seen:], "it is logged")[0]
        assert (line["socket"], line["pid"], line["uid"]) == ("admin", os.getpid(), os.getuid())
        assert daemon.admin.status().processes == 1
        refused = daemon.run_usmctl("status")
        assert refused.returncode == 1
        assert f"takes no connection: user {os.getuid()} has" in refused.stderr
        opened.close()
        wait_until(lambda: descriptors(daemon) <= opened_before, "all are closed again")
        serves(daemon)


@contextmanager
def few_descriptors(daemon):
    """The daemon may open no more than DESCRIPTORS meanwhile."""
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, before)


@pytest.fixture
def narrow(tmp_path):
    """A daemon of which a user may have one connection, and four a session.

    Each test has its own: connections of another that have just ended hide new ones until the daemon looks again.
    """
    require_real_memory()
    config = "[server]\nmax_user_connections = 1\n"
    with real_daemon(tmp_path, config=config) as daemon:
        yield daemon


@pytest.mark.parametrize("idle", [0, 4], ids=["its own", "beside idle ones"])
def test_a_client_whose_connections_are_too_many_gets_the_limit_by_name_and_its_session_goes_on(narrow, idle):
    """Each stream by gRPC has a connection."""
    with ExitStack() as opened, lib_usm.connect(narrow.address) as client:
        connections_to(opened, client_path(narrow), idle, socket.SOCK_STREAM)
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


def how_it_ends(opened, client):
    """A further stream of a session, on a connection of its own: None if it serves, else what it ends with."""
    path = client.address.removeprefix("unix:")
    stream = MessageStream(path, "/usm.v1.ClientService/StreamFaults", client.channel.metadata)
    opened.callback(stream.close)
    stream.send(pb.StreamFaultsRequest(accesses=[pb.Access()]).SerializeToString())
    messages = []
    wait_until(lambda: messages.extend(stream.receive()) or messages or stream.end is not None, "it serves or ends")
    if stream.end is not None:  # as a client does; else it is one too many for half a second more
        stream.close()
    return stream.end
