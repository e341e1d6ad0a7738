"""The network in user space: it forwards every byte in order, late by the delay, and it can be cut and healed."""

import socket
import subprocess
import threading

import pytest

from tests.support.waiting import wait_until
from tools.slow_link import SlowLink, _Way, slow_link


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.settimeout(60)
        yield found


@pytest.fixture
def link(listener):
    with SlowLink(listener.getsockname()) as found:
        yield found


@pytest.fixture
def connect(link, listener):
    """Connects a client and the server, at once."""
    opened = []

    def build():
        client = socket.create_connection(("127.0.0.1", link.port))
        server, _ = listener.accept()
        opened.extend((client, server))
        for each in (client, server):
            each.settimeout(60)
        return client, server

    yield build
    for each in opened:
        each.close()


def received(end, count):
    found = b""
    while len(found) < count and (part := end.recv(count - len(found))):
        found += part
    return found


def hears_nothing(end):
    end.setblocking(False)
    try:
        end.recv(1)
    except BlockingIOError:
        return True
    finally:
        end.settimeout(60)
    return False


def test_every_byte_arrives_in_order_both_ways_and_so_does_the_end(connect):
    client, server = connect()
    data = bytes(range(256)) * 70_000  # more than is held, and more than the kernel's buffers take
    for sender, receiver in ((client, server), (server, client)):
        sending = threading.Thread(target=sender.sendall, args=(data,))
        sending.start()
        assert received(receiver, len(data)) == data
        sending.join(60)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"answer")
    assert received(client, 6) == b"answer"
    server.close()
    assert client.recv(1) == b""


def test_bytes_are_due_after_the_delay():
    pairs = [socket.socketpair() for _ in range(2)]
    (sender, source), (target, receiver) = pairs
    for each in (source, target, receiver):
        each.setblocking(False)
    way = _Way(source, target, answers=False)
    sender.sendall(b"one")
    way.receive(10.0, 0.5)
    way.send(10.4)
    assert hears_nothing(receiver)
    way.send(10.5)
    assert receiver.recv(9) == b"one"
    for pair in pairs:
        for each in pair:
            each.close()


def test_a_delayed_link_to_a_unix_socket_forwards_too(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with (
            SlowLink(str(tmp_path / "socket"), 0.001) as link,
            socket.create_connection(("127.0.0.1", link.port)) as client,
            listener.accept()[0] as server,
        ):
            client.sendall(b"ping")
            assert received(server, 4) == b"ping"


def test_what_a_black_hole_holds_arrives_when_it_is_healed(link, connect, listener):
    client, server = connect()
    link.cut("hole")
    with socket.create_connection(("127.0.0.1", link.port)) as late, listener.accept()[0] as answering:
        for each in (client, late, server):
            each.sendall(b"sent meanwhile")
        assert hears_nothing(server)
        assert hears_nothing(client)
        link.heal()
        for each in (client, server, answering):
            each.settimeout(60)
            assert received(each, 14) == b"sent meanwhile"


def test_a_deaf_link_takes_requests_and_holds_the_answers(link, connect):
    client, server = connect()
    link.cut("deaf")
    client.sendall(b"request")
    assert received(server, 7) == b"request"
    server.sendall(b"answer")
    assert hears_nothing(client)
    link.heal()
    assert received(client, 6) == b"answer"


def test_a_cut_link_resets_connections_old_and_new(link, connect):
    client, server = connect()
    link.cut("reset")
    for each in (client, server):
        with pytest.raises(ConnectionResetError):
            each.recv(1)
    with socket.create_connection(("127.0.0.1", link.port)) as late:
        late.settimeout(60)
        with pytest.raises(ConnectionResetError):
            late.recv(1)
    link.heal()
    client, server = connect()
    client.sendall(b"again")
    assert received(server, 5) == b"again"


def test_a_forgotten_connection_is_over_for_the_server_and_goes_nowhere_for_the_client(link, connect):
    client, server = connect()
    link.forget()
    assert server.recv(1) == b""
    client.sendall(b"x" * 1000)
    client.sendall(b"x" * 1000)
    assert hears_nothing(client)
    other, served = connect()
    other.sendall(b"new")
    assert received(served, 3) == b"new"
    client.close()
    wait_until(lambda: len(link._connections) == 1, "it is given up")


def test_a_link_to_a_server_that_is_not_there_resets(tmp_path):
    with SlowLink(str(tmp_path / "none")) as link, socket.create_connection(("127.0.0.1", link.port)) as client:
        client.settimeout(60)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_link_may_be_a_process_of_its_own(listener):
    with (
        slow_link(listener.getsockname()[1], 0.0001) as port,
        socket.create_connection(("127.0.0.1", port)) as client,
        listener.accept()[0] as server,
    ):
        client.sendall(b"ping")
        assert received(server, 4) == b"ping"


def test_a_link_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(
        "tools.slow_link.start_python",
        lambda *_, **__: subprocess.Popen(["true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
    )
    with pytest.raises(RuntimeError, match="the link to port 7 did not start"), slow_link(7, 0.0):
        pass
