"""The memory socket and those that attach to it: with what, for which session, and how often."""

import os
import socket

import pytest

from tests.support.forked import ForkedProcess
from tests.support.raw_client import RawClient
from tests.usmd.server.memory_peers import daemon, peer, refused, stranger, unharmed, used_userfaultfd
from tests.usmd.server.raw_memory import (
    PAGE,
    attach_packet,
    connect,
    live_until_killed,
    receive,
    region_packet,
    send,
)
from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.userfaultfd import open_userfaultfd
from usmd.server.memory_packets import MAX_DESCRIPTORS

__all__ = ["daemon", "peer", "stranger", "unharmed"]


# Attach


@pytest.mark.parametrize("count", [0, 2, MAX_DESCRIPTORS, MAX_DESCRIPTORS + 2, 250])
def test_attach_comes_with_exactly_one_descriptor(stranger, count):
    reason, message = refused(stranger, attach_packet(stranger.session.token), [stranger.userfaultfd] * count)
    assert reason == "INVALID_ARGUMENT"
    assert (f"{count} descriptors came" if count <= MAX_DESCRIPTORS else "more than") in message
    assert receive(stranger.connection) is None


def pipe():
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def memfd():
    descriptor = os.memfd_create("anon_inode:[userfaultfd]")
    os.ftruncate(descriptor, PAGE)
    return descriptor


def misnamed(folder):
    path = folder / "anon_inode:[userfaultfd]"
    path.write_bytes(bytes(PAGE))
    return os.open(path, os.O_RDWR)


WRONG = {
    "a pipe": lambda _: pipe(),
    "a memfd": lambda _: memfd(),
    "a regular file": misnamed,
    "a folder": lambda folder: os.open(folder, os.O_RDONLY),
    "a socket": lambda _: socket.socket(socket.AF_UNIX).detach(),
    "its own process": lambda _: os.pidfd_open(os.getpid()),
    "a path alone": lambda folder: os.open(folder, os.O_PATH),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_no_userfaultfd_is_refused(stranger, tmp_path, make):
    descriptor = make(tmp_path)
    try:
        reason, message = refused(stranger, attach_packet(stranger.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "is not a userfaultfd" in message) == ("INVALID_ARGUMENT", True)
    assert receive(stranger.connection) is None


def test_the_connection_itself_is_no_userfaultfd(stranger):
    reason, _ = refused(stranger, attach_packet(stranger.session.token), [stranger.connection.fileno()])
    assert reason == "INVALID_ARGUMENT"
    assert receive(stranger.connection) is None


def test_a_userfaultfd_on_which_the_handshake_was_done_is_refused(stranger):
    descriptor = used_userfaultfd()
    try:
        reason, message = refused(stranger, attach_packet(stranger.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "UFFDIO_API was not called" in message) == ("INVALID_ARGUMENT", True)
    assert receive(stranger.connection) is None


@pytest.mark.parametrize("token", ["", "forged", "x" * 4000, "\U0001f600" * 900], ids=["none", "forged", "long", "odd"])
def test_an_unknown_token_is_refused(stranger, token):
    assert refused(stranger, attach_packet(token), [stranger.userfaultfd])[0] == "UNKNOWN_SESSION"
    assert receive(stranger.connection) is None


def test_the_token_of_a_session_that_has_ended_is_refused(stranger):
    stranger.session.call("Detach", client_pb2.DetachRequest())
    assert refused(stranger, attach_packet(stranger.session.token), [stranger.userfaultfd])[0] == "UNKNOWN_SESSION"


def test_the_token_of_another_process_stands_for_nobody_and_its_owner_goes_on(daemon, stranger):
    with ForkedProcess(live_until_killed, daemon.address, environ=os.environ, stdin=True, stdout=True) as victim:
        try:
            token = victim.stdout.readline().strip()
            assert token
            stolen = refused(stranger, attach_packet(token), [stranger.userfaultfd])
            with connect(daemon.address) as again:
                send(again, attach_packet("forged"), [stranger.userfaultfd])
                assert (*receive(again)[:2],) == stolen or stolen[0] == "UNKNOWN_SESSION"
            victim.stdin.write("\n")
            victim.stdin.flush()
            assert victim.stdout.readline() == "served\n"
            with connect(daemon.address) as again:
                send(again, attach_packet(token), [stranger.userfaultfd])
                assert receive(again).reason == "UNKNOWN_SESSION"
        finally:
            victim.kill()


def test_a_client_that_dies_leaves_nothing(daemon):
    with ForkedProcess(live_until_killed, daemon.address, environ=os.environ, stdin=True, stdout=True) as victim:
        try:
            victim.stdout.readline()
            victim.stdin.write("\n")
            victim.stdin.flush()
            assert victim.stdout.readline() == "served\n"
        finally:
            victim.kill()
    daemon.wait_for("process_detached", name="victim")


def test_a_second_attach_on_a_connection_is_refused_and_the_first_one_stays(peer):
    descriptor, _ = open_userfaultfd()
    try:
        reason, message = refused(peer, attach_packet(peer.session.token), [descriptor])
    finally:
        os.close(descriptor)
    assert (reason, "one a session" in message) == ("INVALID_ARGUMENT", True)
    peer.works()


def test_a_second_connection_for_a_session_is_refused_and_the_first_one_stays(daemon, peer):
    descriptor, _ = open_userfaultfd()
    try:
        with connect(daemon.address) as second:
            send(second, attach_packet(peer.session.token), [descriptor])
            assert receive(second).reason == "UNKNOWN_SESSION"
            assert receive(second) is None
    finally:
        os.close(descriptor)
    peer.works()


def test_a_session_that_nobody_vouches_for_may_have_memory(daemon):
    descriptor, _ = open_userfaultfd()
    with RawClient(daemon.address, "no ticket") as session, connect(daemon.address) as connection:
        session.stream()
        send(connection, attach_packet(session.token), [descriptor])
        os.close(descriptor)
        assert receive(connection) == ("", "ok", [])
        send(connection, region_packet(session.map(PAGE)))
        reply = receive(connection)
        assert (reply.reason, len(reply.descriptors)) == ("", 2)
        for each in reply.descriptors:
            os.close(each)
