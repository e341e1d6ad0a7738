"""Every call of every service with every wrong token, and on every object of another session: it gets nothing.

Made from the proto's descriptors. A method that is new is called here from the day it exists, and a field that is new
is filled; where this file cannot know what is right, it fails and says so.
"""

import os
import re
import secrets

import grpc
import pytest

from tests.support.daemon import running_daemon
from tests.support.grammar import fields, path, services, variants
from tests.support.raw_client import SECONDS, TOKEN_KEY, RawClient, cause, open_channel
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_real_memory
from tests.usmd.server.raw_memory import Peer, receive, send
from usm_wire.pb.usm.v1 import client_pb2

PAGE = 4096
SECRET = b"another's secret"
OF_NO_OBJECT = {"Attach", "Detach", "MapRegion", "GetKept"}
"""Methods of a client that name nothing: they make something, or are about the session of the token."""
OBJECTS = re.compile(r"(region_id|region_ids|process_id|yield_token|hint_id|session_token)$")
"""Fields that name an object which another session may have."""
METHODS = [method for service in services() for method in service.methods]
OF_CLIENTS = [method for method in METHODS if method.containing_service.name == "ClientService"]
UNKNOWN = ("UNAUTHENTICATED", "UNKNOWN_SESSION")
NOT_FOUND = ("NOT_FOUND", "NOT_FOUND")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with running_daemon(
        tmp_path_factory.mktemp("usmd"), "--memory", "256KiB", "--swap", "memory:1MiB", exit_code=0
    ) as running:
        yield running
        running.never("defect")


@pytest.fixture(scope="module")
def channel(daemon):
    with open_channel(daemon.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def victim(daemon):
    """A session with three regions, of which the last has bytes, a hint and a pin."""
    with RawClient(daemon.address, "victim") as session:
        regions = [session.map(4 * PAGE, name) for name in ("one", "two", "three")]
        session.put(regions[-1], 0, SECRET)
        session.hint(regions[-1], "PRIORITY=HIGH", 0, PAGE)
        session.call("PinRegion", client_pb2.PinRegionRequest(region_id=regions[-1], first_page=0, page_count=1))
        session.region = regions[-1]
        before = holdings(daemon, session)
        yield session
        assert session.get(session.region, 0, len(SECRET)) == SECRET
        assert holdings(daemon, session) == before


def holdings(daemon, session):
    """What an operator sees of a session, but for counters."""
    process_id = session.attached.process_id
    process = next(each for each in daemon.admin.processes() if each.process_id == process_id)
    process.ClearField("counters")
    regions = daemon.admin.regions(process_id)
    for region in regions:
        region.ClearField("faults")
    hints = daemon.admin.hints(process_id)
    hints.ClearField("kept_total")
    return str(process), [str(each) for each in regions], str(hints)


def call(channel, method, requests, token):
    """Make a call; its answers, or (status, reason, text) where it is refused."""
    metadata = () if token is None else ((TOKEN_KEY, token),)
    work = getattr(
        channel,
        ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary"),
    )(path(method), request_serializer=lambda message: message.SerializeToString())
    given = iter(requests) if method.client_streaming else requests[0]
    try:
        answer = work(given, metadata=metadata, timeout=SECONDS)
        return list(answer) if method.server_streaming else [answer]
    except grpc.RpcError as error:
        return (*cause(error), error.details())


def wrong_tokens(daemon):
    with RawClient(daemon.address, "ended") as ended:
        ended.call("Detach", client_pb2.DetachRequest())
        real = ended.token
    flipped = ("A" if real[0] != "A" else "B") + real[1:]
    return {
        "none": None, "empty": "", "a letter": "x", "random": secrets.token_urlsafe(32), "of an ended session": real,
        "one letter off": flipped, "a prefix": real[:-1], "long": real * 50,
    }  # fmt: skip


def test_no_call_is_answered_to_a_wrong_token(daemon, channel, victim):
    tokens = wrong_tokens(daemon) | {
        "a prefix of another's": victim.token[:-1],
        "another's and more": victim.token + "A",
    }
    wrong = {
        (method.name, kind): found
        for method in OF_CLIENTS
        if method.name != "Attach"
        for kind, token in tokens.items()
        for request in variants(method.input_type, {"region_id": victim.region, "unmapped_region_ids": victim.region})
        if (found := call(channel, method, [request], token))[:2] != UNKNOWN
    }
    assert wrong == {}


def test_no_call_of_an_operator_is_answered_on_the_clients_socket_nor_a_clients_on_the_operators(daemon, victim):
    served = {"ClientService": daemon.address, "AdminService": daemon.admin_address}
    assert {method.containing_service.name for method in METHODS} == set(served)
    wrong = {}
    for name in served:
        other = next(address for service, address in served.items() if service != name)
        with open_channel(other) as channel:
            for method in METHODS:
                if method.containing_service.name == name:
                    found = call(channel, method, variants(method.input_type, {}), victim.token)
                    if found[0] != "UNIMPLEMENTED":
                        wrong[method.full_name] = found
    assert wrong == {}


def test_every_field_that_names_an_object_is_known_here():
    naming = {
        method.name: sorted({field.name for field in fields(method.input_type) if OBJECTS.search(field.name)})
        for method in OF_CLIENTS
    }
    assert {name for name, found in naming.items() if not found} == OF_NO_OBJECT
    assert {field for found in naming.values() for field in found} == {"region_id", "unmapped_region_ids"}


A_HINT = {
    "offset": 0, "length": PAGE, "text": "DONTNEED", "will_need": False, "fhp_bytes": 0, "swap_device": "memory0",
}  # fmt: skip


def test_what_is_anothers_is_as_what_is_nobodys(daemon, channel, victim):
    """By the same status, reason and text, for every method that names a region; the other's session is as it was."""
    wrong = {}
    nobody = victim.region + 10_000
    values = {"page_count": 1, "first_page": 0, **A_HINT}
    for method in OF_CLIENTS:
        if method.name in OF_NO_OBJECT:
            continue
        told = {}
        for region in (victim.region, nobody):
            named = values | {"region_id": region, "unmapped_region_ids": region}
            with RawClient(daemon.address, "thief") as thief:  # a new one, for a stream ends the session with it
                assert thief.map(4 * PAGE) != victim.region
                told[region] = [
                    each
                    for request in variants(method.input_type, named)
                    for each in refusals(call(channel, method, [request], thief.token), str(region))
                ]
        if told[victim.region] != told[nobody] or any(each[:2] != NOT_FOUND for each in told[nobody]):
            wrong[method.name] = told
    assert wrong == {}


def refusals(answer, region):
    """(status, reason, text without the region's number) of a refused call, or of each failure in a stream."""
    if isinstance(answer, tuple):
        return [(answer[0], answer[1], answer[2].replace(region, "N"))]
    found = []
    for message in map(client_pb2.StreamFaultsResponse.FromString, answer):
        for each in (*message.outcomes, *message.accessed):
            if each.WhichOneof("outcome") != "failure":
                return [("ANSWERED", "", str(each))]
            reason = client_pb2.DESCRIPTOR.pool.FindEnumTypeByName("usm.v1.FailureReason").values_by_number[
                each.failure.reason
            ]
            name = reason.name.removeprefix("FAILURE_REASON_")
            found.append((name, name, each.failure.message.replace(region, "N")))
    return found or [("NOTHING", "", "")]


def test_no_request_on_the_memory_socket_gets_what_is_anothers(tmp_path):
    require_real_memory()
    with real_daemon(tmp_path) as running, Peer(running, "victim") as victim, Peer(running, "thief") as thief:
        region, _, address = victim.map(4)
        thief.session.map(PAGE)
        wrong = {}
        for known in (region, region + 10_000):
            named = {"region_id": known, "address": address, "session_token": victim.session.token, **A_HINT}
            for request in variants(client_pb2.MemoryRequest.DESCRIPTOR, named):
                kind = request.WhichOneof("request")
                of_a_stranger = kind in ("attach", "begin")
                send(thief.connection, request.SerializeToString(), [thief.userfaultfd] if of_a_stranger else [])
                reply = receive(thief.connection)
                own = {"map": 2, "stream": 1}  # descriptors of what is the thief's own
                wanted = "INVALID_ARGUMENT" if of_a_stranger else "" if kind in own else "NOT_FOUND"
                if reply is None or len(reply.descriptors) != own.get(kind, 0) or reply.reason != wanted:
                    wrong[kind, known] = reply
                for descriptor in () if reply is None else reply.descriptors:
                    os.close(descriptor)
        assert wrong == {}
        victim.works()
