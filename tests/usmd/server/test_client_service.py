"""The client service on the wire: sessions, whose region is whose, and numbers out of range.

Bytes that are no message, hints, and clients that overload the daemon are in test_client_service_abuse.py.
"""

import asyncio
from types import SimpleNamespace

import pytest

from tests.support.raw_client import FaultStream, RawClient, open_channel, refused
from tests.support.waiting import wait_equal, wait_until
from usm_wire.pb.usm.v1 import admin_pb2, client_pb2_grpc, common_pb2
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usmd.server.client_service import ClientService
from usmd.server.fault_stream import MAX_BATCH_FAULTS
from usmd.server.transfers import MAX_TRANSFER_BYTES

PAGE = 4096
TOP = (1 << 64) - 1
UNKNOWN = ("UNAUTHENTICATED", "UNKNOWN_SESSION")
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
OUTSIDE = ("OUT_OF_RANGE", "OUT_OF_RANGE")
NOT_FOUND = ("NOT_FOUND", "NOT_FOUND")
NO_REGION = 1 << 40

CALLS = {
    "Detach": pb.DetachRequest(),
    "MapRegion": pb.MapRegionRequest(length=1),
    "UnmapRegion": pb.UnmapRegionRequest(region_id=1),
    "HintRegion": pb.HintRegionRequest(region_id=1, text="PRIORITY=LOW"),
    "Load": pb.LoadRequest(region_id=1, length=1),
    "Store": pb.StoreRequest(region_id=1, data=b"x"),
    "PinRegion": pb.PinRegionRequest(region_id=1, page_count=1),
    "UnpinRegion": pb.UnpinRegionRequest(region_id=1, page_count=1),
    "GetKept": pb.GetKeptRequest(),
}


def reason_of(outcome):
    return common_pb2.FailureReason.Name(outcome.failure.reason).removeprefix("FAILURE_REASON_")


# Sessions


@pytest.mark.parametrize("token", [None, "", "forged", "A" * 43, "x" * 4000])
def test_no_call_is_answered_without_the_token_of_a_session(client, token):
    client.token = token
    for method, request in CALLS.items():
        assert client.refused(method, request)[:2] == UNKNOWN, method
    assert FaultStream(client.channel, token).ends_with()[:2] == UNKNOWN


def test_the_token_of_an_ended_session_is_unknown(client):
    client.call("Detach", pb.DetachRequest())
    assert client.refused("MapRegion", pb.MapRegionRequest(length=1))[:2] == UNKNOWN


def test_detach_ends_the_stream_without_an_error(client):
    stream = client.stream()
    region = client.map(1)
    assert stream.fault(region, 0).HasField("allocated")
    client.call("Detach", pb.DetachRequest())
    assert stream.ends_with()[0] == "OK"


def test_attach_tells_the_limits(client):
    attached = client.attached
    assert (attached.page_size, attached.max_transfer_bytes) == (PAGE, MAX_TRANSFER_BYTES)
    assert (attached.max_fault_pages, attached.max_batch_faults) == (512, MAX_BATCH_FAULTS)
    assert len(attached.session_token) >= 43
    assert attached.mechanism == "simulated"


@pytest.mark.parametrize("name", ["", "x" * 65, "new\nline", "\x1b[31m", "\u202e"])
def test_a_name_that_is_none_is_refused(daemon, name):
    channel = open_channel(daemon.address)
    answer = refused(client_pb2_grpc.ClientServiceStub(channel).Attach, pb.AttachRequest(name=name), timeout=90)
    channel.close()
    assert answer[:2] == INVALID
    assert "1 to 64 printable characters" in answer[2]


def test_a_session_whose_connection_breaks_ends_and_gives_its_memory_back(daemon):
    wait_until(lambda: daemon.admin.status().free_frames == 64, "the end of earlier sessions")
    with RawClient(daemon.address, "dies") as dying:
        dying.put(dying.map(8 * PAGE), 0, b"x")
        assert daemon.admin.status().free_frames == 63
    daemon.wait_for("process_detached", name="dies", reason="its fault stream ended")
    wait_until(lambda: daemon.admin.status().free_frames == 64, "its frame")


# Another's region


@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("UnmapRegion", lambda region: pb.UnmapRegionRequest(region_id=region)),
        ("HintRegion", lambda region: pb.HintRegionRequest(region_id=region, text="PRIORITY=LOW")),
        ("HintRegion", lambda region: pb.HintRegionRequest(region_id=region, text="")),
        ("Load", lambda region: pb.LoadRequest(region_id=region, length=1)),
        ("Load", lambda region: pb.LoadRequest(region_id=region, offset=TOP, length=TOP)),
        ("Load", lambda region: pb.LoadRequest(region_id=region)),
        ("Store", lambda region: pb.StoreRequest(region_id=region, data=b"stolen")),
        ("Store", lambda region: pb.StoreRequest(region_id=region, offset=TOP)),
        ("PinRegion", lambda region: pb.PinRegionRequest(region_id=region, page_count=1)),
        ("PinRegion", lambda region: pb.PinRegionRequest(region_id=region, first_page=TOP, page_count=TOP)),
        ("UnpinRegion", lambda region: pb.UnpinRegionRequest(region_id=region, page_count=1)),
    ],
)
def test_anothers_region_does_not_exist(client, other, method, request_of):
    mine = client.map(PAGE, "secret")
    client.put(mine, 0, b"secret")
    foreign = other.refused(method, request_of(mine))
    never = other.refused(method, request_of(NO_REGION))
    assert foreign[:2] == NOT_FOUND
    assert foreign[2].replace(str(mine), "") == never[2].replace(str(NO_REGION), "")
    assert client.get(mine, 0, 6) == b"secret"


def test_a_fault_on_anothers_region_fails_as_if_there_were_none_and_the_stream_goes_on(client, other):
    mine = client.map(PAGE)
    own = other.map(PAGE)
    stream = other.stream()
    stream.send((1, mine, 0, 1), (2, NO_REGION, 0, 1), (3, TOP, TOP, 1), (4, own, 0, 1))
    foreign, never, top, good = sorted(stream.outcomes(4), key=lambda outcome: outcome.fault_id)
    assert [reason_of(each) for each in (foreign, never, top)] == ["NOT_FOUND"] * 3
    assert foreign.failure.message.replace(str(mine), "") == never.failure.message.replace(str(NO_REGION), "")
    assert good.allocated.runs[0].page_count == 1


def test_an_unmapped_region_does_not_exist(client):
    region = client.map(PAGE)
    client.call("UnmapRegion", pb.UnmapRegionRequest(region_id=region))
    assert client.refused("UnmapRegion", pb.UnmapRegionRequest(region_id=region))[:2] == NOT_FOUND


# Numbers


@pytest.mark.parametrize("length", [1 << 37, 1 << 63, TOP])
def test_a_region_beyond_what_may_be_mapped_is_refused(client, length):
    answer = client.refused("MapRegion", pb.MapRegionRequest(length=length))
    assert answer[:2] == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert "memory.max_mapped" in answer[2]


@pytest.mark.parametrize("request_", [pb.MapRegionRequest(), pb.MapRegionRequest(length=1, name="x" * 65)])
def test_a_region_without_length_or_with_a_long_name_is_refused(client, request_):
    assert client.refused("MapRegion", request_)[:2] == INVALID


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 0, INVALID),
        (0, TOP, INVALID),
        (TOP, TOP, INVALID),
        (0, MAX_TRANSFER_BYTES + 1, INVALID),
        (TOP, 1, OUTSIDE),
        (2 * PAGE + 10, 1, OUTSIDE),
        (2 * PAGE, 11, OUTSIDE),
        (TOP - 5, 10, OUTSIDE),
        (0, MAX_TRANSFER_BYTES, OUTSIDE),
    ],
)
def test_a_load_outside_its_region_or_of_no_or_too_many_bytes_is_refused(client, offset, length, expected):
    region = client.map(2 * PAGE + 10)
    request = pb.LoadRequest(region_id=region, offset=offset, length=length)
    assert client.refused("Load", request)[:2] == expected


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 0, INVALID), (0, MAX_TRANSFER_BYTES + 1, INVALID), (TOP, 1, OUTSIDE), (2 * PAGE + 9, 2, OUTSIDE)],
)
def test_a_store_outside_its_region_or_of_no_or_too_many_bytes_is_refused(client, offset, size, expected):
    region = client.map(2 * PAGE + 10)
    request = pb.StoreRequest(region_id=region, offset=offset, data=bytes(size))
    assert client.refused("Store", request)[:2] == expected


def test_the_last_byte_of_a_region_can_be_stored_and_loaded_across_a_page(client):
    region = client.map(2 * PAGE + 10)
    client.put(region, 1, b"-")
    client.put(region, 2, b"-")
    assert client.store(region, 2 * PAGE - 3, b"abcdef").stored == 6
    assert client.store(region, 2 * PAGE + 9, b"z").stored == 1
    answer = client.load(region, 2 * PAGE - 3, 13)
    assert (answer.data, list(answer.absent_pages)) == (b"abcdef" + bytes(6) + b"z", [])


def test_a_load_and_a_store_stop_at_the_first_absent_page_and_name_all_of_them(client):
    region = client.map(5 * PAGE)
    client.put(region, 0, b"head")
    client.put(region, 2, b"mid")
    answer = client.load(region, 0, 5 * PAGE)
    assert (len(answer.data), list(answer.absent_pages)) == (PAGE, [1, 3, 4])
    stored = client.store(region, PAGE - 2, b"xyz")
    assert (stored.stored, list(stored.absent_pages)) == (2, [1])


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (0, 0, "INVALID_ARGUMENT"),
        (0, 513, "INVALID_ARGUMENT"),
        (0, (1 << 32) - 1, "INVALID_ARGUMENT"),
        (TOP, (1 << 32) - 1, "INVALID_ARGUMENT"),
        (TOP, 1, "OUT_OF_RANGE"),
        (TOP, 512, "OUT_OF_RANGE"),
        (4, 1, "OUT_OF_RANGE"),
        (3, 2, "OUT_OF_RANGE"),
        (0, 512, "OUT_OF_RANGE"),
    ],
)
def test_a_fault_outside_its_region_or_on_no_or_too_many_pages_fails_and_the_stream_goes_on(
    client, first, count, expected
):
    region = client.map(4 * PAGE)
    outcome = client.stream().fault(region, first, count)
    assert (reason_of(outcome), outcome.failure.page) == (expected, first)
    assert client.stream().fault(region, 0, 4).allocated.runs[0].page_count >= 1


# Pins


def pin(client, region, first, count):
    request = pb.PinRegionRequest(region_id=region, first_page=first, page_count=count)
    return list(client.call("PinRegion", request).absent_pages)


def unpin(client, region, first, count):
    client.call("UnpinRegion", pb.UnpinRegionRequest(region_id=region, first_page=first, page_count=count))


def pinned(admin):
    frames = admin.GetMemoryMap(admin_pb2.GetMemoryMapRequest(cells=64), timeout=90).cells
    return sum(cell.pinned for cell in frames)


def test_what_is_resident_can_be_pinned_and_with_an_absent_page_nothing_is(client, admin):
    region = client.map(8 * PAGE)
    for page in (1, 2, 4):
        client.put(region, page, b"x")
    assert pin(client, region, 0, 6) == [0, 3, 5]
    unpinned = client.refused("UnpinRegion", pb.UnpinRegionRequest(region_id=region, first_page=1, page_count=1))
    assert unpinned[:2] == INVALID
    assert pin(client, region, 1, 2) == pin(client, region, 2, 1) == []
    client.hint(region, "DONTNEED")
    wait_equal(lambda: list(client.load(region, 0, 8 * PAGE).absent_pages), [0, 3, 4, 5, 6, 7], "the others are out")
    assert pinned(admin) == 2
    unpin(client, region, 1, 2)
    client.hint(region, "DONTNEED")
    assert pinned(admin) == 1
    unpin(client, region, 2, 1)
    assert pinned(admin) == 0
    client.hint(region, "DONTNEED")
    wait_until(lambda: client.load(region, 2 * PAGE, PAGE).absent_pages, "the page goes")


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (0, 0, INVALID),
        (0, 65, INVALID),
        (0, TOP, INVALID),
        (TOP, TOP, INVALID),
        (TOP, 1, OUTSIDE),
        (4, 1, OUTSIDE),
        (3, 2, OUTSIDE),
        (0, 64, OUTSIDE),
    ],
)
@pytest.mark.parametrize(
    ("method", "request_of"), [("PinRegion", pb.PinRegionRequest), ("UnpinRegion", pb.UnpinRegionRequest)]
)
def test_a_pin_outside_its_region_or_of_no_or_too_many_pages_is_refused(
    client, method, request_of, first, count, expected
):
    region = client.map(4 * PAGE)
    answer = client.refused(method, request_of(region_id=region, first_page=first, page_count=count))
    assert answer[:2] == expected


def test_a_pin_beyond_the_budget_is_refused_and_the_pins_end_with_their_session(daemon, admin, client):
    with RawClient(daemon.address, "keeper") as keeper:
        region = keeper.map(40 * PAGE)
        for page in range(40):
            keeper.put(region, page, b"x")
        assert pin(keeper, region, 0, 30) == []
        answer = keeper.refused("PinRegion", pb.PinRegionRequest(region_id=region, first_page=29, page_count=4))
        assert answer[:2] == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
        assert "keep 3 more frames" in answer[2]
        assert pin(keeper, region, 30, 2) == []
        assert pinned(admin) >= 32
    wait_until(lambda: pinned(admin) == 0, "the pins end")


# What a session keeps


def told_of(client, request=None):
    """Pages beyond the budget of which the next answer tells, and the answer."""
    metadata = (("usm-session-token", client.token),)
    answer, call = client.stub.GetKept.with_call(request or pb.GetKeptRequest(), metadata=metadata, timeout=60)
    return dict(call.trailing_metadata()).get("usm-over-budget"), answer


def test_pages_that_come_in_beyond_the_budget_after_their_hint_are_told_of_by_the_next_answer(client, other):
    region = client.map(64 * PAGE)
    assert client.hint(region, "EVICTION=DENY; ACCESS=RANDOM").over_budget_pages == 0
    budget = told_of(client)[1].budget_pages
    for page in range(budget + 3):
        client.stream().fault(region, page)
    told, answer = told_of(client)
    assert told == "3"
    assert (answer.unevictable_pages, answer.pinned_pages, answer.room_pages, answer.refused_pages) == (budget, 0, 0, 3)
    assert told_of(client)[0] is None
    assert told_of(other)[0] is None
    for page in range(budget + 3, budget + 5):
        client.stream().fault(region, page)
    assert told_of(client)[0] is None
    client.stream().fault(region, budget + 5)
    assert told_of(client)[0] == "6", "twice as many as it was told of"
    assert client.hint(region, "EVICTION=DENY").over_budget_pages > 0
    assert told_of(client)[0] is None, "the answer to the hint has told"


def test_pins_are_of_the_same_budget(client):
    region = client.map(4 * PAGE)
    client.stream().fault(region, 0, 2)
    client.call("PinRegion", pb.PinRegionRequest(region_id=region, page_count=2))
    _, answer = told_of(client)
    assert (answer.unevictable_pages, answer.pinned_pages, answer.refused_pages) == (0, 2, 0)
    assert answer.room_pages == answer.budget_pages - 2


def test_a_wait_for_very_many_regions_looks_at_none_twice_that_is_emptied():
    left, looks = set(range(1000)), []

    def is_emptied(region):
        looks.append(region)
        if len(looks) % 7 == 0:
            left.discard(region)
        return region not in left

    service = SimpleNamespace(_engine=SimpleNamespace(now=lambda: 0.0), _calls=SimpleNamespace(is_emptied=is_emptied))
    left -= set(range(10, 1000))
    asyncio.run(ClientService._until_emptied(service, range(1000)))
    assert left == set()
    assert looks == sorted(looks)
    assert looks[-990:] == list(range(10, 1000))


def test_a_wait_for_regions_ends_in_time():
    times = iter([0.0, 0.0, 10.0, 10.0])
    service = SimpleNamespace(
        _engine=SimpleNamespace(now=lambda: next(times)), _calls=SimpleNamespace(is_emptied=lambda _: False)
    )
    asyncio.run(ClientService._until_emptied(service, [1, 2]))
    assert list(times) == []
