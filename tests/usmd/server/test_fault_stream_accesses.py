"""Loads, stores, and regions given back, on fault streams on the wire."""

import pytest

from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.server.fault_stream import MAX_BATCH_ACCESSES
from usmd.server.transfers import MAX_TRANSFER_BYTES

PAGE = 4096
TOP = (1 << 64) - 1
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")


def load(access_id, region, offset, length):
    return pb.Access(access_id=access_id, load=pb.LoadRequest(region_id=region, offset=offset, length=length))


def store(access_id, region, offset, data):
    return pb.Access(access_id=access_id, store=pb.StoreRequest(region_id=region, offset=offset, data=data))


def reason_of(answer):
    return common_pb2.FailureReason.Name(answer.failure.reason).removeprefix("FAILURE_REASON_")


# Accesses


@pytest.mark.parametrize("further", [False, True])
def test_accesses_do_what_the_calls_do(client, first, further):
    stream = client.further_stream() if further else first
    region = client.map(5 * PAGE)
    for page in (0, 2):
        client.put(region, page, b"-")
    stream.send_accesses(
        store(1, region, 10, b"stored"),
        load(2, region, 10, 6),
        store(3, region, PAGE - 2, b"xyz"),
        load(4, region, 0, 5 * PAGE),
        load(5, region, PAGE, 1),
    )
    stored, loaded, cut, all_, none = answers = stream.answers(5)
    assert [answer.access_id for answer in answers] == [1, 2, 3, 4, 5]
    assert stored.stored == pb.StoreResponse(stored=6)
    assert loaded.loaded == client.load(region, 10, 6) == pb.LoadResponse(data=b"stored")
    assert cut.stored == client.store(region, PAGE - 2, b"xyz") == pb.StoreResponse(stored=2, absent_pages=[1])
    assert all_.loaded == client.load(region, 0, 5 * PAGE)
    assert (len(all_.loaded.data), all_.loaded.absent_pages) == (PAGE, [1, 3, 4])
    assert none.loaded == pb.LoadResponse(absent_pages=[1])


def test_an_access_that_fails_fails_alone(client, other, first):
    mine, foreign = client.map(PAGE), other.map(PAGE)
    client.put(mine, 0, b"mine")
    first.send_accesses(
        load(1, foreign, 0, 1),
        store(2, mine, PAGE - 1, b"xy"),
        pb.Access(access_id=3),
        load(4, mine, 0, 0),
        store(TOP, mine, 0, bytes(MAX_TRANSFER_BYTES + 1)),
        load(6, mine, TOP, 1),
        load(7, mine, 0, 4),
    )
    answers = first.answers(7)
    assert [answer.access_id for answer in answers] == [1, 2, 3, 4, TOP, 6, 7]
    assert [reason_of(answer) for answer in answers[:6]] == [
        "NOT_FOUND", "OUT_OF_RANGE", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "OUT_OF_RANGE",
    ]  # fmt: skip
    assert all(answer.failure.message and not answer.failure.page for answer in answers[:6])
    assert "neither a load nor a store" in answers[2].failure.message
    assert f"allowed are 1 to {MAX_TRANSFER_BYTES}" in answers[4].failure.message
    assert answers[6].loaded.data == b"mine"


def test_accesses_come_after_the_faults_of_their_message(client, first):
    region = client.map(PAGE)
    fault = pb.Fault(fault_id=9, region_id=region, first_page=0, page_count=1, write=True)
    first.send_accesses(store(1, region, 0, b"here"), load(2, region, 0, 4), faults=(fault,))
    message = next(first.call)
    assert [outcome.fault_id for outcome in message.outcomes] == [9]
    assert [answer.access_id for answer in message.accessed] == [1, 2]
    assert message.accessed[1].loaded.data == b"here"


def test_pages_that_deny_could_not_keep_are_told_of_beside_an_answer_and_once(client, first):
    region = client.map(64 * PAGE)
    client.hint(region, "EVICTION=DENY; ACCESS=RANDOM")
    budget = client.call("GetKept", pb.GetKeptRequest()).budget_pages
    for page in range(budget + 3):
        first.fault(region, page)
    told = []
    for _ in range(2):
        first.send_accesses(load(1, region, 0, 1))
        told.append(next(first.call).over_budget_pages)
    assert told == [3, 0]


def test_stores_of_as_much_as_may_be_moved_fit_into_a_message_in_parts_of_any_size(client, first):
    region = client.map(16 * PAGE)
    client.stream().send((1, region, 0, 16))
    client.stream().outcomes(1)
    size = MAX_TRANSFER_BYTES // MAX_BATCH_ACCESSES
    stores = [store(number, region, number % 64 * size, bytes([number % 251]) * size) for number in range(4096)]
    faults = tuple(pb.Fault(fault_id=TOP - number, region_id=TOP, first_page=TOP) for number in range(4096))
    first.send_accesses(*stores, faults=faults)
    answers = first.answers(MAX_BATCH_ACCESSES)
    assert [answer.access_id for answer in answers] == list(range(4096))
    assert {answer.stored.stored for answer in answers} == {size}
    assert client.load(region, 63 * size, size).data == bytes([4095 % 251]) * size
    first.send_accesses(store(1, region, 0, bytes(MAX_TRANSFER_BYTES)))
    assert reason_of(first.answers(1)[0]) == "OUT_OF_RANGE"


def test_regions_given_back_on_a_stream_are_gone_and_what_is_no_region_is_passed_over(client, other, first):
    kept, theirs = client.map(PAGE), other.map(PAGE)
    regions = [client.map(PAGE) for _ in range(3)]
    first.send_accesses(load(1, kept, 0, 1))
    request = pb.StreamFaultsRequest(unmapped_region_ids=[TOP, theirs, *regions, regions[0]])
    request.accesses.append(load(2, regions[1], 0, 1))
    first.send_bytes(request.SerializeToString())
    one, two = first.answers(2)
    assert one.loaded.absent_pages == [0]
    assert reason_of(two) == "NOT_FOUND"
    for region in regions:
        assert client.refused("Load", pb.LoadRequest(region_id=region, length=1))[1] == "NOT_FOUND"
    assert client.load(kept, 0, 1).absent_pages == [0]
    assert other.load(theirs, 0, 1).absent_pages == [0]


def test_too_many_accesses_in_a_message_end_the_stream(client, first):
    second = client.further_stream()
    second.send_accesses(*[pb.Access()] * (MAX_BATCH_ACCESSES + 1))
    status, reason, text = second.ends_with()
    assert (status, reason) == INVALID
    assert "4097 accesses" in text
    assert "4096" in text
    assert first.fault(client.map(PAGE), 0).HasField("allocated")


def test_answers_of_many_large_loads_come_in_messages_that_a_client_takes(client, first):
    region = client.map(32 * PAGE)
    for page in range(32):
        client.put(region, page, bytes([page]))
    first.send_accesses(*[load(number, region, 0, 32 * PAGE) for number in range(64)])
    seen = 0
    while seen < 64:
        message = next(first.call)  # this client takes 4 MiB
        assert message.ByteSize() <= MAX_TRANSFER_BYTES + PAGE
        seen += len(message.accessed)
        assert {len(answer.loaded.data) for answer in message.accessed} == {32 * PAGE}
