"""Clients that offer to take their own pages out: what they get for it, and what becomes of those that do not do it."""

import contextlib
import select
import socket

import pytest

from tests.support.daemon import running_daemon, wait_until
from tests.support.real_memory import require_sampling
from tests.usmd.mechanism.mapped import write
from tests.usmd.server.raw_memory import PAGE
from tests.usmd.server.test_memory_connection import Plain
from usm_wire.conventions import RANGE_TO_TAKE_OUT
from usm_wire.pb.usm.v1 import client_pb2 as pb

FRAMES = 256
PAGES = 512


@contextlib.contextmanager
def serving(folder, sampling="16"):
    require_sampling()
    flags = ("--memory", str(FRAMES * PAGE), "--swap", "memory:4MiB", "--evict", "lru", "--alloc", "first_fit")
    config = f"[memory]\nsampling = {sampling}\n"
    with running_daemon(folder, *flags, mechanism="userfaultfd", config=config) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("usmd")) as daemon:
        yield daemon


class Offering(Plain):
    """A client that offers it. `touches`: the socket that it got, or None."""

    def begin(self, **fields):
        offer = pb.MemoryBegin(name=self.name, **{"system_calls_fault": True, "takes_pages_out": True, **fields})
        socket.send_fds(self.connection, [pb.MemoryRequest(begin=offer).SerializeToString()], [self.userfaultfd])
        data, descriptors, _, _ = socket.recv_fds(self.connection, 65536, 8, socket.MSG_CMSG_CLOEXEC)
        assert pb.MemoryReply.FromString(data).HasField("begun")
        self.touches = None
        for descriptor in descriptors:
            assert self.touches is None
            self.touches = self._undo.enter_context(socket.socket(fileno=descriptor))

    def touch(self, address):
        """Touch every page, of which half are in memory."""
        for page in range(PAGES):
            write(address + page * PAGE, bytes([page % 251 + 1])).result()


@pytest.fixture
def plain(daemon):
    with Offering(daemon) as plain:
        yield plain
    wait_until(lambda: daemon.admin.status().processes == 0, "its session has ended")


def test_it_gets_a_socket_with_ranges_of_its_own_region_as_they_are_wanted(daemon, plain):
    plain.begin()
    assert daemon.admin.status().sampling == "client"
    _, address = plain.map(PAGES)
    plain.touch(address)
    ranges = list(RANGE_TO_TAKE_OUT.iter_unpack(plain.touches.recv(4096)))
    assert ranges
    assert all(address <= start and start + length <= address + PAGES * PAGE for start, length in ranges)
    assert all(start % PAGE == 0 == length % PAGE for start, length in ranges)


@pytest.mark.parametrize("fields", [{"takes_pages_out": False}, {"system_calls_fault": False}])
def test_one_that_does_not_offer_it_or_may_not_be_sampled_gets_none(plain, fields):
    plain.begin(**fields)
    assert plain.touches is None


def test_one_gets_none_where_touches_are_not_sampled(tmp_path):
    with serving(tmp_path, sampling='"off"') as daemon, Offering(daemon) as plain:
        plain.begin()
        assert plain.touches is None


def test_one_that_never_reads_is_served_and_costs_a_bounded_queue(daemon, plain):
    plain.begin()
    _, address = plain.map(PAGES)
    before = daemon.counters()["sampled"]
    for _ in range(3):
        plain.touch(address)
    asked = daemon.counters()["sampled"] - before
    came = 0
    while select.select([plain.touches], [], [], 0)[0]:
        came += sum(length for _, length in RANGE_TO_TAKE_OUT.iter_unpack(plain.touches.recv(4096))) // PAGE
    assert 0 < came < asked
    daemon.never("sampling_ended")
    daemon.validate()


@pytest.mark.parametrize("way", ["close", "shutdown"])
def test_one_that_closes_it_is_served_without_and_told_of(tmp_path, way):
    with serving(tmp_path) as daemon, Offering(daemon) as plain:
        plain.begin()
        _, address = plain.map(PAGES)
        if way == "close":
            plain.touches.close()
        else:
            plain.touches.shutdown(socket.SHUT_RDWR)
        plain.touch(address)
        assert "it has closed the socket" in daemon.expect("sampling_ended")["why"]
        assert "but not of 1 process: it takes no pages out any more" in daemon.admin.status().sampling
        plain.touch(address)


def test_one_that_sends_something_by_it_is_not_heard(plain):
    plain.begin()
    with pytest.raises(BrokenPipeError):
        socket.send_fds(plain.touches, [b"nonsense"], [plain.touches.fileno()])
    _, address = plain.map(PAGES)
    plain.touch(address)
    assert plain.touches.recv(4096)
