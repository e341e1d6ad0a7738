"""The daemon's double of conftest.py: which of its streams gets an answer, whatever the order in which they begin."""

import select
import threading

import pytest

from lib_usm.message_stream import MessageStream
from tests.lib_usm.conftest import FakeDaemon
from usm_wire.pb.usm.v1 import client_pb2 as pb

METHOD = "/usm.v1.ClientService/StreamFaults"
SECONDS = 60


class LateDaemon(FakeDaemon):
    """The handler of the second stream that is opened begins when the test says so."""

    def __init__(self, path):
        self.opened = 0
        self.second_begins = threading.Event()
        super().__init__(path)

    def StreamFaults(self, request_iterator, context):  # noqa: N802
        with self.changed:
            self.opened += 1
            is_second = self.opened == 2
            self.changed.notify_all()
        if is_second:
            self.second_begins.wait(SECONDS)
        yield from super().StreamFaults(request_iterator, context)


@pytest.fixture
def late_daemon(tmp_path):
    daemon = LateDaemon(tmp_path / "usm.sock")
    yield daemon
    daemon.second_begins.set()
    daemon.stop()


@pytest.fixture
def open_stream(late_daemon):
    """Opens a stream, whose handler has been called then."""
    streams = []

    def opened():
        streams.append(MessageStream(str(late_daemon.path), METHOD, ()))
        late_daemon.until(lambda: late_daemon.opened == len(streams))
        return streams[-1]

    yield opened
    for stream in streams:
        stream.close()


def first_answer(*streams):
    """The first answer on any of the streams, and its stream."""
    while True:
        readable, _, _ = select.select(streams, [], [], SECONDS)
        assert readable, "no stream gets an answer"
        for stream in readable:
            for message in stream.receive():
                return stream, pb.StreamFaultsResponse.FromString(message)
            assert stream.end is None


def test_an_answer_goes_to_the_stream_that_asked_though_one_opened_before_it_begins_after_it(late_daemon, open_stream):
    open_stream()  # the session's own
    late, asking = open_stream(), open_stream()
    late_daemon.until(lambda: late_daemon.streams == 2)
    late_daemon.second_begins.set()
    late_daemon.until(lambda: late_daemon.streams == 3)
    fault = pb.Fault(fault_id=7, region_id=1, first_page=0, page_count=1)
    asking.send(pb.StreamFaultsRequest(faults=[fault]).SerializeToString())
    stream, answer = first_answer(late, asking)
    assert stream is asking
    assert [outcome.fault_id for outcome in answer.outcomes] == [7]
