"""The daemon's life: what it refuses at the start, its sockets, health and reflection, drain, and what it leaves."""

import contextlib
import os
import resource
import socket
import stat

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.daemon import USMD, run_usmd, running_daemon, wait_until
from tests.support.raw_client import RawClient, admin_stub, cause, open_channel, refused
from usm_wire.pb.usm.v1 import admin_pb2, client_pb2, client_pb2_grpc

PAGE = 4096
SMALL = ("--memory", "64KiB", "--swap", "memory:64KiB")
MUTE_FAULTS = 200
SERVICES = {"usm.v1.ClientService", "usm.v1.AdminService"}


# Before it serves


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--alloc", "flexible_huge_pages(pages=0)"), "flexible_huge_pages(pages=0, budget=1.0)"),
        (("--evict", "nothing"), "evict policy 'nothing' does not exist; there are arc, belady, clock"),
        (
            ("--memory", "200TiB", "--page-size", "1MiB", "--mechanism", "simulated"),
            "memory.size = 200 TiB cannot be allocated on this machine",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line_exit_code_2_and_leaves_nothing(tmp_path, flags, said):
    places = ("--socket", f"{tmp_path}/s", "--admin-socket", f"{tmp_path}/a", "--swap", f"file:{tmp_path}/swap:1MiB")
    done = run_usmd("serve", *places, *flags)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


# While it serves


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A daemon with odd modes, short timeouts, and a low limit of descriptors to start with."""
    text = """
        [server]
        socket_mode = "0622"
        admin_socket_mode = "0640"
        max_sessions = 3
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        # A fork would have the limits of the process that forks.
        started = running_daemon(tmp_path_factory.mktemp("served"), *SMALL, config=text, program=USMD)
        running = started.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield running
    started.__exit__(None, None, None)
    running.never("defect")
    assert running.stray == []  # waits: it has ended


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A daemon that soon ends what attaches and then is silent."""
    text = "[server]\nattach_timeout = 0.3\n"
    with running_daemon(tmp_path_factory.mktemp("hasty"), *SMALL, config=text) as running:
        yield running
        running.never("defect")


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def ticket_from(daemon):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(90)
    connection.connect(daemon.address.removeprefix("unix:") + ".identity")
    return connection, connection.recv(100).decode().strip()


def test_the_sockets_have_the_modes_of_the_configuration(served):
    def mode(path):
        return stat.S_IMODE(os.stat(path.removeprefix("unix:")).st_mode)

    modes = [mode(path) for path in (served.address, served.address + ".identity", served.admin_address)]
    assert modes == [0o622, 0o622, 0o640]


def test_it_allows_itself_the_descriptors_that_its_sessions_need(served):
    with open(f"/proc/{served.process.pid}/limits") as limits:
        line = next(line for line in limits if line.startswith("Max open files"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(line.split()[3]) >= min(4096 + 2 * 3, hard)


@pytest.mark.parametrize(("service", "place"), [("ClientService", "address"), ("AdminService", "admin_address")])
def test_each_socket_serves_its_service_health_and_reflection_and_not_the_other_service(served, service, place):
    channel = open_channel(getattr(served, place))
    check = health_pb2_grpc.HealthStub(channel).Check
    for name in ("", f"usm.v1.{service}"):
        status = check(health_pb2.HealthCheckRequest(service=name), timeout=90).status
        assert status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]), timeout=90))
    names = {each.name for each in answer.list_services_response.service}
    assert names & SERVICES == {f"usm.v1.{service}"}
    assert "grpc.health.v1.Health" in names
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"usm.v1.{service}")
    answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]), timeout=90))
    assert answer.file_descriptor_response.file_descriptor_proto
    (foreign,) = SERVICES - {f"usm.v1.{service}"}
    for method in ("Attach", "GetStatus", "Drain"):
        assert refused(channel.unary_unary(f"/{foreign}/{method}"), b"", timeout=90)[0] == "UNIMPLEMENTED"
    channel.close()


def with_a_stream(daemon, name):
    """A session whose stream was opened in time; where the machine was slow it is tried again."""

    def attached():
        session = RawClient(daemon.address, name)
        try:
            session.put(session.map(PAGE), 0, b"x")
        except grpc.RpcError as error:
            session.close()
            if cause(error)[1] != "UNKNOWN_SESSION":
                raise
            return None
        return session

    return wait_until(attached, "a stream is opened in time")


def test_a_session_without_a_stream_is_ended_and_one_with_a_stream_is_not(hasty):
    with with_a_stream(hasty, "busy") as busy, RawClient(hasty.address, "idle") as idle:
        hasty.wait_for("process_detached", process_id=idle.attached.process_id)
        assert idle.refused("MapRegion", client_pb2.MapRegionRequest(length=1))[:2] == (
            "UNAUTHENTICATED",
            "UNKNOWN_SESSION",
        )
        busy.map(PAGE)


def test_there_are_no_more_sessions_than_configured(served):
    wait_until(lambda: served.admin.status().processes == 0, "the end of earlier sessions")
    sessions = [RawClient(served.address, f"app{number}") for number in range(3)]
    stub = client_pb2_grpc.ClientServiceStub(sessions[0].channel)
    answer = refused(stub.Attach, client_pb2.AttachRequest(name="one too many"), timeout=90)
    assert answer[:2] == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    sessions[0].call("Detach", client_pb2.DetachRequest())
    sessions.append(RawClient(served.address, "now"))
    for session in sessions[1:]:
        session.call("Detach", client_pb2.DetachRequest())
    for session in sessions:
        session.close()


def test_a_ticket_vouches_for_one_attach_and_its_connections_end_ends_the_session(served):
    wait_until(lambda: served.admin.status().processes == 0, "the end of earlier sessions")
    connection, ticket = ticket_from(served)
    with RawClient(served.address, "vouched", ticket) as session:
        stream = session.stream()
        assert stream.fault(session.map(PAGE), 0).HasField("allocated")
        channel = open_channel(served.admin_address)
        processes = admin_stub(channel).ListProcesses(admin_pb2.ListProcessesRequest(), timeout=90).processes
        channel.close()
        (process,) = [each for each in processes if each.name == "vouched"]
        assert (process.pid, process.uid) == (os.getpid(), os.getuid())
        for again in (ticket, "forged", "\U0001f600" * 1000):
            answer = refused(session.stub.Attach, client_pb2.AttachRequest(name="thief", ticket=again), timeout=90)
            assert answer[:2] == ("UNAUTHENTICATED", "UNKNOWN_SESSION")
        connection.send(b"\xff garbage \x00" * 1000)
        assert session.refused("Load", client_pb2.LoadRequest(region_id=99, length=1))[0] == "NOT_FOUND"
        connection.close()
        served.wait_for("process_detached", name="vouched", reason="its client is gone")
        assert stream.ends_with()[0] == "OK"


def test_connections_that_never_attach_are_closed_and_no_descriptor_is_left(hasty):
    wait_until(lambda: hasty.admin.status().processes == 0, "the end of earlier sessions")
    before = descriptors(hasty)
    silent = [ticket_from(hasty)[0] for _ in range(20)]
    for connection in silent:
        assert connection.recv(1) == b""  # after the timeout
        connection.close()
    for _ in range(20):
        ticket_from(hasty)[0].close()
        with RawClient(hasty.address) as session, contextlib.suppress(grpc.RpcError):  # it may be ended by then
            session.call("Detach", client_pb2.DetachRequest())
    wait_until(lambda: descriptors(hasty) <= before, "the descriptors of before")


# Its end


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["usmd.toml"])


def with_swap_file(folder):
    return ("--memory", "64KiB", "--swap", f"file:{folder}/swap:128KiB")


def test_drain_ends_sessions_with_the_cause_refuses_new_ones_and_leaves_nothing(folder):
    with running_daemon(folder, *with_swap_file(folder), exit_code=None) as daemon:
        assert (folder / "swap").exists()
        assert (folder / "usmd.sock.lock").exists()
        sessions = [RawClient(daemon.address, name) for name in ("one", "two")]
        for session in sessions:
            session.put(session.map(PAGE), 0, b"x")
        channel, other = open_channel(daemon.admin_address), open_channel(daemon.address)
        watching = admin_stub(channel).WatchEvents(admin_pb2.WatchEventsRequest(), timeout=90)
        watching.initial_metadata()
        health = health_pb2_grpc.HealthStub(other).Watch(
            health_pb2.HealthCheckRequest(service="usm.v1.ClientService"), timeout=90
        )
        states = [next(health).status]
        # The health watcher does not leave by itself: the daemon waits for it, and sessions get their cause meanwhile.
        answer = admin_stub(channel).Drain(admin_pb2.DrainRequest(grace_seconds=600), timeout=90)
        assert answer.sessions == 2
        states.append(next(health).status)
        assert states == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
        for session in sessions:
            assert session.stream().ends_with()[:2] == ("UNAVAILABLE", "DRAINING")
            status = session.refused("MapRegion", client_pb2.MapRegionRequest(length=1))[0]
            assert status in ("UNAVAILABLE", "CANCELLED")  # gRPC cancels a call that crosses the end of the server
        attach = client_pb2_grpc.ClientServiceStub(other).Attach
        assert refused(attach, client_pb2.AttachRequest(name="late"), timeout=90)[0] in ("UNAVAILABLE", "CANCELLED")
        health.cancel()
        assert {event.kind for event in watching} == {"process_detached"}
        assert daemon.wait_exit() == 0
        for session in sessions:
            session.close()
        channel.close()
        other.close()
    assert {line["event"] for line in daemon.read_log() if line["level"] != "info"} <= {"attach_refused"}
    assert daemon.stray == []  # waits: it has ended
    assert daemon.read_log()[-1]["event"] == "stopped"


def test_a_client_that_does_not_read_cannot_hold_up_the_end_beyond_the_grace(folder):
    with running_daemon(folder, *SMALL, "--log-format", "json", config="[server]\ndrain_grace = 0.3\n") as daemon:
        mute = RawClient(daemon.address, "mute")
        region = mute.map(16 * PAGE)
        stream = mute.stream()
        for _ in range(MUTE_FAULTS):
            stream.send(*[(number, region, number % 16, 1) for number in range(4096)])
        wait_until(lambda: daemon.counters()["faults"] > 4096, "faults of the mute client")
        daemon.process.terminate()
        assert daemon.wait_exit() == 0  # what waits for the client does not end
        mute.close()
    daemon.never("defect")
    assert daemon.stray == []  # waits: it has ended


def test_a_second_daemon_on_the_socket_is_refused_and_the_first_goes_on(folder):
    with running_daemon(folder, *SMALL) as daemon:
        places = ("--socket", daemon.address, "--admin-socket", f"{folder}/other.sock")
        done = run_usmd("serve", *SMALL, *places)
        assert done.returncode == 3
        assert f"pid {daemon.process.pid}" in done.stderr
        with RawClient(daemon.address) as session:
            region = session.map(PAGE)
            session.put(region, 0, b"here")
            assert session.get(region, 0, 4) == b"here"
