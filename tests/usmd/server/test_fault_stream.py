"""Fault streams on the wire: several of a session, how they end, and when faults wait.

Loads and stores on them are in test_fault_stream_accesses.py; broken bytes and clients that overload the daemon in
test_client_service_abuse.py.
"""

import asyncio
from itertools import pairwise
from types import SimpleNamespace as Namespace

import grpc.aio
import pytest

from tests.support.held_device import HeldDevice
from tests.support.raw_client import FaultStream, open_channel
from tests.support.waiting import wait_until_async
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usmd.core import events
from usmd.core.hints import parse_hint
from usmd.core.region import page_key
from usmd.core.settings import CoreSettings
from usmd.mechanism.simulated import SimulatedMemory
from usmd.policy_rules import PolicyRules
from usmd.server import fault_stream
from usmd.server.engine import Engine
from usmd.server.sessions import MAX_STREAMS, STREAMS_A_TURN, Sessions, Stream

PAGE = 4096
TOP = (1 << 64) - 1
UNKNOWN = ("UNAUTHENTICATED", "UNKNOWN_SESSION")
INVALID = ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
ROUNDS = 50


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


def test_a_stream_has_its_headers_before_its_first_message_which_its_end_may_cut_off(client, first):
    second = FaultStream(client.channel, client.token)
    assert second.call.initial_metadata() is not None  # waits for them
    client.call("Detach", pb.DetachRequest())
    assert second.ends_with()[0] == "OK"


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


@pytest.mark.parametrize(("of_all", "own", "part"), [(4, None, 2), (4, None, 3), (64, 4, 128)])
def test_no_more_faults_are_filed_while_those_of_a_session_wait_for_many_pages(monkeypatch, of_all, own, part):
    monkeypatch.setattr(fault_stream, "PART_PAGES", part)
    pages, size = 32, 16

    async def main():
        device = HeldDevice(slots=pages, page_size=size)
        settings = CoreSettings(
            frames=2 * pages, page_size=size, deny_budget=pages, deny_budget_total=pages, max_faults=of_all
        )
        engine = Engine(settings, SimulatedMemory(2 * pages, size), [device])
        sessions = Sessions(
            engine, None, PolicyRules(alloc="first_fit"), max_sessions=1, of_user=1, attach_timeout=1000.0
        )
        session = sessions.attach("app", "")
        process = engine.core.state.processes[session.process_id]
        region = engine.map(events.Map(process.process_id, pages * size, ""))
        engine.submit(events.SetLimits(process.process_id, None, None, 0, 100, events.Quotas(max_faults=own)))
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
        await wait_until_async(lambda: process.missing == 4, "the faults wait for 4 pages")
        for _ in range(4 * pages):  # turns of the loop in which the rest could be filed
            await asyncio.sleep(0)
        assert process.missing == 4
        device.let_go()
        await wait_until_async(lambda: sum(len(each.outcomes) for each in wire.written) == pages, "all are answered")
        assert process.missing == 0
        sessions.end(session, "over")
        await stream
        await engine.close()

    asyncio.run(main())


# Batches of pages


def pages_of(stream, *batches):
    """Send batches (first fault id, region, pages) as one message; returns the fault id and frame of each page."""
    message = pb.StreamFaultsRequest()
    for first_id, region, pages in batches:
        message.page_batches.add(first_fault_id=first_id, region_id=region, pages=pages)
    stream.send_bytes(message.SerializeToString())
    found = {}
    while len(found) < sum(len(pages) for _, _, pages in batches):
        response = next(stream.call)
        found |= {
            each.first_fault_id + index: frame
            for each in response.allocated_pages
            for index, frame in enumerate(each.frames)
        }
        found |= {each.fault_id: each.allocated.runs[0].first_frame for each in response.outcomes}
    return found


def test_each_page_of_a_batch_is_answered_also_in_parts_and_when_it_is_there_already(client, first):
    region, other = client.map(400 * PAGE), client.map(PAGE)
    pages = [page * 7 % 400 for page in range(300)]
    assert pages_of(first, (1000, region, pages), (TOP, other, [0])).keys() == {*range(1000, 1300), TOP}
    few = client.map(20 * PAGE)
    found = pages_of(first, (5, few, range(20)))
    assert len(set(found.values())) == 20
    assert pages_of(first, (1000, few, range(19, -1, -1))) == {
        1000 + 24 - fault_id: found[fault_id] for fault_id in found
    }


@pytest.mark.parametrize(
    "batches",
    [[(1, list(range(4097)))], [(1, [0] * 2048), (5000, [1] * 2049)], [(1, [])] * 4097, [(TOP, [0, 1])]],
)
def test_a_message_of_too_many_faults_or_of_numbers_that_overflow_ends_the_stream(client, first, batches):
    stream = client.further_stream()
    message = pb.StreamFaultsRequest()
    for first_id, pages in batches:
        message.page_batches.add(first_fault_id=first_id, region_id=1, pages=pages)
    stream.send_bytes(message.SerializeToString())
    assert stream.ends_with()[:2] == INVALID


def test_no_more_pages_of_a_batch_are_filed_than_its_session_may_wait_for():
    async def main():
        messages = [pb.StreamFaultsRequest()]
        messages[0].page_batches.add(first_fault_id=1, region_id=1, pages=range(10))
        submitted = []
        session = Namespace(process_id=1, ended=asyncio.Event(), room=asyncio.Event(), open_stream=lambda: Stream(0))
        process = Namespace(fault_room=3, stall=Namespace(waits=False), ended=None)
        state = Namespace(
            settings=Namespace(page_size=PAGE), processes={1: process},
            stalls=Namespace(waiting=0, served=lambda *_: None),
        )  # fmt: skip

        def submit(event):
            submitted.append(list(event.pages))
            process.fault_room -= len(event.pages)

        engine = Namespace(core=Namespace(state=state), now=float, submit=submit)
        stream = fault_stream.FaultStream(engine, None, None, session, None)
        task = asyncio.create_task(stream._file_batches(messages[0].page_batches))
        await wait_until_async(lambda: submitted == [[0, 1, 2]], "as many are filed as there is room for")
        process.fault_room = 5
        session.room.set()
        await wait_until_async(lambda: len(submitted) == 2, "more are filed")
        session.ended.set()
        session.room.set()
        await task
        assert submitted == [[0, 1, 2], [3, 4, 5, 6, 7]]

    asyncio.run(main())
