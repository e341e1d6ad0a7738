"""Pipelines: bulk strings that go from the socket to their buffers, however they are cut, and every other answer."""

import socket
from threading import Thread

import pytest
import redis

from usmd.swap.remote.exchange import Exchange, receive
from usmd.swap.remote.requests import PLACED


def buffers(*lengths):
    return [memoryview(bytearray(length)) for length in lengths]


@pytest.fixture
def ends():
    """Two sockets that are connected: ours, which waits for at most five seconds, and the server's."""
    ours, servers = socket.socketpair()
    ours.settimeout(5)
    with ours, servers:
        yield ours, servers


def bulk(data):
    return b"$%d\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("cut", range(1, 25))
def test_strings_fill_their_buffers_wherever_the_stream_is_cut(ends, cut):
    ours, servers = ends
    into = [buffers(3, 2), buffers(4)]
    stream = bulk(b"abcde") + bulk(b"fghi")

    class Cut:
        """Lets so many bytes through, then the rest."""

        def __init__(self):
            self.sizes = [cut, len(stream) - cut]

        def recvmsg_into(self, parts):
            servers.send(stream[:cut] if len(self.sizes) == 2 else stream[cut:])
            self.sizes.pop(0)
            return ours.recvmsg_into(parts)

    if cut >= len(stream):
        servers.send(stream)
        assert receive(ours, into)
    else:
        assert receive(Cut(), into)
    assert [bytes(each) for part in into for each in part] == [b"abc", b"de", b"fghi"]


@pytest.mark.parametrize(
    "stream",
    [
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"-ERR no\r\n",
        b"-MOVED 1 h:1\r\n",
        b"$50\r\n",
        b"*1\r\n",
        bulk(b"abcde") + b"$2\r\nab\r\n",
        bulk(b"abcde") + b"-ERR\r\n",
        b"$5\r\nabcdefgh",
    ],
)
def test_another_answer_is_seen_as_soon_as_it_is_there(ends, stream):
    ours, servers = ends
    servers.send(stream)
    assert not receive(ours, [buffers(5), buffers(4)])


def test_more_buffers_than_a_system_call_takes(ends):
    ours, servers = ends
    into = [buffers(1, 1) for _ in range(700)]
    stream = b"".join(bulk(b"%02d" % (number % 100)) for number in range(700))
    sender = Thread(target=servers.sendall, args=(stream,))
    sender.start()
    assert receive(ours, into)
    sender.join()
    assert b"".join(bytes(each) for part in into for each in part) == b"".join(b"%02d" % (n % 100) for n in range(700))


def test_an_end_of_the_connection_is_an_error(ends):
    ours, servers = ends
    servers.send(b"$5\r\nab")
    servers.close()
    with pytest.raises(redis.ConnectionError, match="closed"):
        receive(ours, [buffers(5)])


@pytest.fixture
def client(server):
    with redis.Redis(unix_socket_path=server.url.removeprefix("unix://"), protocol=2) as found:
        yield found


def exchanged(client, commands, into=()):
    exchange = Exchange(client, commands, into)
    try:
        exchange.send()
        return exchange.answers()
    finally:
        exchange.close()


def ranges(*keys):
    return [("GETRANGE", key, 0, 4) for key in keys]


def test_answers_that_fit_are_in_their_buffers_and_the_connection_is_used_again(client):
    client.mset({"one": "abcdef", "two": "ghijkl"})
    into = [buffers(2, 3), buffers(5)]
    for _ in range(2):
        assert exchanged(client, ranges("one", "two"), into) == [PLACED, PLACED]
    assert [bytes(each) for part in into for each in part] == [b"ab", b"cde", b"ghijk"]
    assert client.info("clients")["connected_clients"] >= 1
    (connection,) = client.connection_pool._available_connections
    assert not connection.can_read()


def test_answers_that_do_not_fit_come_as_the_library_reads_them(client):
    client.mset({"one": "abcdef", "short": "ab"})
    client.rpush("list", "x")
    answers = exchanged(client, ranges("one", "short", "none", "list"), [buffers(5) for _ in range(4)])
    assert answers[:3] == [b"abcde", b"ab", b""]
    assert isinstance(answers[3], redis.ResponseError)
    assert exchanged(client, ranges("one"), [buffers(5)]) == [PLACED]


def test_without_buffers_answers_are_those_of_the_library(client):
    answers = exchanged(client, [("SET", "one", "abc"), ("HLEN", "one"), ("PEXPIRE", "one", 100_000)])
    assert (answers[0], type(answers[1]), answers[2]) == (True, redis.ResponseError, True)


def test_an_exchange_that_is_closed_before_its_answers_leaves_none_to_the_next(client):
    client.mset({"one": "abcde", "two": "ghijk"})
    exchange = Exchange(client, ranges("one"))
    exchange.send()
    exchange.close()
    assert exchanged(client, ranges("two")) == [b"ghijk"]


def test_time_that_is_over_is_over_for_an_answer_that_is_not_there(server, client):
    exchange = Exchange(client, [("BLPOP", "nothing", 5)])
    exchange.send()
    try:
        with pytest.raises(redis.TimeoutError):
            exchange.answers(patient=False)
    finally:
        exchange.close()
