"""No number that a client can get tells of other clients, but for those that are named here with the reason.

Made from the proto's descriptors: a field that is new is met here by one of the conversations, or this file fails.
A client holds the same conversation with two daemons, in two halves. With one of them many other sessions begin, map,
hint, fault and pin between the halves. Number by number, it must get the same from both.
"""

import contextlib
import itertools
import re

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.support.daemon import running_daemon
from tests.support.grammar import fields, services
from tests.support.raw_client import RawClient
from tests.support.real_daemon import real_daemon
from tests.support.real_memory import require_real_memory
from tests.usmd.server.raw_memory import Peer
from tests.usmd.server.test_memory_connection import Plain
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usmd.server.session_calls import FIRST_NUMBER
from usmd.server.sessions import FIRST_PROCESS, LAST_PROCESS

PAGE = 4096
FLAGS = ("--memory", "1MiB", "--swap", "memory:4MiB", "--alloc", "async_aware(regular=first_fit)")
OTHERS = 12
DRAWN = {
    "AttachResponse.process_id": (FIRST_PROCESS, LAST_PROCESS),
    "MemoryBegun.process_id": (FIRST_PROCESS, LAST_PROCESS),
    "Region.region_id": (FIRST_NUMBER, (1 << 31) - 1),
}
"""Drawn at random; the next test is about them."""
SHARED = {
    "FrameRun.first_frame": "USM's answer to a fault is frames, which are of the memory that all share",
    "PagesAllocated.frames": "the same",
    "GetKeptResponse.room_pages": "a client must know what it may keep, which is less when all keep much together",
}
"""Numbers that others change, and why a client gets them."""
ECHOED = {
    "AccessOutcome.access_id": "the client's own number",
    "Outcome.fault_id": "the client's own number",
    "PagesAllocated.first_fault_id": "the client's own number",
}
NOT_MET = {
    "DrainNotice.seconds_left": "what the operator decided, and the same for all",
    "PressureNotice.threshold": "the client's own number",
    "PressureNotice.some_avg10": "how long its own faults waited, which it can measure",
    "PressureNotice.full_avg10": "the same, with the CPU time of its own process",
    "Failure.yield_token": "the same attribute of the fault as Allocated.yield_token; only device errors come so late",
}
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT,
}  # fmt: skip


def name_of(field):
    return f"{field.containing_type.name}.{field.name}"


def numbers_of_clients():
    """All fields with a number that a client can get, by gRPC or on the memory socket."""
    [service] = [each for each in services() if each.name == "ClientService"]
    answers = [method.output_type for method in service.methods]
    found = {
        name_of(field)
        for answer in (*answers, pb.MemoryReply.DESCRIPTOR)
        for field in fields(answer)
        if field.cpp_type in INTEGERS
    }
    assert len(found) > 25
    return found


def told(message):
    """(field, value) of every number in a message, and its texts with the numbers of regions left out."""
    for field, value in message.ListFields():
        for each in value if field.is_repeated else [value]:
            if field.message_type is not None:
                yield from told(each)
            elif field.cpp_type in INTEGERS:
                yield name_of(field), each
            elif field.type == FieldDescriptor.TYPE_STRING and field.name != "session_token":
                yield name_of(field), re.sub(r"\d{7,}", "REGION", each)


def half(session, daemon):
    """What a client gets that uses each call; the state of its pages does not depend on when threads run."""
    region = session.call("MapRegion", pb.MapRegionRequest(length=160 * PAGE, name="data"))
    number = region.region_id
    yield region
    stream = session.stream()
    stream.send((1, number, 0, 131))
    yield from stream.outcomes(1)
    yield session.store(number, 0, b"x" * 2 * PAGE)
    yield session.load(number, 130 * PAGE, 2 * PAGE)
    yield session.store(number, 130 * PAGE, b"x" * 2 * PAGE)
    yield session.hint(number, "EVICTION=DENY")  # three pages more than it may keep
    stream.send((2, number, 131, 9))
    yield from stream.outcomes(1)
    stream.send_accesses(pb.Access(access_id=9, load=pb.LoadRequest(region_id=number, offset=0, length=1)))
    yield next(stream.call)
    yield session.call("GetKept", pb.GetKeptRequest())
    yield session.hint(number, "")
    packed = pb.PageBatch(first_fault_id=20, region_id=number, pages=range(141, 145))
    stream.send_bytes(pb.StreamFaultsRequest(page_batches=[packed]).SerializeToString())
    yield next(stream.call)
    yield session.hint(number, "PRIORITY=LOW", PAGE, 8 * PAGE)
    session.evict(daemon, number, 0, 2)
    stream.send((3, number, 0, 1))
    outcomes = stream.outcomes(1)
    yield from outcomes if len(outcomes) == 2 else [*outcomes, *stream.outcomes(1)]
    pin = {"region_id": number, "first_page": 5, "page_count": 2}
    yield session.call("PinRegion", pb.PinRegionRequest(**pin))
    yield session.call("PinRegion", pb.PinRegionRequest(region_id=number, first_page=150, page_count=1))
    yield session.call("GetKept", pb.GetKeptRequest())
    yield session.call("UnpinRegion", pb.UnpinRegionRequest(**pin))
    stream.send((4, number, 5, 1), (5, number, 1000, 1), (6, number + 1, 0, 1))
    yield from stream.outcomes(3)
    yield session.call("UnmapRegion", pb.UnmapRegionRequest(region_id=number))
    for method, request in (
        ("UnmapRegion", pb.UnmapRegionRequest(region_id=number)),
        ("UnpinRegion", pb.UnpinRegionRequest(**pin)),
        ("MapRegion", pb.MapRegionRequest(length=1 << 60)),
    ):
        yield pb.Failure(message="/".join(session.refused(method, request)))


def others(daemon):
    """Other sessions, which do all that gives numbers out."""
    for count in range(OTHERS):
        with RawClient(daemon.address, f"other{count}") as other:
            regions = [other.map(4 * PAGE) for _ in range(3)]
            for region in regions:
                other.hint(region, "PRIORITY=LOW", 0, PAGE)
                other.put(region, 0, b"o")
                other.evict(daemon, region, 0)
                other.get(region, 0, 1)
                pin = pb.PinRegionRequest(region_id=region, first_page=0, page_count=1)
                with contextlib.suppress(grpc.RpcError):  # it may be absent again, and pins are not what counts
                    other.call("PinRegion", pin)


def conversation(folder, between):
    folder.mkdir()
    with (
        running_daemon(folder, *FLAGS, mechanism="simulated") as daemon,
        RawClient(daemon.address, "first") as first,
    ):
        yield first.attached
        yield from half(first, daemon)
        between(daemon)
        yield from half(first, daemon)
        with RawClient(daemon.address, "second") as second:
            yield second.attached
            yield from half(second, daemon)


def on_the_memory_socket(folder, between):
    folder.mkdir()
    with real_daemon(folder) as daemon:
        for count in range(2):
            with Plain(daemon) as plain:
                yield plain.begin()
                for _ in range(2):
                    reply, _ = plain.ask(map=pb.MapRegionRequest(length=3 * PAGE, name="data"))
                    yield reply
                    yield plain.ask(hint=pb.HintRegionRequest(region_id=reply.region.region_id, text="FHP=AUTO"))[0]
                    yield plain.ask(hint=pb.HintRegionRequest(region_id=1, text="FHP=AUTO"))[0]
                    if not count:
                        between(daemon)


def others_of_the_memory_socket(daemon):
    for count in range(OTHERS):
        with Peer(daemon, f"other{count}") as peer:
            region, _, _ = peer.map(4)
            peer.session.hint(region, "PRIORITY=LOW", 0, PAGE)


def of_nobody(numbers):
    """Without those that are drawn or shared, of which only the field counts."""
    return [(field, None if field in DRAWN or field in SHARED else value) for field, value in numbers]


def hold(conversation, folder, between):
    quiet, busy = (
        [each for message in conversation(folder / name, what) for each in told(message)]
        for name, what in (("quiet", lambda _: None), ("busy", between))
    )
    assert of_nobody(busy) == of_nobody(quiet)
    for field, value in busy:
        if field in DRAWN:
            least, most = DRAWN[field]
            assert least <= value <= most
    return {field for field, _ in busy}


@pytest.fixture(scope="module")
def met_by_calls(tmp_path_factory):
    return hold(conversation, tmp_path_factory.mktemp("calls"), others)


def test_what_a_client_gets_by_calls_is_the_same_whatever_others_do(met_by_calls):
    assert {"Yield.yield_token", "HintRegionResponse.hint_id", "Failure.page"} <= met_by_calls


def test_what_a_client_gets_on_the_memory_socket_is_the_same_whatever_others_do(tmp_path):
    require_real_memory()
    assert "MemoryBegun.process_id" in hold(on_the_memory_socket, tmp_path, others_of_the_memory_socket)


def test_every_number_that_a_client_can_get_was_compared(met_by_calls):
    on_the_socket = {"MemoryBegun.process_id", "MemoryBegun.page_size", "MemoryBegun.capacity_bytes"}
    assert numbers_of_clients() - met_by_calls - on_the_socket == set(NOT_MET)
    assert {*DRAWN, *SHARED, *ECHOED} <= numbers_of_clients()


def test_what_is_drawn_does_not_ascend(tmp_path):
    with running_daemon(tmp_path, *FLAGS) as daemon, contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(RawClient(daemon.address)) for _ in range(16)]
        for numbers in (
            [each.attached.process_id for each in sessions],
            [sessions[0].map(PAGE) for _ in range(16)],
        ):
            assert len(set(numbers)) == len(numbers)
            assert numbers != sorted(numbers)
            steps = {after - before for before, after in itertools.pairwise(numbers)}
            assert len(steps) > len(numbers) // 2
