"""Very many of one thing, and answers that are not read: usmd's own memory stays bounded, and others are served."""

import contextlib
import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.hostile.bounds import GROWTH
from tests.support.daemon import wait_until
from tests.support.fuzz import scraped
from tests.support.native import compiled, require_native, started
from tests.support.own_memory import at_most_grown
from tests.support.raw_client import RawClient
from tests.support.raw_http2 import PING, Connection, call, cancelled, frame, pump_until, unread
from tests.support.real_daemon import PAGE
from tests.support.shared_daemon import free_port
from tests.usmd.mechanism.mapped import read, write
from tests.usmd.server.test_memory_connection import Plain
from usm_wire.pb.usm.v1 import admin_pb2, client_pb2
from usmd.server.descriptors import Shares

CLIENT = Path(__file__).parents[1] / "e2e" / "native_client.c"
STREAMS = 10_000
AT_ONCE = 500
REGIONS = 2_000
OF_A_SESSION = 1_024
"""memory.max_regions"""
CLIENTS = 50
HELD = 16
"""Pages of each."""
PINNED = 64
CALLS = 32
REQUESTS = 5_000


def OPTIONS(_):  # noqa: N802 - of the fixture `shared`
    return {"config": f'[metrics]\nlisten = "127.0.0.1:{free_port()}"\n'}


def path_of(address):
    return address.removeprefix("unix:")


def test_streams_that_are_opened_and_cancelled(daemon):
    with at_most_grown(daemon, GROWTH["streams"]), RawClient(daemon.address, "hasty") as client:
        region = client.map(PAGE)
        client.put(region, 0, b"kept")
        left = STREAMS
        while left:
            with Connection(path_of(daemon.address)) as connection:
                left -= cancel_streams(connection, left, client.token, lambda: client.get(region, 0, 4) == b"kept")


def cancel_streams(connection, most, token, served):
    """Open and cancel streams, in batches that are taken before the next; returns how many, at least one batch."""
    sent = 0
    while sent < most and not connection.ended:
        for number in range(sent, sent + AT_ONCE):
            connection.send(cancelled(1 + 2 * number, "/usm.v1.ClientService/StreamFaults", token))
        sent += AT_ONCE
        connection.send(frame(PING, 0, 0, bytes(8)))
        pongs = connection.pongs + 1
        pump_until(lambda pongs=pongs: connection.ended or connection.pongs == pongs, [connection])
        assert served()
    return sent


def test_clients_that_send_and_never_read(daemon):
    """On every socket at the same time: calls, watches, requests for memory, scrapes."""
    load = client_pb2.LoadRequest(offset=0, length=PINNED * PAGE)
    service, admin = "/usm.v1.ClientService", "/usm.v1.AdminService"
    with at_most_grown(daemon, GROWTH["unread"]), ExitStack() as opened, RawClient(daemon.address, "mute") as mute:
        load.region_id = region = mute.map(PINNED * PAGE)
        for page in range(PINNED):
            mute.put(region, page, b"%d " % page)
        pin = client_pb2.PinRegionRequest(region_id=region, page_count=PINNED)
        mute.call("PinRegion", pin)
        calls = [call(1 + 2 * n, f"{service}/Load", load.SerializeToString(), mute.token) for n in range(CALLS)]
        watch = admin_pb2.WatchEventsRequest().SerializeToString()
        of_operators = [call(1 + 2 * n, f"{admin}/WatchEvents", watch) for n in range(CALLS // 2)]
        of_operators += [call(1 + 2 * n, f"{admin}/GetStatus", b"") for n in range(CALLS // 2, CALLS)]
        for address, made in ((daemon.address, calls), (daemon.admin_address, of_operators)):
            for _ in range(4):
                opened.callback(unread(path_of(address), made).close)
        identity = opened.enter_context(socket.socket(socket.AF_UNIX))
        identity.connect(path_of(daemon.address) + ".identity")
        silent = opened.enter_context(Plain(daemon, "silent"))
        silent.begin()
        flood(identity, b"x" * PAGE)
        hint = client_pb2.HintRegionRequest(region_id=1, text="TTL=1")
        flood(silent.connection, client_pb2.MemoryRequest(hint=hint).SerializeToString())
        for place in scraped(daemon):
            scraper = opened.enter_context(socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET))
            scraper.connect(place)
            flood(scraper, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with RawClient(daemon.address, "another") as another:
            other = another.map(PAGE)
            another.put(other, 0, b"served")
            assert another.get(other, 0, 6) == b"served"
        opened.close()
        for page in range(PINNED):
            assert mute.get(region, page, 3).startswith(b"%d " % page)


def flood(connection, data):
    """Send it as often as the daemon takes it, within reason."""
    connection.setblocking(False)
    with contextlib.suppress(OSError):  # it takes no more, or has closed the connection
        for _ in range(REQUESTS):
            connection.send(data)


def map_one(connection):
    """A region of a page, of which the descriptors are closed again."""
    request = client_pb2.MemoryRequest(map=client_pb2.MapRegionRequest(length=PAGE))
    connection.send(request.SerializeToString())
    data, taken, _, _ = socket.recv_fds(connection, PAGE, 2, socket.MSG_CMSG_CLOEXEC)
    for descriptor in taken:
        os.close(descriptor)
    assert (client_pb2.MemoryReply.FromString(data).region.page_count, len(taken)) == (1, 2)


def test_two_thousand_regions(daemon):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if Shares.of(limit).regions * 3 // 4 < 2 * (REGIONS + 1):
        pytest.skip(f"{limit} open files are too few for {REGIONS} regions")
    with at_most_grown(daemon, GROWTH["regions"]), ExitStack() as opened:
        sessions = [opened.enter_context(Plain(daemon, f"many{number}")) for number in range(2)]
        for session, count in zip(sessions, (OF_A_SESSION, REGIONS - OF_A_SESSION), strict=True):
            session.begin()
            _, address = session.map(4)
            write(address + PAGE, b"mine").result()
            for _ in range(count - 1):
                map_one(session.connection)
            assert read(address + PAGE, 4).result() == b"mine"
        reason, message = sessions[0].refused(map=client_pb2.MapRegionRequest(length=PAGE))
        assert (reason, str(OF_A_SESSION) in message) == ("LIMIT_EXCEEDED", True), message
        assert sum(each.regions for each in daemon.admin.processes() if each.name != "other") == REGIONS


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    require_native()
    return compiled(tmp_path_factory.mktemp("client"), CLIENT)


def test_half_of_fifty_clients_are_killed_while_the_others_verify(daemon, program):
    """A program in C, whose memory is usmd's; together they have more than there is memory."""
    with at_most_grown(daemon, GROWTH["killed"]), ExitStack() as opened:
        clients = [opened.enter_context(started(daemon, program, "hold", HELD)) for _ in range(CLIENTS)]
        assert {each.stdout.readline() for each in clients} == {"right\n"}
        doomed, living = clients[::2], clients[1::2]
        for each in clients:
            ask(each)
        for each in doomed:
            each.kill()
        for _ in range(2):
            assert {each.stdout.readline() for each in living} == {"right\n"}
            for each in living:
                ask(each)
        assert {each.stdout.readline() for each in living} == {"right\n"}
        wait_until(lambda: len(daemon.admin.processes()) == len(living) + 1, "the sessions of the killed ones end")


def ask(client):
    """Have it look at all its bytes."""
    client.stdin.write("\n")
    client.stdin.flush()
