"""Fault streams on the wire: several of a session, and loads and stores on them.

Broken bytes and clients that overload the daemon are in test_client_service_abuse.py.
"""

import asyncio
from itertools import pairwise

import grpc.aio
import pytest

from tests.support.held_device import HeldDevice
from tests.support.raw_client import FaultStream, open_channel
from tests.support.waiting import wait_until_async
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.mechanism.simulated import SimulatedMemory
from usmd.policy_rules import PolicyRules
from usmd.server import fault_stream
from usmd.server.engine import Engine
from usmd.server.fault_stream import MAX_BATCH_ACCESSES
from usmd.server.sessions import MAX_STREAMS, STREAMS_A_TURN, Sessions
from usmd.server.transfers import MAX_TRANSFER_BYTES

PAGE = 4096
TOP = (1 << 64) - 1
UNKNOWN = ("UNAUTHENTICATED", "UNKNOWN_SESSION")
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
ROUNDS = 50


def load(access_id, region, offset, length):
    return pb.Access(access_id=access_id, load=pb.LoadRequest(region_id=region, offset=offset, length=length))


def store(access_id, region, offset, data):
    return pb.Access(access_id=access_id, store=pb.StoreRequest(region_id=region, offset=offset, data=data))


def reason_of(answer):
    return common_pb2.FailureReason.Name(answer.failure.reason).removeprefix("FAILURE_REASON_")


@pytest.fixture
def first(client):
    """The first stream of the client, which answers."""
    client.stream().send_accesses(pb.Access())
    client.stream().answers(1)
    return client.stream()


@pytest.fixture
def channels(daemon):
    """Opens channels that end with the test."""
    opened = []

    def make():
        opened.append(open_channel(daemon.address))
        return opened[-1]

    yield make
    for channel in opened:
        channel.close()


# Several streams


def test_streams_get_the_outcomes_of_their_own_faults_though_the_fault_ids_are_equal(client, first):
    second, third = client.further_stream(), client.further_stream()
    region = client.map(3 * PAGE)
    for _ in range(ROUNDS):
        for page, stream in enumerate((first, second, third)):
            stream.send((1, region, page, 1), (TOP, region, page, 1))
        for page, stream in enumerate((first, second, third)):
            outcomes = stream.outcomes(2)
            assert {outcome.fault_id for outcome in outcomes} == {1, TOP}
            assert {outcome.allocated.runs[0].first_page for outcome in outcomes} == {page}
            assert len(outcomes) == 2


@pytest.mark.parametrize("how", ["half-closes", "cancels", "breaks"])
def test_a_further_stream_ends_alone(client, first, how):
    ending, staying = client.further_stream(), client.further_stream()
    region = client.map(8 * PAGE)
    for page in range(8):
        client.put(region, page, b"x")
    client.hint(region, "DONTNEED")
    ending.send((1, region, 0, 8))
    if how == "half-closes":
        ending.close()
        assert ending.ends_with()[0] == "OK"
    elif how == "cancels":
        ending.call.cancel()
    else:
        ending.send_bytes(b"\xff\xff")
        assert ending.ends_with()[:2] == INVALID
    for stream in (first, staying):
        assert stream.fault(region, 0).fault_id == 1
        assert stream.fault(region, 7).allocated.runs[0].first_page <= 7


def test_a_further_stream_on_a_connection_of_its_own_may_lose_it(client, first, channels):
    channel = channels()
    region = client.map(PAGE)
    assert client.further_stream(channel).fault(region, 0).HasField("allocated")
    channel.close()
    for _ in range(ROUNDS):
        assert first.fault(region, 0).HasField("allocated")


def test_the_end_of_the_first_stream_ends_all(client, first):
    second = client.further_stream()
    first.close()
    assert second.ends_with()[0] == "OK"
    assert client.refused("MapRegion", pb.MapRegionRequest(length=1))[:2] == UNKNOWN
    assert FaultStream(client.channel, client.token).ends_with()[:2] == UNKNOWN


def test_a_detach_ends_all_streams_without_an_error(client, first):
    second = client.further_stream()
    client.call("Detach", pb.DetachRequest())
    assert [stream.ends_with()[0] for stream in (first, second)] == ["OK", "OK"]


def test_so_many_streams_at_a_time_and_no_more(client, first, channels):
    several = [channels() for _ in range(4)]  # a connection has 32 calls at a time
    streams = [client.further_stream(several[number % 4]) for number in range(MAX_STREAMS - 1)]
    status, reason, text = FaultStream(client.channel, client.token).ends_with()
    assert (status, reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert "64" in text
    region = client.map(PAGE)
    assert all(stream.fault(region, 0).HasField("allocated") for stream in (first, *streams))
    streams[0].close()
    assert streams[0].ends_with()[0] == "OK"
    client.further_stream()


def test_a_further_stream_of_a_token_that_is_none_is_refused(client, first):
    for token in (None, "", "forged", client.token.swapcase()):
        assert FaultStream(client.channel, token).ends_with()[:2] == UNKNOWN
    region = client.map(PAGE)
    assert first.fault(region, 0).HasField("allocated")


def test_a_yield_on_a_further_stream_is_completed_there(daemon, client, first):
    second = client.further_stream()
    region = client.map(2 * PAGE)
    client.put(region, 0, b"away")
    client.evict(daemon, region, 0, 2)
    second.send((5, region, 0, 1))
    yielded, completed = second.outcomes(2)
    assert (yielded.fault_id, completed.fault_id) == (5, 5)
    assert completed.allocated.yield_token == yielded.yielded.yield_token > 0
    first.send((6, region, 1, 1))
    assert [outcome.fault_id for outcome in first.outcomes(1)] == [6]


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


def test_faults_wait_for_room_and_all_are_answered_on_their_streams(client, first):
    second = client.further_stream()
    region = client.map(256 * PAGE)
    for stream in (first, second):
        stream.send(*[(number, region, number % 256, 1) for number in range(2048)])
    for stream in (first, second):
        final = {}
        while len(final) < 2048:
            for outcome in stream.outcomes(1):
                if outcome.WhichOneof("outcome") != "yielded":
                    final[outcome.fault_id] = outcome
        assert set(final) == set(range(2048))


# Streams that end together


class EndsWithOthers:
    """The context of a stream that ends when the test says so, as those of all sessions of a process that dies."""

    def __init__(self):
        self.over = asyncio.get_running_loop().create_future()

    async def read(self):
        await asyncio.shield(self.over)
        return grpc.aio.EOF


@pytest.mark.parametrize("cancelled", [False, True])
def test_of_streams_that_end_together_each_turn_of_the_loop_ends_a_few(cancelled):
    async def main():
        settings = CoreSettings(frames=4, page_size=16, deny_budget=1, deny_budget_total=1)
        engine = Engine(settings, SimulatedMemory(4, 16), [])
        sessions = Sessions(
            engine, None, PolicyRules(alloc="first_fit"), max_sessions=64, of_user=64, attach_timeout=1000.0
        )
        wires = [EndsWithOthers() for _ in range(40)]
        streams = [
            asyncio.create_task(
                fault_stream.FaultStream(engine, None, sessions, sessions.attach("app", ""), wire).run()
            )
            for wire in wires
        ]
        for _ in range(4):
            await asyncio.sleep(0)
        for wire, stream in zip(wires, streams, strict=True):
            if cancelled:
                stream.cancel()
            else:
                wire.over.set_result(None)
        ended = [0]
        for _ in range(4 * len(streams)):
            await asyncio.sleep(0)
            ended.append(sum(each.done() for each in streams))
        assert max(after - before for before, after in pairwise(ended)) <= STREAMS_A_TURN
        await sessions.finish()
        assert (ended[-1], len(sessions)) == (len(streams), 0)
        await asyncio.gather(*streams, return_exceptions=True)
        await engine.close()

    asyncio.run(main())


def test_a_stream_that_is_cancelled_again_while_it_waits_for_its_turn_leaves_no_task():
    async def main():
        settings = CoreSettings(frames=4, page_size=16, deny_budget=1, deny_budget_total=1)
        engine = Engine(settings, SimulatedMemory(4, 16), [])
        sessions = Sessions(
            engine, None, PolicyRules(alloc="first_fit"), max_sessions=1, of_user=1, attach_timeout=1000.0
        )
        for _ in range(2 * STREAMS_A_TURN):
            sessions.stream_ends.call(lambda: None)
        stream = asyncio.create_task(
            fault_stream.FaultStream(engine, None, sessions, sessions.attach("app", ""), EndsWithOthers()).run()
        )
        await asyncio.sleep(0)
        for _ in range(3):
            sessions.stream_ends.call(lambda: None)
        for _ in range(2):
            stream.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(stream, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await engine.close()

    asyncio.run(main())


# Faults that wait


class Wire:
    """The context of a stream whose client sends one message and then nothing. `written`: the daemon's messages."""

    def __init__(self, message):
        self._messages = [message]
        self.written = []

    async def read(self):
        if not self._messages:
            await asyncio.get_running_loop().create_future()
        return self._messages.pop()

    async def write(self, message):
        self.written.append(message)


def test_no_more_faults_are_filed_while_those_of_a_session_wait_for_many_pages(monkeypatch):
    monkeypatch.setattr(fault_stream, "MAX_MISSING_PAGES", 4)
    monkeypatch.setattr(fault_stream, "PART_PAGES", 2)
    pages, size = 32, 16

    async def main():
        device = HeldDevice(slots=pages, page_size=size)
        settings = CoreSettings(frames=2 * pages, page_size=size, deny_budget=pages, deny_budget_total=pages)
        engine = Engine(settings, SimulatedMemory(2 * pages, size), [device])
        sessions = Sessions(
            engine, None, PolicyRules(alloc="first_fit"), max_sessions=1, of_user=1, attach_timeout=1000.0
        )
        session = sessions.attach("app", "")
        process = engine.core.state.processes[session.process_id]
        region = engine.map(events.Map(process.process_id, pages * size, ""))
        faults = [events.FaultRequest(page, region.region_id, page, 1, True) for page in range(pages)]
        engine.submit(events.Faults(process.process_id, faults))
        first, content = page_key(region.region_id, 0), memoryview(b"x" * pages * size)
        access = events.Access(process.process_id, region.region_id, 0, pages, True)
        assert not engine.access(access, lambda frames: engine.memory.store(frames, first, 0, content)).absent
        hint = parse_hint("DONTNEED")
        engine.submit(events.SetHint(process.process_id, region.region_id, 0, pages * size, hint))
        table = engine.core.state.regions[region.region_id].table
        await wait_until_async(lambda: all(table[page] < 0 for page in range(pages)), "all pages are in swap")

        message = pb.StreamFaultsRequest()
        for page in range(pages):
            message.faults.add(fault_id=page, region_id=region.region_id, first_page=page, page_count=1)
        wire = Wire(message)
        stream = asyncio.create_task(fault_stream.FaultStream(engine, None, sessions, session, wire).run())
        await wait_until_async(lambda: process.missing > 4, "the faults wait for more than 4 pages")
        for _ in range(4 * pages):  # turns of the loop in which the rest could be filed
            await asyncio.sleep(0)
        assert process.missing == 6
        device.let_go()
        await wait_until_async(lambda: sum(len(each.outcomes) for each in wire.written) == pages, "all are answered")
        assert process.missing == 0
        sessions.end(session, "over")
        await stream
        await engine.close()

    asyncio.run(main())
