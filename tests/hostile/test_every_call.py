"""One table: every RPC of every service, and every request of the memory socket, for every caller that it is not for.

Made from the proto's descriptors. A method that is new is called here from the day it exists, and a field that is new
is filled; where this file cannot know what is right, it fails and says so.
"""

import contextlib
import itertools
import os
import re
import secrets
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from tests.support.daemon import running_daemon
from tests.support.grammar import fields, path, services, variants
from tests.support.other_user import UID, OtherUser
from tests.support.raw_client import SECONDS, TOKEN_KEY, RawClient, cause, open_channel
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_real_memory
from tests.usmd.server.raw_memory import Peer, attach_packet, receive, send
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
DONE = "OK"
OPEN = {("Attach", "no token"), ("Attach", "empty token")}
"""Cells that must succeed: who shows no ticket gets a session of no user."""
OPEN_MODE = "[server]\nsocket_mode = '0666'\n"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def folder():
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def daemon(folder):
    with running_daemon(folder, "--memory", "256KiB", "--swap", "memory:1MiB", config=OPEN_MODE) as running:
        yield running
        running.never("defect")


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
    """What an operator sees of a session, but for counters, and for pressure, whose averages decay."""
    process_id = session.attached.process_id
    process = next(each for each in daemon.admin.processes() if each.process_id == process_id)
    process.ClearField("counters")
    process.ClearField("pressure")
    regions = daemon.admin.regions(process_id)
    for region in regions:
        region.ClearField("faults")
    hints = daemon.admin.hints(process_id)
    hints.ClearField("kept_total")
    return str(process), [str(each) for each in regions], str(hints)


# Callers


class Caller(NamedTuple):
    opened: object
    """Makes a context, which gives a channel and the token that the caller shows."""
    lives: bool
    """It has a session, though not the one whose region it names."""


def ended_token(daemon):
    with RawClient(daemon.address, "ended") as ended:
        ended.call("Detach", client_pb2.DetachRequest())
        return ended.token


def without_a_session(daemon, victim, channel):
    ended = ended_token(daemon)
    flipped = ("A" if ended[0] != "A" else "B") + ended[1:]
    tokens = {
        "no token": None, "empty token": "", "a letter": "x", "forged token": secrets.token_urlsafe(32),
        "token of an ended session": ended, "one letter off": flipped, "a prefix": victim.token[:-1],
        "another's and more": victim.token + "A", "long": victim.token * 50,
    }  # fmt: skip
    return {kind: shows(channel, token) for kind, token in tokens.items()}


def shows(channel, token):
    """A caller without a session."""
    return Caller(lambda: contextlib.nullcontext((channel, token)), False)


@contextlib.contextmanager
def another_session(address, ticket=""):
    with RawClient(address, "thief", ticket) as thief:  # a new one each time, for a stream ends the session with it
        thief.map(4 * PAGE)
        yield thief.channel, thief.token
        with contextlib.suppress(grpc.RpcError):  # the call under test has ended it
            thief.call("Detach", client_pb2.DetachRequest())


@contextlib.contextmanager
def session_of_another_user(daemon, user, address):
    with user.connect(daemon.address.removeprefix("unix:") + ".identity") as identity:
        ticket = identity.recv(100).decode().strip()
        with another_session(address, ticket) as opened:
            assert UID in [each.uid for each in daemon.admin.processes() if each.name == "thief"]
            yield opened


@pytest.fixture(params=["this user", pytest.param("another user", marks=needs_root)])
def callers(request, daemon, victim):
    if request.param == "this user":
        with open_channel(daemon.address) as channel:
            yield without_a_session(daemon, victim, channel) | {
                "another session": Caller(lambda: another_session(daemon.address), True)
            }
        return
    user = request.getfixturevalue("other_user")
    address = request.getfixturevalue("address_of_another_user")
    with open_channel(address) as channel:
        yield {
            "no token": shows(channel, None),
            "token of an ended session": shows(channel, ended_token(daemon)),
            "another session": Caller(lambda: session_of_another_user(daemon, user, address), True),
        }


@pytest.fixture(scope="module")
def other_user():
    with OtherUser(UID) as user:
        yield user


@pytest.fixture(scope="module")
def address_of_another_user(daemon, folder, other_user):
    return other_user.relay(daemon.address.removeprefix("unix:"), folder / "of-another-user")


# The table of RPCs

A_HINT = {
    "offset": 0, "length": PAGE, "text": "DONTNEED", "will_need": False, "fhp_bytes": 0, "swap_device": "memory0",
}  # fmt: skip


def call(channel, method, request, token):
    """Make a call; its answers, or (status, reason, text) where it is refused."""
    metadata = () if token is None else ((TOKEN_KEY, token),)
    work = getattr(
        channel,
        ("stream" if method.client_streaming else "unary") + ("_stream" if method.server_streaming else "_unary"),
    )(path(method), request_serializer=lambda message: message.SerializeToString())
    try:
        answer = work(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=SECONDS)
        return list(answer) if method.server_streaming else [answer]
    except grpc.RpcError as error:
        return (*cause(error), error.details())


def cell(caller, method, region):
    """What a caller gets for each variant of a request that names a region: status, reason, text without its number."""
    with caller.opened() as (channel, token):
        named = {"page_count": 1, "first_page": 0, **A_HINT, "name": "thief", "alloc": "", "evict": ""}
        named |= {"region_id": region, "unmapped_region_ids": region, "ticket": token or ""}
        return [
            each
            for request in variants(method.input_type, named)
            for each in told(method, call(channel, method, request, token), str(region))
        ]


def told(method, answer, region):
    if isinstance(answer, tuple):
        return [(answer[0], answer[1], answer[2].replace(region, "N"))]
    if not method.client_streaming:
        return [(DONE, "", str(answer))]
    found = []
    for message in map(client_pb2.StreamFaultsResponse.FromString, answer):
        for each in (*message.outcomes, *message.accessed):
            if each.WhichOneof("outcome") != "failure":
                return [(DONE, "", str(each))]
            reason = client_pb2.DESCRIPTOR.pool.FindEnumTypeByName("usm.v1.FailureReason").values_by_number[
                each.failure.reason
            ]
            name = reason.name.removeprefix("FAILURE_REASON_")
            found.append((name, name, each.failure.message.replace(region, "N")))
    return found or [("NOTHING", "", "")]


def wanted(method, name, caller):
    """How each answer in a cell must begin."""
    if method not in OF_CLIENTS:
        return ("UNIMPLEMENTED", "")
    if (method.name, name) in OPEN:
        return (DONE, "")
    if not caller.lives or method.name == "Attach":
        return UNKNOWN
    return (DONE, "") if method.name in OF_NO_OBJECT else NOT_FOUND


def test_no_rpc_succeeds_for_a_caller_that_it_is_not_for(callers, victim):
    """Another session's object is refused by the same status, reason and text as one of nobody."""
    table = {
        (method.full_name, name): cell(caller, method, victim.region)
        for method in METHODS
        for name, caller in callers.items()
    }
    expected = {
        (method.full_name, name): wanted(method, name, caller) for method in METHODS for name, caller in callers.items()
    }
    assert {each: answers for each, answers in table.items() if {got[:2] for got in answers} != {expected[each]}} == {}
    for method in OF_CLIENTS:
        if method.name not in OF_NO_OBJECT:
            nobody = cell(callers["another session"], method, victim.region + 10_000)
            assert table[method.full_name, "another session"] == nobody, method.name
    of_own = [answers for each, answers in table.items() if expected[each][0] == DONE]
    assert of_own
    assert [each for each in of_own if str(victim.region) in str(each) or victim.token in str(each)] == []


def test_every_field_that_names_an_object_is_known_here():
    naming = {
        method.name: sorted({field.name for field in fields(method.input_type) if OBJECTS.search(field.name)})
        for method in OF_CLIENTS
    }
    assert {name for name, found in naming.items() if not found} == OF_NO_OBJECT
    assert {field for found in naming.values() for field in found} == {"region_id", "unmapped_region_ids"}


def test_no_call_of_a_client_is_answered_on_the_operators_socket(daemon, victim):
    assert {method.containing_service.name for method in METHODS} == {"ClientService", "AdminService"}
    with open_channel(daemon.admin_address) as channel:
        answered = {method.name: cell(shows(channel, victim.token), method, victim.region) for method in OF_CLIENTS}
    assert {status for answers in answered.values() for status, _, _ in answers} == {"UNIMPLEMENTED"}


@needs_root
def test_a_user_without_the_right_to_a_socket_makes_no_call_of_its_services(folder, other_user):
    """By default the clients' sockets are for the group, and all others for usmd's own user."""
    place = folder / "usual"
    place.mkdir(mode=0o755)
    with running_daemon(place) as daemon:
        sockets = [each for each in place.iterdir() if each.is_socket()]
        assert {f"unix:{each}" for each in sockets} >= {daemon.address, daemon.admin_address}
        for each in sockets:
            kind = socket.SOCK_SEQPACKET if each.suffix == ".memory" else socket.SOCK_STREAM
            with pytest.raises(PermissionError):
                other_user.connect(str(each), kind)


# The memory socket


def wrong_replies(connection, request, descriptors, reasons, own=0):
    """Send a request; the reply, unless it is a refusal for one of the reasons, or has as many descriptors as `own`."""
    send(connection, request.SerializeToString(), descriptors)
    reply = receive(connection)
    for descriptor in () if reply is None else reply.descriptors:
        os.close(descriptor)
    return None if reply and reply.reason in reasons and len(reply.descriptors) == own else reply or "closed"


def test_no_request_on_the_memory_socket_succeeds_for_a_caller_that_it_is_not_for(folder):
    require_real_memory()
    place = folder / "real"
    place.mkdir(mode=0o755)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(real_daemon(place, config=OPEN_MODE))
        victim, waiting, thief = (
            stack.enter_context(Peer(running, name, attach=name != "waiting"))
            for name in ("victim", "waiting", "thief")
        )
        region, _, address = victim.map(4)
        thief.session.map(PAGE)
        users = {"this user": stack.enter_context(OtherUser(os.getuid()))}
        if os.geteuid() == 0:
            users["another user"] = stack.enter_context(OtherUser(UID))
        tokens = {
            "no token": "", "forged token": secrets.token_urlsafe(32), "an ended session's": ended_token(running),
            "another session's": victim.session.token, "another session's without memory": waiting.session.token,
        }  # fmt: skip
        wrong = {}
        # Without a session of its own, as a process of its own: begin makes one, and all else is refused.
        for (who, user), (kind, token) in itertools.product(users.items(), tokens.items()):
            named = {"region_id": region, "address": address, "session_token": token, **A_HINT}
            for request in variants(client_pb2.MemoryRequest.DESCRIPTOR, named):
                name = request.WhichOneof("request")
                if name == "begin":
                    continue
                with user.connect(running.address.removeprefix("unix:") + ".memory", socket.SOCK_SEQPACKET) as stranger:
                    stranger.settimeout(SECONDS)
                    descriptors = [waiting.userfaultfd] if name == "attach" else []
                    if found := wrong_replies(stranger, request, descriptors, {"UNKNOWN_SESSION"}):
                        wrong[name, who, kind] = found
        # With a session of its own.
        for known in (region, region + 10_000):
            named = {"region_id": known, "address": address, "session_token": victim.session.token, **A_HINT}
            for request in variants(client_pb2.MemoryRequest.DESCRIPTOR, named):
                name = request.WhichOneof("request")
                first = name in ("attach", "begin")
                own = {"map": 2, "stream": 1}.get(name, 0)  # descriptors of what is the thief's own
                reasons = {"INVALID_ARGUMENT" if first else "" if own else "NOT_FOUND"}
                descriptors = [waiting.userfaultfd] if first else []
                if found := wrong_replies(thief.connection, request, descriptors, reasons, own):
                    wrong[name, "another session", known] = found
        assert wrong == {}
        victim.works()
        assert waiting.ask(attach_packet(waiting.session.token), [waiting.userfaultfd]) == ("", "ok", [])
        waiting.works()
