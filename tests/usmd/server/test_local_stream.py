"""Fault streams that the memory socket hands over, used by a client that has no gRPC."""

import asyncio
import contextlib
import errno
import os
import socket
from pathlib import Path

import pytest

from tests.support.daemon import wait_equal, wait_until
from tests.support.waiting import wait_until_async
from tests.usmd.server.raw_memory import PAGE
from tests.usmd.server.test_memory_connection import FRAMES, Plain, serving
from usm_wire.local_stream import END, MAX_REQUEST_BYTES, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.core import events
from usmd.core.settings import CoreSettings
from usmd.errors import LimitExceeded
from usmd.mechanism.simulated import SimulatedMemory
from usmd.policy_rules import Choice, PolicyRules
from usmd.server.engine import Engine
from usmd.server.fault_stream import MAX_BATCH_FAULTS
from usmd.server.local_stream import LocalStreams
from usmd.server.sessions import MAX_STREAMS, Sessions

SECONDS = 60


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("usmd")) as daemon:
        yield daemon


@pytest.fixture
def plain(daemon):
    with Plain(daemon) as plain:
        plain.begin()
        yield plain
    wait_equal(lambda: daemon.admin.status().processes, 0, "all sessions have ended")
    wait_equal(lambda: daemon.admin.status().free_frames, FRAMES, "all frames are free")
    daemon.never("defect")


class Stream:
    """The client's end of a stream."""

    def __init__(self, plain):
        reply, (descriptor,) = plain.ask(stream=pb.MemoryStream())
        assert not reply.reason
        self.socket = socket.socket(fileno=os.dup(descriptor))
        self.socket.settimeout(SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # `plain` has another descriptor of it
        self.socket.close()

    def send(self, message, kind=MESSAGE):
        data = message if isinstance(message, bytes) else message.SerializeToString()
        self.socket.sendall(PREFIX.pack(kind, len(data)) + data)

    def read(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                assert not data, "the stream ended within a message"
                return None
            data += piece
        return data

    def hear(self):
        """The next message: its kind and itself; None at the end."""
        prefix = self.read(PREFIX.size)
        if prefix is None:
            return None
        kind, length = PREFIX.unpack(prefix)
        return kind, (pb.StreamFaultsResponse if kind == MESSAGE else pb.MemoryReply).FromString(self.read(length))

    def fault(self, region, pages, first_id=1):
        """File a fault on each of the pages, in one message."""
        faults = [
            pb.Fault(fault_id=first_id + number, region_id=region, first_page=page, page_count=1)
            for number, page in enumerate(pages)
        ]
        self.send(pb.StreamFaultsRequest(faults=faults))

    def outcomes(self, count):
        """Outcomes by the numbers of their faults, that many."""
        found = {}
        while len(found) < count:
            kind, message = self.hear()
            assert kind == MESSAGE
            found.update((outcome.fault_id, outcome.WhichOneof("outcome")) for outcome in message.outcomes)
        return found

    def ends_with(self):
        """(reason, message) of its last message; None if it ends without one."""
        while (heard := self.hear()) is not None:
            kind, message = heard
            if kind == END:
                assert self.hear() is None
                return common_pb2.FailureReason.Name(message.reason).removeprefix("FAILURE_REASON_"), message.message
        return None


def test_faults_are_answered_as_on_a_call_and_pages_are_there(daemon, plain):
    region, _ = plain.map(8)
    with Stream(plain) as stream:
        stream.fault(region, range(8))
        assert stream.outcomes(8) == dict.fromkeys(range(1, 9), "allocated")
        (listed,) = daemon.admin.regions(0)
        assert listed.resident_pages == 8
        stream.fault(region, [9], first_id=20)
        assert stream.outcomes(1) == {20: "failure"}


def test_a_message_in_many_pieces_and_many_in_one_piece_are_the_same_messages(plain):
    region, _ = plain.map(8)
    data = b""
    for page in range(8):
        fault = pb.Fault(fault_id=page, region_id=region, first_page=page, page_count=1)
        message = pb.StreamFaultsRequest(faults=[fault]).SerializeToString()
        data += PREFIX.pack(MESSAGE, len(message)) + message
    with Stream(plain) as stream:
        stream.socket.sendall(data)
        assert sorted(stream.outcomes(8)) == list(range(8))
        for byte in data:
            stream.socket.sendall(bytes([byte]))
        assert sorted(stream.outcomes(8)) == list(range(8))


def test_the_session_goes_on_without_the_stream_and_without_its_region(daemon, plain):
    region, _ = plain.map(8)
    with Stream(plain) as stream:
        stream.fault(region, range(4))
        stream.outcomes(4)
        stream.send(pb.StreamFaultsRequest(unmapped_region_ids=[region]))
        wait_equal(lambda: len(daemon.admin.regions(0)), 0, "the region was unmapped")
    other, _ = plain.map(8)
    with Stream(plain) as stream:
        stream.fault(other, range(2))
        assert stream.outcomes(2) == {1: "allocated", 2: "allocated"}


@pytest.mark.parametrize(
    ("kind", "length", "sent", "why"),
    [
        (MESSAGE, MAX_REQUEST_BYTES + 1, b"", f"{MAX_REQUEST_BYTES + 1} bytes on a local fault stream; allowed are"),
        (MESSAGE, 2**32 - 1, b"", "4294967295 bytes"),
        (END, 0, b"", "kind 1 on a fault stream; allowed is 0"),
        (77, 5, b"hello", "kind 77"),
        (MESSAGE, 3, b"\xff\xff\xff", "not a valid StreamFaultsRequest"),
    ],
)
def test_what_is_no_request_ends_the_stream_with_the_reason_and_not_the_session(plain, kind, length, sent, why):
    with Stream(plain) as stream:
        stream.socket.sendall(PREFIX.pack(kind, length) + sent)
        reason, message = stream.ends_with()
        assert reason == "INVALID_ARGUMENT"
        assert why in message
    region, _ = plain.map(1)
    with Stream(plain) as stream:
        stream.fault(region, [0])
        assert stream.outcomes(1) == {1: "allocated"}


def test_too_many_faults_in_a_message_are_refused_by_number(plain):
    with Stream(plain) as stream:
        stream.fault(1, [0] * (MAX_BATCH_FAULTS + 1))
        assert stream.ends_with() == (
            "INVALID_ARGUMENT",
            f"{MAX_BATCH_FAULTS + 1} faults in one message; allowed are {MAX_BATCH_FAULTS}",
        )


def test_streams_are_counted(plain):
    with contextlib.ExitStack() as streams:
        for _ in range(MAX_STREAMS):
            streams.enter_context(Stream(plain))
        assert plain.refused(stream=pb.MemoryStream()) == (
            "LIMIT_EXCEEDED",
            f"this session has {MAX_STREAMS} fault streams open; allowed are {MAX_STREAMS} at a time",
        )

    wait_until(lambda: not plain.ask(stream=pb.MemoryStream())[0].reason, "a closed stream makes room")


def test_a_stranger_gets_no_stream(daemon):
    with Plain(daemon) as stranger:
        assert stranger.refused(stream=pb.MemoryStream())[0] == "UNKNOWN_SESSION"


def test_a_client_that_never_reads_holds_up_nobody_and_leaves_nothing(daemon, plain):
    region, _ = plain.map(8)
    with Stream(plain) as silent, Stream(plain) as stream:
        silent.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:  # until usmd takes no more, because its answers are not read
                silent.fault(region, range(8))
        stream.fault(region, range(8))
        assert len(stream.outcomes(8)) == 8
        assert daemon.admin.status().processes == 1


def test_a_drain_ends_the_streams_with_its_reason(tmp_path):
    with serving(tmp_path) as daemon, Plain(daemon) as plain:
        plain.begin()
        region, _ = plain.map(8)
        with Stream(plain) as stream:
            stream.fault(region, [0])
            stream.outcomes(1)
            assert daemon.run_usmctl("drain", "--yes").returncode == 0
            reason, message = stream.ends_with()
            assert reason == "DRAINING"
            assert message


def test_the_end_of_the_session_is_the_end_of_its_streams(daemon):
    with Plain(daemon) as plain:
        plain.begin()
        with Stream(plain) as stream:
            plain.connection.close()
            assert stream.ends_with() is None


@contextlib.asynccontextmanager
async def sessions_of(*uids):
    """An engine, and a session of each of the users."""
    engine = Engine(
        CoreSettings(frames=8, page_size=16, deny_budget=4, deny_budget_total=6), SimulatedMemory(8, 16), []
    )
    rules = PolicyRules(alloc="first_fit")
    sessions = Sessions(engine, None, rules, max_sessions=8, of_user=8, attach_timeout=1000.0)
    yield engine, sessions, [sessions.begin("app", 1, uid, Choice("", ""), lambda: None) for uid in uids]
    sessions.end_all("over")
    await engine.close()


def test_users_and_all_together_have_a_share_of_descriptors_and_get_it_back():
    async def main():
        async with sessions_of(1, 2) as (engine, sessions, (mine, other)):
            streams = LocalStreams(engine, sessions, 4)
            ends = [streams.open(mine) for _ in range(3)]
            with pytest.raises(LimitExceeded, match=r"user 1 has 3 local fault streams.*allowed are 3"):
                streams.open(mine)
            ends.append(streams.open(other))
            with pytest.raises(LimitExceeded, match=r"all users have 4 local fault streams.*allowed are 4"):
                streams.open(other)
            ends.pop().close()
            await wait_until_async(lambda: len(streams._served) == 3, "its end was seen")
            ends.append(streams.open(other))
            for end in ends:
                end.close()

    asyncio.run(main())


def test_without_descriptors_it_is_a_typed_error(monkeypatch):
    def refused():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def main():
        async with sessions_of(1) as (engine, sessions, (session,)):
            with monkeypatch.context() as patch:
                patch.setattr(socket, "socketpair", refused)
                with pytest.raises(LimitExceeded, match="no descriptors for another fault stream: Too many open files"):
                    LocalStreams(engine, sessions, 4).open(session)
            assert not session.streams

    asyncio.run(main())


def test_a_client_that_reads_late_reads_everything_and_the_reason_after_it(tmp_path):
    with serving(tmp_path) as daemon, Plain(daemon) as plain:
        plain.begin()
        region, _ = plain.map(8)
        with Stream(plain) as stream:
            for number in range(200):
                stream.fault(region, range(8), first_id=8 * number)
            assert sorted(stream.outcomes(8 * 200)) == list(range(8 * 200))
            stream.send(b"\xff")
            assert stream.ends_with()[0] == "INVALID_ARGUMENT"


def test_what_a_client_sends_ahead_of_its_answers_waits_in_its_socket(daemon, plain):
    region, _ = plain.map(8)
    message = pb.StreamFaultsRequest(
        faults=[pb.Fault(fault_id=n, region_id=region, first_page=0, page_count=1) for n in range(MAX_BATCH_FAULTS)]
    ).SerializeToString()
    before = memory_of(daemon)
    with Stream(plain) as stream:
        stream.socket.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += stream.socket.send((PREFIX.pack(MESSAGE, len(message)) + message) * 16)
        assert sent < 64 << 20
        daemon.admin.status()
        assert memory_of(daemon) - before < 16 << 20


def memory_of(daemon):
    """Bytes of the daemon's own memory."""
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * PAGE


def test_a_client_that_goes_while_it_is_written_to_ends_the_stream_and_is_no_defect(logged):
    async def main():
        async with sessions_of(1) as (engine, sessions, (session,)):
            streams = LocalStreams(engine, sessions, 4)
            region = engine.map(events.Map(session.process_id, 8 * 16, ""))
            with streams.open(session) as end:
                faults = [pb.Fault(fault_id=n, region_id=region.region_id, page_count=1) for n in range(600)]
                message = pb.StreamFaultsRequest(faults=faults).SerializeToString()
                end.sendall(PREFIX.pack(MESSAGE, len(message)) + message)
                end.setblocking(False)
            await wait_until_async(lambda: not streams._served, "it is over")

    asyncio.run(main())
    assert logged == []


def test_a_connection_that_the_loop_does_not_take_leaves_nothing(monkeypatch, logged):
    async def refuse(*_):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async def main():
        async with sessions_of(1) as (engine, sessions, (session,)):
            monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", refuse)
            streams = LocalStreams(engine, sessions, 4)
            with streams.open(session) as end:
                await wait_until_async(lambda: not streams._served, "it is over")
                assert end.recv(1) == b""
            assert not session.streams
            assert not session.ended.is_set()

    asyncio.run(main())
    assert [line["event"] for line in logged] == ["defect"]
