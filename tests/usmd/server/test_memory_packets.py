"""Packets of the memory socket and its peers."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from usm_wire.pb.usm.v1 import client_pb2 as pb
from usm_wire.pb.usm.v1 import common_pb2
from usmd.errors import InvalidArgument, NotFound
from usmd.server.memory_packets import MAX_MESSAGE, peer_pidfd, refuse, reply_of, request_of, send_kill


def test_a_refusal_has_its_reason_and_a_cause_of_bounded_length():
    reply = reply_of(NotFound("x" * 5000))
    assert reply.reason == common_pb2.FAILURE_REASON_NOT_FOUND
    assert reply.message == "x" * MAX_MESSAGE


def test_a_packet_is_a_request_or_invalid():
    assert request_of(pb.MemoryRequest(begin=pb.MemoryBegin(name="x")).SerializeToString()).begin.name == "x"
    with pytest.raises(InvalidArgument, match="not a valid MemoryRequest"):
        request_of(b"\xff")


def test_a_peer_that_is_one_too_many_hears_why_and_its_connection_is_closed():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        refuse(ours, "too many")
        assert ours.fileno() == -1
        assert pb.MemoryReply.FromString(theirs.recv(4096)).message == "too many"
        assert theirs.recv(4096) == b""


def test_a_peer_that_is_gone_is_refused_without_a_word():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    refuse(ours, "too many")
    assert ours.fileno() == -1


def test_a_pidfd_is_of_the_process_at_the_other_end_and_ends_it():
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        assert send_kill(pidfd)
        assert process.wait() == -signal.SIGKILL
        assert send_kill(pidfd), "it has ended"
        os.close(pidfd)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        mine = peer_pidfd(ours, os.getpid())
        with open(f"/proc/self/fdinfo/{mine}", encoding="ascii") as info:
            assert f"Pid:\t{os.getpid()}\n" in info.readlines()
        os.close(mine)


def test_a_kill_that_is_not_allowed_is_told(monkeypatch):
    def refuse_it(_pidfd, _number):
        raise PermissionError

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse_it)
    assert not send_kill(0)


def test_a_request_for_nothing_is_told_what_there_is():
    allowed = "attach, region, mapped, begin, map, unmap, hint, stream"
    with pytest.raises(InvalidArgument, match=f"asks for nothing; send one of {allowed}"):
        request_of(b"")
