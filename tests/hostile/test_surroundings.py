"""Machines that are too small or odd, and clients that keep all they may: bytes stay right, and others go on."""

import contextlib
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

import lib_usm
from tests.hostile.bounds import GROWTH
from tests.support.daemon import running_daemon, wait_equal, wait_until
from tests.support.forked import ForkedProcess, run_script
from tests.support.own_memory import at_most_grown
from tests.support.raw_client import RawClient
from tests.support.real_daemon import PAGE, Bystander, real_daemon, to_swap
from tests.support.real_memory import require_real_memory
from tests.support.told_client import told_clients
from tests.usmd.server.raw_memory import Peer, attach_packet, connect, mapped_packet
from usm_wire.pb.usm.v1 import client_pb2

PAGES = 64
LENGTH = 1 << 20
CONNECTIONS = 5000
CGROUPS = Path("/sys/fs/cgroup")


def use(address, length=LENGTH):
    """Store more than the memory holds, and read it."""
    data = os.urandom(length)
    with lib_usm.connect(address) as client, client.mmap(length) as region:
        region.write(0, data)
        assert region.read(0, length) == data


def attaches(address):
    """Whether the daemon takes one more client of this user."""
    try:
        lib_usm.connect(address).close()
    except lib_usm.LimitExceeded:
        return False
    return True


# Disks


def fill(path):
    """A file that takes all the room that its file system has."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(PAGE)):
            pass
    assert os.statvfs(path).f_bavail == 0


def test_a_swap_file_has_its_room_from_the_start_so_that_a_full_disk_costs_nothing(small_disk, tmp_path):
    require_real_memory()
    with (
        real_daemon(tmp_path, swap=f"file:{small_disk / 'swap'}:1MiB") as daemon,
        told_clients(daemon.address, "other", "app") as (other, client),
    ):
        fill(small_disk / "filler")
        bystander = Bystander(daemon, other)
        client.map("data", 2 * PAGES)
        with bystander.watching():
            client.do("fill", name="data", seed=1, first=0, pages=2 * PAGES)
            to_swap(daemon, client, "data", 0, 2 * PAGES)
            assert client.do("wrong", name="data", seed=1, first=0, pages=2 * PAGES) == []
        bystander.check()
        daemon.never("swap_error")
        daemon.never("swap_tried_again")


# Clocks


@pytest.mark.parametrize("change", ["set_back_and_forth", "leap"])
def test_clocks_that_jump_change_no_byte_and_end_no_session(tmp_path, change):
    flags = ("--memory", "64KiB", "--swap", "memory:4MiB")
    changes = (f"tests.support.odd_clock:{change}",)
    with (
        running_daemon(tmp_path, *flags, changes=changes) as daemon,
        at_most_grown(daemon, GROWTH["clocks"]),
        RawClient(daemon.address) as client,
    ):
        region = client.map(4 * PAGE)
        client.put(region, 0, b"kept")
        client.hint(region, "TTL=3600; EVICTION=DENY", 0, PAGE)
        use(daemon.address, 128 << 10)
        assert client.get(region, 0, 4) == b"kept"
        assert len(daemon.admin.processes()) == 1


def test_a_daemon_that_stood_still_goes_on_where_it_was(daemon):
    with told_clients(daemon.address, "app") as (client,):
        client.map("data", PAGES)
        daemon.signal(signal.SIGSTOP)
        filling = client.begin("fill", name="data", seed=1, first=0, pages=PAGES)
        wait_until(filling.waits_for_its_page, "a thread waits for the daemon")
        daemon.signal(signal.SIGCONT)
        filling.result()
        assert client.do("wrong", name="data", seed=1, first=0, pages=PAGES) == []


# Memory


@contextlib.contextmanager
def memory_cgroup():
    """A cgroup of ours: its folder, and the name of the file that has its limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder, limit = CGROUPS / "memory" / path.lstrip("/") / f"usmd-test-{os.getpid()}", "memory.limit_in_bytes"
            break
    else:
        folder, limit = CGROUPS / f"usmd-test-{os.getpid()}", "memory.max"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error.strerror}")
    try:
        if not (folder / limit).exists():
            pytest.skip("a cgroup has no limit of memory here")
        yield folder, limit
    finally:
        folder.rmdir()


def test_a_cgroup_that_is_too_small_ends_the_daemon_and_its_clients_are_told_so(tmp_path):
    """The kernel kills it; a client gets an error and no wrong byte, and the next daemon finds nothing in its way."""
    flags = ("--memory", "256KiB", "--swap", "memory:64MiB", "--swap", f"file:{tmp_path / 'swap'}:1MiB")
    with memory_cgroup() as (folder, limit):
        with running_daemon(tmp_path, *flags, exit_code=None) as daemon:
            # What it has is charged to where it was; from here on it gets 2 MiB, and swapped pages are in its memory.
            (folder / limit).write_text(str(2 << 20))
            (folder / "cgroup.procs").write_text(str(daemon.process.pid))
            with pytest.raises(lib_usm.ConnectionLost):
                use(daemon.address, 8 << 20)
            assert daemon.wait_exit() == -signal.SIGKILL
        with running_daemon(tmp_path, *flags) as daemon:
            use(daemon.address)


# What a client may keep


def test_pins_of_the_whole_budget_leave_the_others_the_rest_and_end_with_their_session(tmp_path):
    config = '[memory]\ndeny_budget = "75%"\ndeny_budget_total = "75%"\n'
    flags = ("--memory", "256KiB", "--swap", "memory:4MiB")
    with running_daemon(tmp_path, *flags, config=config) as daemon:
        with RawClient(daemon.address, "greedy") as greedy:
            region = greedy.map(64 * PAGE)
            for page in range(48):
                greedy.put(region, page, b"g%d" % page)
                greedy.call("PinRegion", client_pb2.PinRegionRequest(region_id=region, first_page=page, page_count=1))
            status = daemon.admin.status()
            assert (status.pinned_frames, status.frames) == (48, 64)
            greedy.put(region, 50, b"more")
            refused = greedy.refused(
                "PinRegion", client_pb2.PinRegionRequest(region_id=region, first_page=50, page_count=1)
            )
            assert refused[:2] == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
            use(daemon.address)
            assert [greedy.get(region, page, 3)[: len(b"g%d" % page)] for page in range(48)] == [
                b"g%d" % page for page in range(48)
            ]
        wait_equal(lambda: daemon.admin.status().pinned_frames, 0, "the pins end with their session")
        use(daemon.address)


def test_yields_that_nobody_waits_for_hold_up_nobody(tmp_path):
    flags = ("--memory", "256KiB", "--swap", "memory:4MiB", "--alloc", "async_aware")
    with running_daemon(tmp_path, *flags) as daemon:
        with RawClient(daemon.address, "careless") as careless:
            region = careless.map(256 * PAGE)
            for page in range(0, 256, 4):
                careless.put(region, page, b"c")
            for number in range(0, 10_000, 200):
                careless.stream().send(*((number + each, region, (number + each) % 256, 1) for each in range(200)))
            use(daemon.address)
        wait_equal(lambda: len(daemon.admin.processes()), 0, "its session ends")
        wait_until(lambda: daemon.admin.status().free_frames == 64, "its frames are free")


@pytest.fixture
def many_descriptors():
    """This process may open as many as it can be given; how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_memory_connections_of_a_stranger_leave_nothing(daemon, many_descriptors):
    with at_most_grown(daemon, GROWTH["connections"]), contextlib.ExitStack() as stack:
        for _ in range(min(CONNECTIONS, many_descriptors - 500)):
            stack.callback(connect(daemon.address).close)
        with pytest.raises(lib_usm.LimitExceeded, match="without a session to the memory socket"):
            use(daemon.address)  # it is the same user's
        stack.close()
        wait_until(lambda: attaches(daemon.address), "its connections are forgotten")
        use(daemon.address)


# Another process's userfaultfd

ACCOMPLICE = """
import array, ctypes, mmap, socket, sys
from usm_wire.userfaultfd import open_userfaultfd
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
descriptor, _ = open_userfaultfd()
socket.send_fds(peer, [b"u"], [descriptor])
_, (memfd,), _, _ = socket.recv_fds(peer, 1, 1)
address = libc.mmap(None, 16 * 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, memfd, 0)
peer.sendall(address.to_bytes(8, "little"))
peer.recv(1)
ctypes.memset(address, 7, 8 * 4096)
peer.sendall(b"d")
peer.recv(1)
"""


@pytest.mark.parametrize("dies", ["the accomplice", "the client"])
def test_a_userfaultfd_of_another_process_serves_that_one_at_most_and_harms_nobody(daemon, tmp_path, dies):
    script = tmp_path / "accomplice.py"
    script.write_text(ACCOMPLICE)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(tmp_path / "door"))
    door.listen()
    with Peer(daemon, "client", attach=False) as client, contextlib.closing(door):
        accomplice = ForkedProcess(run_script, str(script), [str(tmp_path / "door")], environ=dict(os.environ))
        peer, _ = door.accept()
        with contextlib.closing(peer):
            _, (theirs,), _, _ = socket.recv_fds(peer, 1, 1)
            assert client.ask(attach_packet(client.session.token), [theirs]).reason == ""
            os.close(theirs)
            region = client.session.map(16 * PAGE)
            memfd, _ = client.descriptors(region)
            socket.send_fds(peer, [b"m"], [memfd])
            address = int.from_bytes(peer.recv(8), "little")
            assert client.ask(mapped_packet(region, address)).reason == ""
            peer.sendall(b"t")
            assert peer.recv(1) == b"d"  # it was served
            assert client.session.get(region, 7, 4) == b"\7" * 4
            if dies == "the accomplice":
                accomplice.kill()
                accomplice.wait()
                client.session.evict(daemon, region, 0, 8)
                assert client.session.load(region, 0, 4).absent_pages
            client.close()
            wait_equal(lambda: [each.name for each in daemon.admin.processes()], ["other"], "the session ends")
        accomplice.kill()
        accomplice.wait()
        accomplice.stderr.close()
