"""Sessions that are begun on the memory socket: a client that speaks nothing else has all that it needs.

What holds of attached ones too is in test_memory_socket.
"""

import contextlib
import os
import socket

import pytest

from tests.support.daemon import running_daemon, wait_equal, wait_until
from tests.support.real_memory import require_real_memory
from tests.usmd.mechanism.mapped import map_memory, read, touch_by_system_call, unmap, write
from tests.usmd.server.raw_memory import PAGE, Peer, connect
from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usm_wire.userfaultfd import open_userfaultfd

FRAMES = 64
PAGES = 8
UNKNOWN_FIELD = b"\xa2\x06\x00"


@contextlib.contextmanager
def serving(folder, config=None):
    require_real_memory()
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:1MiB")
    with running_daemon(folder, *flags, mechanism="userfaultfd", config=config) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("usmd")) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def nothing_is_left(request):
    yield
    if "daemon" in request.fixturenames:
        daemon = request.getfixturevalue("daemon")
        wait_equal(lambda: daemon.admin.status().processes, 0, "all sessions have ended")
        wait_equal(lambda: daemon.admin.status().free_frames, FRAMES, "all frames are free")


class Plain:
    """A client that has no gRPC."""

    def __init__(self, daemon, name="plain"):
        self._undo = contextlib.ExitStack()
        self.connection = connect(daemon.address)
        self._undo.callback(self.connection.close)
        self.userfaultfd, _ = open_userfaultfd()
        self._undo.callback(os.close, self.userfaultfd)
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._undo.close()

    def ask(self, descriptors=(), **request):
        """The reply to a request, and the descriptors that came with it; closed with the client."""
        data = pb.MemoryRequest(**request).SerializeToString()
        socket.send_fds(self.connection, [data], list(descriptors))
        return self.hear()

    def hear(self):
        data, descriptors, _, _ = socket.recv_fds(self.connection, 65536, 8, socket.MSG_CMSG_CLOEXEC)
        for descriptor in descriptors:
            self._undo.callback(os.close, descriptor)
        return pb.MemoryReply.FromString(data) if data else None, descriptors

    def begin(self):
        reply, descriptors = self.ask([self.userfaultfd], begin=pb.MemoryBegin(name=self.name))
        assert descriptors == []
        return reply

    def map(self, pages, name=""):
        """Number and address of a region that is served."""
        reply, (memfd, _) = self.ask(map=pb.MapRegionRequest(length=pages * PAGE, name=name))
        assert (reply.region.page_count, reply.region.name) == (pages, name)
        address = map_memory(pages * PAGE, memfd)
        self._undo.callback(unmap, address, pages * PAGE)
        mapped = pb.MemoryMapped(region_id=reply.region.region_id, address=address)
        assert self.ask(mapped=mapped)[0].message == "ok"
        return reply.region.region_id, address

    def refused(self, **request):
        """(reason, message) of a request that must be refused."""
        reply, descriptors = self.ask(**request)
        assert descriptors == []
        assert reply.reason
        return common_pb2.FailureReason.Name(reply.reason).removeprefix("FAILURE_REASON_"), reply.message


@pytest.fixture
def plain(daemon):
    with Plain(daemon) as plain:
        yield plain


def test_a_client_without_grpc_has_memory_hints_and_swap_and_leaves_nothing(daemon, plain):
    begun = plain.begin().begun
    assert begun.page_size == PAGE
    [process] = daemon.admin.processes()
    assert (process.process_id, process.name, process.pid, process.uid) == (
        begun.process_id, "plain", os.getpid(), os.getuid(),
    )  # fmt: skip
    region, address = plain.map(PAGES, "data")
    for page in range(PAGES):
        write(address + page * PAGE, bytes([page + 1]) * PAGE).result()
    answer = plain.ask(hint=pb.HintRegionRequest(region_id=region, text="DONTNEED"))[0].hint
    assert (answer.first_page, answer.page_count) == (0, PAGES)
    assert plain.ask(hint=pb.HintRegionRequest(region_id=region, text=""))[0].reason == 0

    def swapped():
        plain.ask(hint=pb.HintRegionRequest(region_id=region, text="DONTNEED"))
        return daemon.admin.processes()[0].swapped_pages == PAGES

    wait_until(swapped, "all is in swap")
    for page in range(PAGES):
        assert read(address + page * PAGE, PAGE).result() == bytes([page + 1]) * PAGE
    assert plain.ask(hint=pb.HintRegionRequest(region_id=region, text="PRIORITY=HIGH"))[0].hint.hint_id > 0
    map_memory(PAGES * PAGE, at=address)  # which takes its place, so that nothing else comes there
    assert plain.ask(unmap=pb.UnmapRegionRequest(region_id=region))[0].message == "ok"
    assert daemon.admin.processes()[0].resident_pages == 0
    assert plain.map(1) != (region, address)


def test_a_discard_that_takes_several_events_leaves_no_reader_of_a_number_that_a_later_session_gets(daemon):
    """Descriptors of the daemon have the numbers of those that it has closed, so a reader that is left is theirs."""
    pages = 300
    for connections in range(6):
        with Plain(daemon) as plain:
            plain.begin()
            region, address = plain.map(pages)
            for page in range(pages):
                write(address + page * PAGE, b"x").result()
            assert plain.ask(discard=pb.MemoryDiscard(region_id=region, length=pages * PAGE))[0].message == "ok"
        wait_equal(lambda: daemon.admin.status().processes, 0, "the session has ended")
        with contextlib.ExitStack() as others:
            for _ in range(connections):  # which take a number each
                others.enter_context(connect(daemon.address))
            later = others.enter_context(Plain(daemon))
            later.begin()
            _, address = later.map(1)
            assert read(address, 1).result() == bytes(1)
        wait_equal(lambda: daemon.admin.status().processes, 0, "the later session has ended")


@pytest.mark.parametrize("rule", ['glob = "pl*"', f"uid = {os.getuid()}"])
def test_its_policies_are_chosen_by_its_name_and_user(tmp_path, rule):
    with serving(tmp_path, f'[[policy.rules]]\n{rule}\nevict = "fifo"\n') as daemon, Plain(daemon) as plain:
        plain.begin()
        assert daemon.admin.processes()[0].evict_policy == "fifo"


def test_a_client_may_choose_its_policies(daemon, plain):
    wanted = pb.MemoryBegin(name="x", alloc="first_fit", evict="s3_fifo(small=0.2)")
    plain.ask([plain.userfaultfd], begin=wanted)
    [process] = daemon.admin.processes()
    assert (process.alloc_policy, process.evict_policy) == (wanted.alloc, wanted.evict)


def test_a_client_learns_how_much_there_is_and_may_bound_its_memory(daemon, plain):
    reply, _ = plain.ask([plain.userfaultfd], begin=pb.MemoryBegin(name="x", memory_max=40 * PAGE))
    assert reply.begun.capacity_bytes == FRAMES * PAGE + (1 << 20)
    _, address = plain.map(2 * FRAMES)
    for page in range(2 * FRAMES):
        write(address + page * PAGE, b"x").result()
    assert daemon.admin.processes()[0].resident_pages <= 40


def test_a_bound_that_is_too_low_is_refused_by_name(plain):
    reply, _ = plain.ask([plain.userfaultfd], begin=pb.MemoryBegin(name="x", memory_max=31 * PAGE))
    assert reply.message == "a memory limit of 124 KiB; allowed are 32 pages (128 KiB) and more"
    assert plain.hear() == (None, [])


def test_bytes_that_are_given_up_are_zeros_and_take_no_frame_and_no_slot(daemon, plain):
    plain.begin()
    region, address = plain.map(2 * FRAMES)  # more than there is memory for, so some pages are in swap
    for page in range(2 * FRAMES):
        write(address + page * PAGE, bytes([page + 1]) * PAGE).result()
    assert daemon.admin.processes()[0].swapped_pages > 0
    discard = pb.MemoryDiscard(region_id=region, offset=PAGE, length=(2 * FRAMES - 2) * PAGE)
    assert plain.ask(discard=discard)[0].message == "ok"
    [process] = daemon.admin.processes()
    assert process.resident_pages + process.swapped_pages == 2
    for page, expected in ((0, 1), (1, 0), (FRAMES, 0), (2 * FRAMES - 2, 0), (2 * FRAMES - 1, 2 * FRAMES)):
        assert read(address + page * PAGE, PAGE).result() == bytes([expected]) * PAGE
    write(address + PAGE, b"again").result()
    assert read(address + PAGE, 5).result() == b"again"
    for offset, length in ((1, PAGE), (0, 1)):
        reason, message = plain.refused(discard=pb.MemoryDiscard(region_id=region, offset=offset, length=length))
        assert (reason, "allowed are whole pages of 4096 bytes" in message) == ("INVALID_ARGUMENT", True)
    assert plain.refused(discard=pb.MemoryDiscard(region_id=region, length=0))[0] == "OUT_OF_RANGE"
    assert plain.refused(discard=pb.MemoryDiscard(region_id=region + 1, length=PAGE))[0] == "NOT_FOUND"


@pytest.mark.parametrize("count", [0, 2])
def test_begin_comes_with_exactly_one_descriptor(plain, count):
    reply, _ = plain.ask([plain.userfaultfd] * count, begin=pb.MemoryBegin(name="x"))
    assert reply.message == f"{count} descriptors came with begin; exactly one is allowed"
    assert plain.hear() == (None, [])


def test_what_is_no_userfaultfd_begins_nothing(plain):
    reply, _ = plain.ask([plain.connection.fileno()], begin=pb.MemoryBegin(name="x"))
    assert reply.message == "the descriptor that came with begin is not a userfaultfd"
    assert plain.hear() == (None, [])


def test_a_name_that_is_invalid_is_refused_and_no_session_is_left(plain):
    plain.name = "x" * 65
    assert "64" in plain.begin().message
    assert plain.hear() == (None, [])


def test_a_session_is_begun_once(plain):
    assert plain.begin().begun.process_id
    assert plain.begin().message == "this connection has a userfaultfd already; there is one a session"
    assert plain.map(1)


def test_requests_that_cannot_be_done_are_refused_and_the_session_goes_on(plain):
    plain.begin()
    region, address = plain.map(1)
    assert plain.refused(map=pb.MapRegionRequest(length=0))[0] == "INVALID_ARGUMENT"
    assert plain.refused(unmap=pb.UnmapRegionRequest(region_id=region + 1))[0] == "NOT_FOUND"
    assert plain.refused(hint=pb.HintRegionRequest(region_id=region, text="NO=1"))[0] == "INVALID_HINT"
    assert plain.refused(hint=pb.HintRegionRequest(region_id=region, offset=PAGE, text="DONTNEED"))[0] == "OUT_OF_RANGE"
    socket.send_fds(plain.connection, [UNKNOWN_FIELD], [])
    assert "send one of attach, region, mapped, begin, map, unmap, hint, stream, discard" in plain.hear()[0].message
    write(address, b"x").result()


@pytest.mark.parametrize(
    "request_",
    [
        {"map": pb.MapRegionRequest(length=1)},
        {"unmap": pb.UnmapRegionRequest()},
        {"hint": pb.HintRegionRequest()},
        {"discard": pb.MemoryDiscard()},
    ],
)
def test_without_a_session_there_is_nothing_to_ask_for(plain, request_):
    assert plain.refused(**request_)[0] == "UNKNOWN_SESSION"
    assert plain.hear() == (None, [])


def test_users_and_sessions_have_the_same_limits_whichever_way_they_come(tmp_path):
    config = "[server]\nmax_user_sessions = 1\n"
    with serving(tmp_path, config) as daemon, Plain(daemon) as first, Plain(daemon) as second:
        first.begin()
        assert "max_user_sessions" in second.begin().message


def test_a_session_that_was_attached_may_map_and_hint_here_as_well(daemon):
    with Peer(daemon) as peer:
        request = pb.MemoryRequest(map=pb.MapRegionRequest(length=PAGE, name="here"))
        socket.send_fds(peer.connection, [request.SerializeToString()], [])
        data, descriptors, _, _ = socket.recv_fds(peer.connection, 65536, 8)
        for descriptor in descriptors:
            os.close(descriptor)
        assert len(descriptors) == 2
        assert [each.name for each in daemon.admin.regions(0)] == ["here"]
        assert pb.MemoryReply.FromString(data).region.page_count == 1


def test_the_end_of_the_daemon_is_told_and_what_is_missing_is_an_error(tmp_path):
    with serving(tmp_path) as daemon, Plain(daemon) as plain:
        plain.begin()
        _, address = plain.map(2)
        write(address, b"x").result()
        assert daemon.run_usmctl("drain", "--yes").returncode == 0
        reply, _ = plain.hear()
        assert common_pb2.FailureReason.Name(reply.reason) == "FAILURE_REASON_DRAINING"
        assert plain.hear() == (None, [])
        daemon.wait_exit()
        assert touch_by_system_call(address + PAGE) != 0


def test_replies_come_in_the_order_of_their_requests(plain):
    plain.begin()
    region, address = plain.map(PAGES)
    write(address, b"x").result()
    unmap_it = pb.MemoryRequest(unmap=pb.UnmapRegionRequest(region_id=region))
    for _ in range(2):
        socket.send_fds(plain.connection, [unmap_it.SerializeToString()], [])
    assert plain.hear()[0].message == "ok"
    assert plain.hear()[0].reason == common_pb2.FAILURE_REASON_NOT_FOUND
