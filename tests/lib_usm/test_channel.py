"""The channel: attach, the token on every call, and a daemon that is not there."""

import socket

import grpc
import pytest

import lib_usm
from lib_usm import channel
from lib_usm.address import SocketAddress
from lib_usm.channel import SessionChannel
from usm_wire.pb.usm.v1 import client_pb2


def test_every_call_after_attach_carries_the_session_token(daemon):
    with lib_usm.connect(daemon.address) as client:
        assert "usm-session-token" not in daemon.metadata
        client.mmap(10)
        assert daemon.metadata["usm-session-token"] == "secret"
        region = client.mmap(10)
        client.fault(region, 0, 1)
        assert daemon.requests("StreamFaults")
        assert daemon.metadata["usm-session-token"] == "secret"


def test_no_daemon_is_told_at_once_with_address_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "_ATTACH_TIMEOUT_SECONDS", 10_000)  # what waits for it does not end
    with pytest.raises(lib_usm.DaemonUnavailable, match=r"no daemon answers at unix:.*/none\.sock.*usmd serve"):
        lib_usm.connect(f"unix:{tmp_path}/none.sock")


def test_a_daemon_that_accepts_but_never_answers_is_unavailable_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(channel, "_ATTACH_TIMEOUT_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(lib_usm.DaemonUnavailable, match=r"not usmd, or too busy to answer within 0\.2 s"):
            lib_usm.connect(f"unix:{tmp_path}/s")


def test_a_draining_daemon_refuses_with_its_text(daemon, wire):
    daemon.refusals["Attach"] = wire.rich_status(grpc.StatusCode.UNAVAILABLE, "DRAINING", "no new sessions")
    with pytest.raises(lib_usm.Draining, match="no new sessions"):
        lib_usm.connect(daemon.address)


def test_a_session_with_a_limit_of_zero_is_refused(daemon):
    daemon.limits["max_transfer_bytes"] = 0
    with pytest.raises(lib_usm.InternalError, match="limit of 0"):
        lib_usm.connect(daemon.address)


def test_a_call_on_a_closed_channel_is_told_so(daemon):
    channel = SessionChannel(SocketAddress(daemon.address))
    channel.close()
    with pytest.raises(lib_usm.ClosedError, match=daemon.address):
        channel.call(channel.stub.Detach, client_pb2.DetachRequest())


def test_a_killed_session_says_why_in_the_first_call_and_all_later_ones_without_asking(daemon, client, wire):
    region = client.mmap(64)
    daemon.refusals["HintRegion"] = wire.rich_status(
        grpc.StatusCode.ABORTED, "SESSION_KILLED", "killed by kill_largest"
    )
    with pytest.raises(lib_usm.SessionKilled, match="killed by kill_largest"):
        region.hint("PRIORITY=LOW")
    calls = len(daemon.calls)
    for use in (lambda: client.mmap(1), lambda: region.read(0, 1), lambda: client.fault(region, 0, 1)):
        with pytest.raises(lib_usm.SessionKilled, match="killed by kill_largest"):
            use()
    region.close()
    assert len(daemon.calls) == calls
