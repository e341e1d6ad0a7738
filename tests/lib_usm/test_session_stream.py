"""The session's own stream: what it gives back, and how its end is known."""

import grpc
import pytest

import lib_usm
from lib_usm.session_stream import SessionStream


class Call:
    """A gRPC call that ends when the test says so."""

    def __init__(self, code=grpc.StatusCode.OK, over=False):
        self.over = over
        self.cancelled = False
        self._code = code

    def add_callback(self, callback):
        self.end = callback
        return not self.over

    def code(self):
        return self._code

    def details(self):
        return "details"

    def trailing_metadata(self):
        return ()

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def region(client):
    return client.mmap(16)


def opened(call):
    kept = []
    stream = SessionStream(lambda requests: kept.append(requests) or call)
    return stream, kept[0]


def test_regions_given_back_meanwhile_go_in_one_message():
    stream, requests = opened(Call())
    for number in (3, 1, 2):
        stream.give_back(number)
    assert list(next(requests).unmapped_region_ids) == [3, 1, 2]
    stream.give_back(4)
    stream.hang_up()
    stream.give_back(5)
    assert [list(request.unmapped_region_ids) for request in requests] in ([[4]], [[4, 5]])
    stream.give_back(6)
    assert list(requests) == []


def test_the_end_is_known_with_its_cause():
    call = Call()
    stream, requests = opened(call)
    assert stream.end is None
    assert stream.why(0) is None
    call.end()
    assert isinstance(stream.end, lib_usm.ConnectionLost)
    assert stream.end is not stream.end
    assert stream.why(0) is None  # it ended well, which explains nothing
    assert list(requests) == []
    failed, _ = opened(Call(grpc.StatusCode.UNAVAILABLE, over=True))
    assert isinstance(failed.end, lib_usm.UsmError)
    assert type(failed.why(0)) is type(failed.end)


def test_a_closed_stream_keeps_no_call():
    call = Call()
    stream, _ = opened(call)
    stream.close()
    stream.close()
    assert call.cancelled
    assert isinstance(stream.end, lib_usm.ClosedError)
    assert stream.why(0) is None
    call.end()
    assert isinstance(stream.end, lib_usm.ClosedError)


def test_a_session_killed_while_nobody_reads_is_known_to_the_next_call(daemon, client, region, wire, poll):
    daemon.outbox.put(wire.rich_status(grpc.StatusCode.ABORTED, "SESSION_KILLED", "most memory of all"))
    poll(lambda: client._stream.end is not None)
    with pytest.raises(lib_usm.SessionKilled, match="most memory of all"):
        client.mmap(10)
