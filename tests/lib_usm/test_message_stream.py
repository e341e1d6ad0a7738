"""The gRPC call without a thread, against gRPC's own server and against servers that speak nonsense."""

import queue
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import hpack
import pytest

import lib_usm
from lib_usm.message_stream import MessageStream
from tests.lib_usm.conftest import rich_status

METHOD = "/test.Service/Stream"


class Server:
    """A gRPC server whose one method is `handler(requests, context)`, on bytes."""

    def __init__(self, path, handler):
        self.path = str(path)
        self.metadata = None

        def stream(requests, context):
            self.metadata = dict(context.invocation_metadata())
            return handler(requests, context)

        method = grpc.stream_stream_rpc_method_handler(stream)
        self._server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Service", {"Stream": method}),)
        )
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def stop(self):
        self._server.stop(0).wait()


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(handler):
        servers.append(Server(tmp_path / "s.sock", handler))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def echo(requests, _context):
    yield from requests


def open_stream(server, metadata=()):
    return MessageStream(server.path, METHOD, tuple(metadata))


def wait(stream):
    ready = select.poll()
    ready.register(stream.fileno(), select.POLLIN | (select.POLLOUT if stream.wants_to_send else 0))
    assert ready.poll(10_000), "nothing came within 10 s"


def receive(stream, count):
    """The next `count` messages, or those before the end."""
    messages = []
    while len(messages) < count and stream.end is None:
        wait(stream)
        messages += stream.receive()
    return messages


def receive_once(stream):
    wait(stream)
    return stream.receive()


def end_of(stream):
    receive(stream, 1 << 30)
    return stream.end


def test_messages_there_and_back_in_order_with_the_metadata(serve):
    server = serve(echo)
    stream = open_stream(server, [("usm-session-token", "secret")])
    for number in range(100):
        stream.send(b"message %d" % number)
    assert receive(stream, 100) == [b"message %d" % number for number in range(100)]
    assert server.metadata["usm-session-token"] == "secret"
    stream.close()


def test_an_empty_message_is_one(serve):
    stream = open_stream(serve(echo))
    stream.send(b"")
    assert receive(stream, 1) == [b""]
    stream.close()


def test_large_messages_go_past_every_window(serve):
    stream = open_stream(serve(echo))
    content = [bytes([number]) * (3 << 20) for number in range(8)]
    for message in content:
        stream.send(message)
    assert receive(stream, len(content)) == content
    assert not stream.wants_to_send
    stream.close()


def test_what_a_server_does_not_read_waits_here_and_blocks_nobody(serve):
    go = threading.Event()

    def lazy(requests, _context):
        go.wait(90)
        yield from requests

    stream = open_stream(serve(lazy))
    content = [bytes([number]) * (1 << 20) for number in range(16)]
    for message in content:
        stream.send(message)
    go.set()
    assert receive(stream, len(content)) == content
    stream.close()


def test_receive_does_not_wait(serve):
    stream = open_stream(serve(echo))
    while not stream.receive():
        if stream.end is not None:
            raise AssertionError(stream.end)
        break
    assert stream.end is None
    stream.close()


def test_an_error_with_a_reason_is_typed(serve):
    def refuse(_requests, context):
        context.abort_with_status(
            rich_status(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_KILLED", "out of memory: 100 % of it")
        )
        yield b""

    end = end_of(open_stream(serve(refuse)))
    assert type(end) is lib_usm.SessionKilled
    assert str(end) == "out of memory: 100 % of it"


def test_an_error_without_a_reason_goes_by_its_code(serve):
    def refuse(_requests, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        yield b""

    end = end_of(open_stream(serve(refuse)))
    assert type(end) is lib_usm.UnknownSession
    assert "who are you" in str(end)


def test_messages_before_the_end_are_not_lost(serve):
    def three(_requests, _context):
        yield from [b"1", b"2", b"3"]

    stream = open_stream(serve(three))
    assert receive(stream, 4) == [b"1", b"2", b"3"]
    assert type(stream.end) is lib_usm.ConnectionLost
    assert "ended the fault stream" in str(stream.end)


def test_a_server_that_dies_is_noticed(serve):
    asked = queue.SimpleQueue()

    def hang(requests, _context):
        asked.put(next(requests))
        yield from requests

    server = serve(hang)
    stream = open_stream(server)
    stream.send(b"x")
    wait(stream)
    stream.receive()
    asked.get(timeout=90)
    server.stop()
    assert type(end_of(stream)) in (lib_usm.ConnectionLost, lib_usm.InternalError)
    assert stream.receive() == []
    stream.send(b"nobody hears")
    stream.close()
    assert stream.fileno() == -1


def test_a_method_that_does_not_exist(serve):
    stream = MessageStream(serve(echo).path, "/test.Service/Other", ())
    assert type(end_of(stream)) is lib_usm.InternalError


def test_close_cancels_the_call_at_the_server(serve):
    cancelled = threading.Event()

    def hang(requests, context):
        context.add_callback(cancelled.set)
        yield next(requests)
        cancelled.wait(90)

    stream = open_stream(serve(hang))
    stream.send(b"x")
    receive(stream, 1)
    stream.close()
    stream.close()
    assert cancelled.wait(90)
    assert type(stream.end) is lib_usm.ClosedError


def test_nobody_listens(tmp_path):
    with pytest.raises(lib_usm.DaemonUnavailable, match=r"missing\.sock cannot be used"):
        MessageStream(str(tmp_path / "missing.sock"), METHOD, ())


class Impostor:
    """Accepts one connection and answers with `answer`, then closes it."""

    def __init__(self, path, answer):
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer):
        connection, _ = self._listener.accept()
        with connection, self._listener:
            connection.recv(1 << 16)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass  # or closing would reset the connection, and the answer be lost

    def join(self):
        self._thread.join(90)


FRAME_SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def data_frame(content):
    return len(content).to_bytes(3, "big") + b"\0\0" + b"\0\0\0\1" + content


RST_STREAM = b"\0\0\4\3\0\0\0\0\1\0\0\0\2"
LARGEST_WINDOW = (1 << 31) - 1
GOAWAY = b"\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\2"


def trailers_frame(status):
    """Headers that end the call, as of a call that had no answer."""
    block = hpack.Encoder().encode([(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)])
    return len(block).to_bytes(3, "big") + b"\1\5" + b"\0\0\0\1" + block


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", lib_usm.ConnectionLost),  # which looks like a long frame
        (b"", lib_usm.ConnectionLost),
        (FRAME_SETTINGS, lib_usm.ConnectionLost),
        (FRAME_SETTINGS + data_frame(b"data before headers"), lib_usm.InternalError),
        (FRAME_SETTINGS + RST_STREAM, lib_usm.ConnectionLost),
        (FRAME_SETTINGS + GOAWAY, lib_usm.ConnectionLost),
        (FRAME_SETTINGS + GOAWAY + data_frame(b"and more"), lib_usm.InternalError),
        (FRAME_SETTINGS + GOAWAY + trailers_frame(b"1"), lib_usm.ConnectionLost),  # CANCELLED
        (FRAME_SETTINGS + GOAWAY + trailers_frame(b"8"), lib_usm.LimitExceeded),  # RESOURCE_EXHAUSTED
        (FRAME_SETTINGS + b"\0\0\4\7\0\0\0\0\0\0\0\0\0", lib_usm.InternalError),  # a GOAWAY that is cut
    ],
)
def test_nonsense_ends_the_stream_with_an_error(tmp_path, answer, kind):
    impostor = Impostor(tmp_path / "i.sock", answer)
    stream = MessageStream(impostor.path, METHOD, ())
    assert type(end_of(stream)) is kind
    impostor.join()


def window_update(stream_id, increment):
    return b"\0\0\4\x08\0" + stream_id.to_bytes(4, "big") + increment.to_bytes(4, "big")


def test_a_server_may_allow_as_much_again_as_was_sent_however_much_that_is(tmp_path):
    # 2 GiB and more in the life of a stream, of which a window holds no more at a time.
    content = bytes(1 << 20)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "l.sock"))
        listener.listen()
        stream = MessageStream(str(tmp_path / "l.sock"), METHOD, ())
        connection, _ = listener.accept()
    with connection:
        initial_window = b"\0\4" + LARGEST_WINDOW.to_bytes(4, "big")
        settings = len(initial_window).to_bytes(3, "big") + b"\4\0\0\0\0\0" + initial_window
        connection.sendall(settings + window_update(0, LARGEST_WINDOW - 65_535))
        assert receive_once(stream) == []
        stream.send(content)
        came = 0
        while came < len(content):
            came += len(connection.recv(1 << 20))
            stream.receive()
        connection.sendall(window_update(0, len(content)) + window_update(1, len(content)))
        assert receive_once(stream) == []
        assert stream.end is None
        connection.sendall(RST_STREAM)
        assert type(end_of(stream)) is lib_usm.ConnectionLost


@pytest.mark.parametrize("prefix", [b"\1\0\0\0\1x", b"\0\xff\0\0\0x"])
def test_a_compressed_or_endless_message_is_refused(tmp_path, prefix):
    headers = b"\x88"  # :status 200, by HPACK's table
    frame = len(headers).to_bytes(3, "big") + b"\1\4" + b"\0\0\0\1" + headers
    impostor = Impostor(tmp_path / "i.sock", FRAME_SETTINGS + frame + data_frame(prefix))
    stream = MessageStream(impostor.path, METHOD, ())
    end = end_of(stream)
    assert type(end) is lib_usm.InternalError
    assert f"of kind {prefix[0]} with" in str(end)
    assert "allowed are kind 0, and at most 16777216 bytes" in str(end)
    impostor.join()
