"""The memory connection against sockets that a test answers: refusals, nonsense, and nothing that leaks."""

import contextlib
import gc
import mmap
import os
import queue
import select
import socket
import threading

import pytest

import lib_usm
from lib_usm.address import SocketAddress
from lib_usm.memory import Memory
from tests.support.real_memory import require_real_memory
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2

PAGE = mmap.PAGESIZE
SECONDS = 60


def reason(name):
    return common_pb2.FailureReason.Value(f"FAILURE_REASON_{name}")


OK = pb.MemoryReply(message="ok").SerializeToString()


class Server:
    """Answers each packet with the next of `answers`: (bytes, descriptors), or None, which closes the connection."""

    def __init__(self, path):
        self.address = SocketAddress(f"unix:{path}")
        self.requests = []
        self.answers = queue.SimpleQueue()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(f"{path}.memory")
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answer(self, data=OK, descriptors=()):
        self.answers.put((data, descriptors))

    def close_instead(self):
        self.answers.put(None)

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    self._converse(connection)

    def _converse(self, connection):
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
            if not data:
                return
            self.requests.append((pb.MemoryRequest.FromString(data), [os.fstat(each) for each in descriptors]))
            for descriptor in descriptors:
                os.close(descriptor)
            answer = self.answers.get(timeout=SECONDS)
            if answer is None:
                return
            socket.send_fds(connection, [answer[0]], answer[1])

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


@pytest.fixture
def server(tmp_path):
    require_real_memory()
    gc.collect()  # what earlier tests left would go in between
    before = sorted(os.listdir("/proc/self/fd"))
    server = Server(tmp_path / "s")
    yield server
    server.stop()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with open("/proc/self/maps") as maps:
        assert "memfd:test-" not in maps.read()


@pytest.fixture
def memory(server):
    server.answer()
    memory = Memory(server.address, "the token")
    yield memory
    memory.close()


@contextlib.contextmanager
def region(pages=2):
    """The two descriptors of a region."""
    descriptors = [os.memfd_create("test-bytes"), os.memfd_create("test-residency")]
    os.ftruncate(descriptors[0], pages * PAGE)
    os.ftruncate(descriptors[1], 2 * pages)
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_attach_sends_the_token_and_the_userfaultfd(server, memory):
    ((request, descriptors),) = server.requests
    assert request.attach.session_token == "the token"
    assert [each.st_ino for each in descriptors] == [os.fstat(memory.userfaultfd).st_ino]
    assert memory.way in ("device", "syscall", "user-mode")


def test_close_may_be_called_again_and_closes_both(memory):
    descriptor = memory.userfaultfd
    memory.close()
    memory.close()
    assert memory.userfaultfd == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("INVALID_ARGUMENT", lib_usm.InvalidArgument),
        ("UNKNOWN_SESSION", lib_usm.UnknownSession),
        ("SESSION_KILLED", lib_usm.SessionKilled),
        ("NOT_FOUND", lib_usm.NotFound),
        ("LIMIT_EXCEEDED", lib_usm.LimitExceeded),
        ("DRAINING", lib_usm.Draining),
        ("INTERNAL", lib_usm.InternalError),
    ],
)
def test_a_refusal_is_the_error_that_it_stands_for_at_each_step(server, memory, name, error):
    refusal = pb.MemoryReply(reason=reason(name), message="because of this").SerializeToString()
    with region() as descriptors:
        server.answer(refusal)
        with pytest.raises(error, match=r"^because of this$") as caught:
            memory.map(5, 2 * PAGE, 2)
        assert type(caught.value) is error
        server.answer(descriptors=descriptors)
        server.answer(refusal)
        with pytest.raises(error, match=r"^because of this$"):
            memory.map(5, 2 * PAGE, 2)
        server.answer(refusal, descriptors)  # with descriptors that come all the same
        with pytest.raises(error):
            memory.map(5, 2 * PAGE, 2)
    memory.close()
    server.answer(refusal)
    with pytest.raises(error, match=r"^because of this$"):
        Memory(server.address, "token")


def test_a_reason_that_nobody_knows_is_an_internal_error(server, memory):
    server.answer(pb.MemoryReply(reason=4711, message="from the future").SerializeToString())
    with pytest.raises(lib_usm.InternalError, match="from the future"):
        memory.map(5, PAGE, 1)


def test_map_asks_for_a_region_and_tells_where_it_is(server, memory):
    with region() as descriptors:
        os.pwrite(descriptors[0], b"theirs", PAGE)
        server.answer(descriptors=descriptors)
        server.answer()
        mapping = memory.map(5, 2 * PAGE, 2)
    _, (asked, _), (told, _) = server.requests
    assert asked.region.region_id == 5
    assert (told.mapped.region_id, told.mapped.address) == (5, mapping.address)
    assert mapping.view[PAGE : PAGE + 6] == b"theirs"
    mapping.close("it")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_descriptors_is_a_lost_connection_and_none_is_kept(server, memory, count):
    with region() as descriptors:
        server.answer(descriptors=(descriptors * 2)[:count])
        with pytest.raises(lib_usm.ConnectionLost):
            memory.map(5, 2 * PAGE, 2)


@pytest.mark.parametrize("available", [True, False])
def test_attach_offers_to_take_pages_out_where_that_was_compiled(server, monkeypatch, available):
    monkeypatch.setattr("lib_usm.taking_out.available", available)
    server.answer()
    Memory(server.address, "token").close()
    ((request, _),) = server.requests
    assert request.attach.takes_pages_out is available


def test_a_socket_that_comes_with_the_answer_to_attach_is_for_that(server, monkeypatch):
    begun = []
    monkeypatch.setattr("lib_usm.taking_out.begin", begun.append)
    with region() as (descriptor, _):
        server.answer(descriptors=[descriptor])
        Memory(server.address, "token").close()
        ((came,), inode) = begun, os.fstat(descriptor).st_ino
        assert os.fstat(came).st_ino == inode
        os.close(came)


def test_descriptors_that_come_with_an_answer_that_has_none_are_closed(server):
    with region() as descriptors:
        server.answer(descriptors=descriptors)
        with pytest.raises(lib_usm.ConnectionLost):
            Memory(server.address, "token")


def test_more_descriptors_than_anybody_sends_are_closed(server, memory):
    with region() as descriptors:
        server.answer(descriptors=descriptors * 10)
        with pytest.raises(lib_usm.ConnectionLost):
            memory.map(5, 2 * PAGE, 2)


def test_an_answer_that_is_none_is_an_error_of_usm_and_its_descriptors_are_closed(server, memory):
    with region() as descriptors:
        server.answer(b"\xff\xff garbage", descriptors)
        with pytest.raises(lib_usm.UsmError):
            memory.map(5, 2 * PAGE, 2)


@pytest.mark.parametrize("step", ["attach", "region", "mapped"])
def test_a_server_that_goes_away_is_a_lost_connection(server, step):
    with region() as descriptors:
        if step != "attach":
            server.answer()
        if step == "mapped":
            server.answer(descriptors=descriptors)
        server.close_instead()
        memories = []

        def act():
            memories.append(Memory(server.address, "token"))
            memories[0].map(5, 2 * PAGE, 2)

        with pytest.raises(lib_usm.ConnectionLost, match="connect again"):
            act()
        for memory in memories:
            with pytest.raises(lib_usm.ConnectionLost):
                memory.map(5, 2 * PAGE, 2)
            memory.close()


def test_a_region_that_cannot_be_mapped_is_an_os_error_and_the_daemon_is_not_told(server, memory):
    reader, writer = os.pipe()
    server.answer(descriptors=[reader, writer])
    with pytest.raises((OSError, ValueError)):
        memory.map(5, 2 * PAGE, 2)
    os.close(reader)
    os.close(writer)
    assert [request.WhichOneof("request") for request, _ in server.requests] == ["attach", "region"]


@pytest.mark.parametrize("left", [True, False])
def test_a_socket_that_nobody_serves_is_a_daemon_that_is_not_there(tmp_path, left):
    require_real_memory()
    if left:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
            dead.bind(str(tmp_path / "s.memory"))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(lib_usm.DaemonUnavailable, match=r"s\.memory cannot be used"):
        Memory(SocketAddress(f"unix:{tmp_path}/s"), "token")
    assert os.listdir("/proc/self/fd") == before


def test_a_process_that_gets_no_userfaultfd_opens_nothing(monkeypatch, tmp_path):
    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("lib_usm.memory.open_userfaultfd", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(PermissionError):
        Memory(SocketAddress(f"unix:{tmp_path}/s"), "token")
    assert os.listdir("/proc/self/fd") == before


def test_a_daemon_at_which_many_are_waiting_to_be_let_in_is_waited_for(tmp_path):
    """As when a program starts hundreds of workers at once."""
    require_real_memory()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(str(tmp_path / "s.memory"))
        listener.listen(0)
        crowd = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        crowd.connect(str(tmp_path / "s.memory"))  # and the queue is full
        outcome = []

        def connect():
            try:
                outcome.append(Memory(SocketAddress(f"unix:{tmp_path}/s"), "token"))
            except lib_usm.UsmError as error:
                outcome.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(0.05)  # time for it to find the queue full; where it has not, it is let in all the same
        listener.settimeout(SECONDS)
        stack.enter_context(listener.accept()[0])
        if not outcome:
            served = stack.enter_context(listener.accept()[0])
            _, descriptors, _, _ = socket.recv_fds(served, 4096, 8)
            for descriptor in descriptors:
                os.close(descriptor)
            served.send(OK)
        thread.join(SECONDS)
        (memory,) = outcome
        assert isinstance(memory, Memory), memory
        memory.close()


def test_a_refusal_is_heard_that_came_and_closed_the_connection_before_the_request(tmp_path):
    require_real_memory()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "usmd.sock.memory"))
    listener.listen()
    refusal = pb.MemoryReply(reason=reason("LIMIT_EXCEEDED"), message="too many").SerializeToString()
    closed = threading.Event()

    def refuse():
        connection, _ = listener.accept()
        connection.send(refusal)
        connection.close()
        closed.set()

    class Late(Memory):
        def _ask(self, *arguments, **more):
            assert closed.wait(SECONDS)
            return super()._ask(*arguments, **more)

    with listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(lib_usm.LimitExceeded, match="too many"):
            Late(SocketAddress(f"unix:{tmp_path / 'usmd.sock'}"), "token")
        thread.join(SECONDS)


def test_a_refusal_is_heard_that_came_while_the_request_was_on_its_way(tmp_path):
    require_real_memory()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "usmd.sock.memory"))
    listener.listen()
    refusal = pb.MemoryReply(reason=reason("LIMIT_EXCEEDED"), message="too many").SerializeToString()

    def refuse():
        connection, _ = listener.accept()
        with connection:
            select.select([connection], [], [], SECONDS)  # the request lies there, and is not read
            connection.send(refusal)

    with listener:
        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(lib_usm.LimitExceeded, match="too many"):
            Memory(SocketAddress(f"unix:{tmp_path / 'usmd.sock'}"), "token")
        thread.join(SECONDS)


def test_a_stream_is_the_socket_that_came(server, memory):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server.answer(OK, [theirs.fileno()])
        with memory.open_stream() as stream:
            assert server.requests[-1][0].HasField("stream")
            ours.sendall(b"from the daemon")
            assert stream.recv(100) == b"from the daemon"


def test_a_stream_that_is_refused_is_the_error_that_it_stands_for(server, memory):
    server.answer(pb.MemoryReply(reason=reason("LIMIT_EXCEEDED"), message="too many").SerializeToString())
    with pytest.raises(lib_usm.LimitExceeded, match="too many"):
        memory.open_stream()
