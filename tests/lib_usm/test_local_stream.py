"""The client's end of a local fault stream, against a daemon's end that sends what it likes."""

import socket

import pytest

import lib_usm
from lib_usm.local_stream import LocalStream
from usm_wire.local_stream import END, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2


@pytest.fixture
def ends():
    """The stream, and the daemon's end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    stream = LocalStream(ours)
    yield stream, theirs
    stream.close()
    theirs.close()


def framed(message, kind=MESSAGE):
    return PREFIX.pack(kind, len(message)) + message


def test_messages_go_there_and_come_back_in_order(ends):
    stream, daemon = ends
    stream.send(b"one")
    stream.send(b"")
    assert daemon.recv(100) == framed(b"one") + framed(b"")
    daemon.sendall(framed(b"two") + framed(b"") + framed(b"three"))
    assert stream.receive() == [b"two", b"", b"three"]
    assert stream.end is None


def test_what_the_daemon_does_not_read_waits_here_and_is_sent_when_it_does(ends):
    stream, daemon = ends
    message = bytes(range(256)) * 256
    count = 0
    while not stream.wants_to_send:
        stream.send(message)
        count += 1
    stream.send(b"last")
    expected = framed(message) * count + framed(b"last")
    got = b""
    while len(got) < len(expected):
        got += daemon.recv(1 << 20)
        stream.receive()
    assert got == expected
    assert not stream.wants_to_send


def test_the_daemons_reason_is_a_typed_error_after_the_messages_before_it(ends):
    stream, daemon = ends
    reply = pb.MemoryReply(reason=common_pb2.FAILURE_REASON_DRAINING, message="usmd drains")
    daemon.sendall(framed(b"before") + framed(reply.SerializeToString(), END) + framed(b"after"))
    assert stream.receive() == [b"before"]
    assert isinstance(stream.end, lib_usm.Draining)
    assert str(stream.end) == "usmd drains"
    assert stream.fileno() == -1
    assert stream.receive() == []
    stream.send(b"dropped")


def test_an_end_without_a_reason_is_a_lost_connection_after_its_last_messages(ends):
    stream, daemon = ends
    daemon.sendall(framed(b"before") + framed(b"cut off")[:-3])
    daemon.close()
    assert stream.receive() == [b"before"]
    stream.send(b"nobody hears it")
    assert stream.receive() == []
    assert isinstance(stream.end, lib_usm.ConnectionLost)


@pytest.mark.parametrize(
    "data",
    [framed(b"x", 2), PREFIX.pack(MESSAGE, 2**32 - 1), framed(b"\xff\xff", END)],
    ids=["kind", "length", "reason"],
)
def test_nonsense_ends_the_stream_with_an_error(ends, data):
    stream, daemon = ends
    daemon.sendall(data)
    assert stream.receive() == []
    assert isinstance(stream.end, lib_usm.InternalError)
