"""Ends of sessions: killed clients, three hundred comings and goings, and what the oom policies do to whom."""

import os
import queue
import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

import lib_usm
from tests.support.clients import busy_clients
from tests.support.daemon import running_daemon, wait_equal, wait_until
from usm_wire.pb.usm.v1 import client_pb2, client_pb2_grpc

MIB = 1 << 20
SESSIONS = 120
SLACK = 8


def in_use(daemon):
    """Sessions, frames and slots in use."""
    status = daemon.admin.status()
    return status.processes, status.frames - status.free_frames, status.swap_slots - status.free_swap_slots


@pytest.mark.parametrize("chunk", [12_000, MIB], ids=["while_faulting", "in_large_writes"])
def test_a_killed_clients_frames_and_slots_come_back_at_once_and_others_keep_their_bytes(tmp_path, chunk):
    swap = f"file:{tmp_path / 'swap'}:16MiB"
    with running_daemon(tmp_path, "--memory", "2MiB", "--swap", swap) as daemon, lib_usm.connect(daemon.address) as own:
        region = own.mmap(MIB)
        data = os.urandom(MIB)
        region.write(0, data)
        with busy_clients(daemon.address, "a", "b", "c", length=2 * MIB, chunk=chunk) as clients:
            for client in clients:
                (victim,) = [each for each in daemon.admin.processes() if each.name == client.name]
                assert victim.pid == client.process.pid
                client.kill()
                wait_until(
                    lambda name=client.name: name not in [each.name for each in daemon.admin.processes()],
                    f"the session of {client.name} has ended",
                    5,
                )
                assert region[100_000:200_000] == data[100_000:200_000]
        wait_equal(lambda: in_use(daemon)[0], 1, "only our session is left")

        def only_ours():
            _, frames, slots = in_use(daemon)
            return frames <= MIB // 4096 and slots <= MIB // 4096

        wait_until(only_ours, "what the killed ones had is free")
        assert region.read(0, MIB) == data
        region.close()
        wait_equal(lambda: in_use(daemon), (1, 0, 0), "nothing is in use")


class RawSession:
    """A session by bare stubs that holds two frames. `vouched`: it has an identity connection as well."""

    def __init__(self, daemon, channel, *, vouched):
        self.stub = client_pb2_grpc.ClientServiceStub(channel)
        ticket = ""
        self.identity = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if vouched:
            self.identity.connect(daemon.address.removeprefix("unix:") + ".identity")
            with self.identity.makefile("r") as lines:
                ticket = lines.readline().strip()
        answer = self.stub.Attach(client_pb2.AttachRequest(name="passer-by", ticket=ticket))
        self.metadata = (("usm-session-token", answer.session_token),)
        region = self.stub.MapRegion(client_pb2.MapRegionRequest(length=8192), metadata=self.metadata)
        self.requests = queue.SimpleQueue()
        self.stream = self.stub.StreamFaults(iter(self.requests.get, None), metadata=self.metadata)
        fault = client_pb2.Fault(fault_id=1, region_id=region.region_id, page_count=2)
        self.requests.put(client_pb2.StreamFaultsRequest(faults=[fault]))
        (outcome,) = next(self.stream).outcomes
        assert outcome.HasField("allocated"), outcome

    def detach(self):
        self.stub.Detach(client_pb2.DetachRequest(), metadata=self.metadata)

    def forget(self):
        """Give back what is on this side."""
        self.requests.put(None)
        self.identity.close()


def test_a_hundred_and_twenty_sessions_leave_no_descriptor_frame_or_slot_behind(tmp_path):
    options = (("grpc.use_local_subchannel_pool", 1),)
    with running_daemon(tmp_path, "--memory", "1MiB", "--swap", "memory:2MiB") as daemon:

        def come_and_go(number):
            with grpc.insecure_channel(daemon.address, options=options) as channel:
                session = RawSession(daemon, channel, vouched=number % 4 < 2)
                if number % 2:
                    session.detach()
            session.forget()

        def descriptors():
            return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

        for number in range(8):
            come_and_go(number)
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "the first sessions have ended")
        # What the first connections opened for good is there; SLACK is for what is opened later.
        before = descriptors() + SLACK
        for number in range(SESSIONS):
            come_and_go(number)
        wait_equal(lambda: in_use(daemon), (0, 0, 0), "all sessions have ended")
        wait_until(lambda: descriptors() <= before, f"descriptors are back to {before}")
        wait_equal(lambda: len(daemon.events("process_detached")), SESSIONS + 8, "each end is in the log")


def test_kill_largest_ends_the_largest_process_with_a_reason_and_the_other_goes_on(tmp_path):
    flags = ("--memory", "1MiB", "--swap", "memory:256KiB", "--oom", "kill_largest")
    with (
        running_daemon(tmp_path, *flags) as daemon,
        lib_usm.connect(daemon.address, name="large") as large,
        lib_usm.connect(daemon.address, name="small") as small,
    ):
        with pytest.warns(UserWarning, match="this session maps"):
            most = large.mmap(2 * MIB)
        most.write(0, os.urandom(MIB))
        data = os.urandom(MIB // 2)
        region = small.mmap(MIB)
        region.write(0, data)
        for _ in range(2):
            with pytest.raises(lib_usm.SessionKilled, match=r"out of memory: it held \d+ of 256 frames"):
                most.read(0, 1)
        with pytest.raises(lib_usm.SessionKilled):
            large.mmap(4096)
        assert region.read(0, len(data)) == data
        region.write(len(data), data)
        assert region.read(0, MIB) == data + data
        assert [each.name for each in daemon.admin.processes()] == ["small"]
        killed = daemon.expect("process_killed", name="large")
        assert "out of memory" in killed["reason"]
        assert daemon.counters()["oom_kills"] == 1


def test_a_frozen_process_is_shown_and_waits_until_there_is_memory_and_another_goes_on(tmp_path):
    config = '[policy]\noom = "freeze(seconds=600)"\n[[policy.rules]]\nname = "large"\noom = "refuse"\n'
    data = os.urandom(MIB // 2)
    with (
        running_daemon(tmp_path, "--memory", "1MiB", "--swap", "memory:256KiB", config=config) as daemon,
        lib_usm.connect(daemon.address, name="small") as small,
        ThreadPoolExecutor(1) as threads,
    ):
        with lib_usm.connect(daemon.address, name="large") as large:
            with pytest.warns(UserWarning, match="this session maps"):
                most = large.mmap(2 * MIB)
            with pytest.raises(lib_usm.OutOfMemory):
                most.write(0, os.urandom(2 * MIB))
            region = small.mmap(MIB // 2)
            written = threads.submit(region.write, 0, data)
            (frozen,) = wait_until(
                lambda: [each for each in daemon.admin.processes() if each.frozen_faults], "a frozen process"
            )
            assert frozen.name == "small"
            assert daemon.usmctl("status")["frozen_processes"] == 1
            assert "FROZEN" in daemon.run_usmctl("processes").stdout
            assert len(most.read(0, MIB // 2)) == MIB // 2
            assert not written.done()
        written.result(90)
        assert region.read(0, len(data)) == data
        assert daemon.wait_for("process_frozen", name="small")["seconds"] == "600"
        assert daemon.wait_for("process_thawed", name="small")["refused"] == "0"
        assert daemon.counters()["oom_freezes"] > 0


def test_refuse_fails_the_fault_and_the_client_goes_on_with_what_it_has(tmp_path):
    flags = ("--memory", "1MiB", "--swap", "memory:256KiB", "--oom", "refuse")
    with running_daemon(tmp_path, *flags) as daemon, lib_usm.connect(daemon.address) as client:
        with pytest.warns(UserWarning, match="this session maps"):
            region = client.mmap(4 * MIB)
        held = MIB
        data = os.urandom(held)
        region.write(0, data)
        with pytest.raises(lib_usm.OutOfMemory, match="no frame for page"):
            region.write(held, os.urandom(3 * MIB))
        assert region.read(0, held) == data
        region.write(0, data[::-1])
        assert region.read(0, held) == data[::-1]
        assert daemon.counters()["oom_refusals"] > 0
        assert [each.name for each in daemon.admin.processes()] != []
        region.close()
        again = client.mmap(MIB)
        again.write(0, data)
        assert again.read(0, MIB) == data
