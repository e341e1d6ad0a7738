"""What all streams of messages do, seen on the plainest one; what each does alone is in its own test file."""

import socket

import pytest

import lib_usm
from lib_usm.polled_stream import PolledStream
from usm_wire.local_stream import MESSAGE, PREFIX

FAREWELL = 7


class Plain(PolledStream):
    """Sends what it is given, without a prefix; a message of the kind FAREWELL is the daemon's last."""

    last = {FAREWELL: lambda content: lib_usm.Draining(content.decode())}  # noqa: RUF012

    def __init__(self, connection):
        super().__init__(connection)
        self._unsent = bytearray()

    def send(self, message):
        self._unsent += message
        self._push()

    def _take(self, data):
        self._incoming += data

    def _send_unsent(self):
        while self._unsent:
            del self._unsent[: self._socket.send(self._unsent)]

    def _why_closed(self):
        return lib_usm.ConnectionLost("it has closed")


@pytest.fixture
def ends():
    """The stream, and the daemon's end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    stream = Plain(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def framed(message, kind=MESSAGE):
    return PREFIX.pack(kind, len(message)) + message


def test_a_message_that_comes_in_pieces_is_one(ends):
    stream, daemon = ends
    data = framed(b"whole") + framed(b"next")
    for at in range(len(data)):
        daemon.sendall(data[at : at + 1])
        expected = {len(framed(b"whole")) - 1: [b"whole"], len(data) - 1: [b"next"]}
        assert stream.receive() == expected.get(at, [])


def test_receive_does_not_wait_and_sends_what_waits_for_room(ends):
    stream, daemon = ends
    assert stream.receive() == []
    sent = 0
    while not stream.wants_to_send:
        stream.send(bytes(1 << 16))
        sent += 1 << 16
    while sent:
        sent -= len(daemon.recv(sent))
        assert stream.receive() == []
    assert not stream.wants_to_send


def test_the_daemons_last_message_ends_the_stream_after_those_before_it(ends):
    stream, daemon = ends
    daemon.sendall(framed(b"before") + framed(b"bye", FAREWELL) + framed(b"after"))
    assert stream.receive() == [b"before"]
    assert (type(stream.end), str(stream.end)) == (lib_usm.Draining, "bye")
    assert stream.fileno() == -1
    assert stream.receive() == []


@pytest.mark.parametrize(("kind", "length"), [(1, 3), (255, 0), (MESSAGE, (16 << 20) + 1), (FAREWELL, 2**32 - 1)])
def test_a_message_that_is_not_allowed_ends_the_stream_with_an_error_that_says_what_is(ends, kind, length):
    stream, daemon = ends
    daemon.sendall(framed(b"before") + PREFIX.pack(kind, length))
    assert stream.receive() == [b"before"]
    assert type(stream.end) is lib_usm.InternalError
    assert f"of kind {kind} with {length} bytes; allowed are kind 0 or 7, and at most 16777216 bytes" in str(stream.end)


def test_messages_are_read_from_a_connection_that_is_closed_for_writing_already(ends):
    stream, daemon = ends
    daemon.sendall(framed(b"last words"))
    daemon.close()
    stream.send(b"nobody hears it")
    assert not stream.wants_to_send
    assert stream.end is None
    assert stream.receive() == [b"last words"]
    assert stream.receive() == []
    assert str(stream.end) == "it has closed"


def test_a_connection_that_breaks_is_a_typed_error(ends):
    stream, daemon = ends
    stream.send(b"this is not read")
    daemon.close()
    assert stream.receive() == []
    assert type(stream.end) is lib_usm.ConnectionLost
    assert "broke: Connection reset by peer; connect again" in str(stream.end)


def test_close_ends_it_once_and_the_daemon_sees_it(ends):
    stream, daemon = ends
    stream.close(lib_usm.InvalidArgument("first"))
    stream.close()
    assert str(stream.end) == "first"
    assert daemon.recv(1) == b""


def test_a_stream_that_is_dropped_is_closed():
    ours, theirs = socket.socketpair()
    stream = Plain(ours)
    del stream
    with theirs:
        assert theirs.recv(1) == b""
