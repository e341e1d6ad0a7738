"""The client service on the wire against clients that send broken bytes, bad hints, or more than their share."""

import contextlib

import pytest

from tests.support.own_memory import at_most_grown
from tests.support.raw_client import RawClient, refused
from tests.support.raw_http2 import call, unread
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.server.fault_stream import MAX_BATCH_ACCESSES, MAX_BATCH_FAULTS

PAGE = 4096
TOP = (1 << 64) - 1
UNKNOWN = ("UNAUTHENTICATED", "UNKNOWN_SESSION")
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
OUTSIDE = ("OUT_OF_RANGE", "OUT_OF_RANGE")


# Bytes that are no message


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x12\x02\xff\xfe"])
@pytest.mark.parametrize("method", ["Attach", "MapRegion"])
def test_bytes_that_are_no_message_are_an_invalid_argument_without_the_parsers_words(client, method, data):
    status, reason, text = refused(client.call_bytes, method, data)
    assert (status, reason) == INVALID
    assert text == f"the message is not a valid {method}Request"


def test_bytes_that_are_no_message_end_the_stream_and_its_session(client):
    stream = client.stream()
    stream.send_bytes(b"\xff\xff")
    assert stream.ends_with() == (*INVALID, "the message is not a valid StreamFaultsRequest")
    assert client.refused("MapRegion", pb.MapRegionRequest(length=1))[:2] == UNKNOWN


def test_a_batch_of_too_many_faults_ends_the_stream(client):
    region = client.map(PAGE)
    stream = client.stream()
    stream.send(*[(number, region, 0, 1) for number in range(MAX_BATCH_FAULTS + 1)])
    status, reason, text = stream.ends_with()
    assert (status, reason) == INVALID
    assert "4097 faults" in text
    assert "4096" in text


def test_the_largest_batch_is_answered_fault_by_fault(client):
    region = client.map(4 * PAGE)
    stream = client.stream()
    stream.send(*[(number, region, number % 4, 1) for number in range(MAX_BATCH_FAULTS)])
    assert {outcome.fault_id for outcome in stream.outcomes(MAX_BATCH_FAULTS)} == set(range(MAX_BATCH_FAULTS))


def test_a_message_of_5_mib_is_refused_on_a_call_and_on_the_stream_and_the_daemon_goes_on(client, other):
    huge = pb.StoreRequest(region_id=1, data=bytes(5 << 20))
    assert client.refused("Store", huge)[0] == "RESOURCE_EXHAUSTED"
    stream = client.stream()
    stream.send_bytes(bytes(5 << 20))
    assert stream.ends_with()[0] == "RESOURCE_EXHAUSTED"
    region = other.map(PAGE)
    other.put(region, 0, b"here")
    assert other.get(region, 0, 4) == b"here"


# Hints


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("COLOUR=RED", ["COLOUR", "PRIORITY", "X_"]),
        ("PRIORITY=URGENT", ["PRIORITY=URGENT", "LOW|NORMAL|HIGH"]),
        ("PRIORITY=LOW;priority=HIGH", ["PRIORITY", "twice"]),
        ("TTL=-1", ["TTL=-1", "seconds above 0"]),
        ("SWAP=nowhere", ["'nowhere'", "0 (memory0)", "1 (memory1)"]),
        ("SWAP=2", ["'2'", "1 (memory1)"]),
        ("X_A=" + "x" * 2048, ["2052 bytes", "1024"]),
    ],
)
def test_a_bad_hint_names_the_key_the_value_and_what_is_allowed(client, text, said):
    region = client.map(PAGE)
    answer = client.refused("HintRegion", pb.HintRegionRequest(region_id=region, text=text))
    assert answer[:2] == ("INVALID_ARGUMENT", "INVALID_HINT")
    assert [word for word in said if word not in answer[2]] == []


@pytest.mark.parametrize(
    "fields",
    [
        common_pb2.HintFields(priority=99),
        common_pb2.HintFields(access=4),
        common_pb2.HintFields(eviction=-1),
        common_pb2.HintFields(fhp_bytes=TOP),
        common_pb2.HintFields(ttl_seconds=float("inf")),
        common_pb2.HintFields(ttl_seconds=float("nan")),
        common_pb2.HintFields(swap_device="nowhere"),
        common_pb2.HintFields(extra={"X_A": "v;PRIORITY=HIGH"}),
        common_pb2.HintFields(extra={"X_A": ";" * (1 << 15)}),
        common_pb2.HintFields(extra={"k" * (1 << 15): ""}),
        common_pb2.HintFields(extra={"X_A": "\U0001f600" * 200 + ";"}),
        common_pb2.HintFields(swap_device="\U0001f600" * 240),
    ],
)
def test_bad_fields_are_an_invalid_hint_however_long(client, fields):
    region = client.map(PAGE)
    answer = client.refused("HintRegion", pb.HintRegionRequest(region_id=region, fields=fields))
    assert answer[:2] == ("INVALID_ARGUMENT", "INVALID_HINT")
    assert len(answer[2]) < 1100


@pytest.mark.parametrize(
    ("offset", "length"), [(TOP, 0), (0, TOP), (TOP, TOP), (2 * PAGE, 0), (0, 2 * PAGE + 1), (2 * PAGE, 1)]
)
def test_a_hint_outside_its_region_is_refused(client, offset, length):
    region = client.map(2 * PAGE)
    request = pb.HintRegionRequest(region_id=region, text="PRIORITY=LOW", offset=offset, length=length)
    assert client.refused("HintRegion", request)[:2] == OUTSIDE


def test_a_hint_covers_its_range_rounded_outward_and_empty_text_removes_it(client):
    region = client.map(4 * PAGE)
    answer = client.hint(region, "PRIORITY=HIGH", PAGE + 1, PAGE)
    assert (answer.first_page, answer.page_count) == (1, 2)
    assert answer.hint_id > 0
    assert client.hint(region, "", PAGE, PAGE).hint_id == 0


# A client that does not read


def test_a_client_that_never_reads_holds_up_nobody_and_its_end_frees_everything(daemon, client):
    region = client.map(16 * PAGE)
    client.put(region, 0, b"served")
    with at_most_grown(daemon, 40), RawClient(daemon.address, "mute") as mute:
        other = mute.map(64 * PAGE)
        stream = mute.stream()
        for _ in range(100):  # 409,600 faults, whose outcomes are more than the flow-control windows hold
            stream.send(*[(number, other, number % 16, 1) for number in range(MAX_BATCH_FAULTS)])
        for _ in range(20):
            assert client.get(region, 0, 6) == b"served"
    daemon.wait_for("process_detached", name="mute")
    assert client.get(region, 0, 6) == b"served"


@pytest.mark.parametrize("further", [False, True])
def test_a_client_that_never_reads_its_loads_holds_up_nobody_and_its_end_frees_everything(daemon, client, further):
    served = client.map(PAGE)
    client.put(served, 0, b"served")
    with RawClient(daemon.address, f"mute {further}") as mute:
        region = mute.map(32 * PAGE)
        stream = mute.stream()
        for page in range(32):
            mute.put(region, page, b"x")
        mute.call("PinRegion", pb.PinRegionRequest(region_id=region, page_count=32))
        if further:
            stream = mute.further_stream()
        wanted = pb.Access(load=pb.LoadRequest(region_id=region, length=32 * PAGE))
        stream.send_accesses(wanted)
        assert len(stream.answers(1)[0].loaded.data) == 32 * PAGE
        with at_most_grown(daemon, 20):
            for _ in range(20):  # ten gigabytes
                stream.send_accesses(*[wanted] * MAX_BATCH_ACCESSES)
            for _ in range(50):
                assert client.get(served, 0, 6) == b"served"
    daemon.wait_for("process_detached", name=f"mute {further}")
    assert client.get(served, 0, 6) == b"served"


def test_answers_to_calls_that_a_client_never_reads_are_few_and_wait_for_no_other_session(daemon, client, other):
    region, served = other.map(32 * PAGE), client.map(PAGE)
    client.put(served, 0, b"served")
    for page in range(32):
        other.put(region, page, b"x")
    other.call("PinRegion", pb.PinRegionRequest(region_id=region, page_count=32))
    load = pb.LoadRequest(region_id=region, length=32 * PAGE).SerializeToString()
    calls = [call(1 + 2 * number, "/usm.v1.ClientService/Load", load, other.token) for number in range(32)]
    path = daemon.address.removeprefix("unix:")
    with at_most_grown(daemon, 20), contextlib.ExitStack() as opened:
        for _ in range(12):  # 48 MiB
            opened.callback(unread(path, calls).close)
            assert client.get(served, 0, 6) == b"served"
        assert other.hint(region, "PRIORITY=LOW").hint_id
    assert other.get(region, 31, 1) == b"x"


def test_a_long_message_of_nothing_but_fields_ends_the_stream(client):
    stream = client.stream()
    stream.send_bytes(b"\x0a\x00" * (1 << 20))
    status, reason, text = stream.ends_with()
    assert (status, reason) == INVALID
    assert "no more than 8192 fields" in text


def test_the_largest_batch_of_the_largest_faults_holds_up_nobody(daemon, client, other):
    served = client.map(PAGE)
    client.put(served, 0, b"served")
    region = other.map(512 * PAGE)
    stream = other.stream()
    stream.send((0, region, 0, 1))
    stream.outcomes(1)
    stream.send(*[(number, region, 0, 512) for number in range(MAX_BATCH_FAULTS)])  # two million pages
    for _ in range(10):
        client.load(served, 0, 1)  # each has a deadline far below the time that all those pages take
    other.close()
    daemon.wait_for("process_detached", process_id=other.attached.process_id)
