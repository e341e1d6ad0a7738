"""Peers of the memory socket that end, or misbehave until they do: each ends with itself and keeps nothing."""

import contextlib
import os
import resource
import socket
from datetime import datetime
from itertools import pairwise

import grpc
import pytest

from tests.support import slow_farewell
from tests.support.daemon import environment, wait_until
from tests.usmd.mechanism.mapped import Doing, map_memory, read, touch_by_system_call, unmap, write
from tests.usmd.server.memory_peers import daemon, descriptors, has_ended, peer, refused, serving, stranger, unharmed
from tests.usmd.server.raw_memory import (
    PAGE,
    Peer,
    attach_packet,
    connect,
    mapped_packet,
    receive,
    region_packet,
    send,
)
from usm_wire.pb.usm.v1 import client_pb2
from usmd.server.listener import REST_SECONDS
from usmd.server.memory_socket import MAX_TAKEN

__all__ = ["daemon", "peer", "stranger", "unharmed"]


ATTACH_TIMEOUT = 0.3


# Ends


def test_a_client_that_closes_its_connection_has_ended_its_session(daemon, peer):
    peer.works()
    peer.connection.shutdown(socket.SHUT_RDWR)
    has_ended(daemon, peer, "its memory connection was closed")


def test_the_next_session_of_a_process_is_served_where_the_last_one_was_once_that_has_been_let_go(tmp_path):
    """Before that the pages of the last one would be poisoned where those of the next one are."""
    fifo = tmp_path / "farewell"
    os.mkfifo(fifo)
    environ = environment(**{slow_farewell.VARIABLE: str(fifo)})
    with serving(tmp_path, environ=environ, changes=("tests.support.slow_farewell:wait",)) as daemon:
        address = map_memory(4 * PAGE)  # a place where nothing else comes
        with Peer(daemon) as last:
            region = last.session.map(4 * PAGE)
            map_memory(4 * PAGE, last.descriptors(region)[0], address)
            assert last.ask(mapped_packet(region, address)).reason == ""
            write(address, b"last").result()
            map_memory(4 * PAGE, at=address)
        with Peer(daemon) as following:
            region = following.session.map(4 * PAGE)
            map_memory(4 * PAGE, following.descriptors(region)[0], address)
            send(following.connection, mapped_packet(region, address))
            send(following.connection, mapped_packet(region, address))  # is answered after it
            before = following.connection.gettimeout()
            following.connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                receive(following.connection)
            following.connection.settimeout(before)
            writer = os.open(fifo, os.O_WRONLY)
            fifo.unlink()
            os.close(writer)
            assert receive(following.connection) == ("", "ok", [])
            assert "is mapped already" in receive(following.connection).message
            write(address + PAGE, b"next").result()
            assert read(address, 4).result() == bytes(4)
            unmap(address, 4 * PAGE)


def test_a_session_that_is_detached_first_ends_as_it_wishes(daemon, peer):
    peer.works()
    peer.session.call("Detach", client_pb2.DetachRequest())
    daemon.wait_for("process_detached", process_id=peer.process_id)
    assert refused(peer, region_packet(1))[0] == "UNKNOWN_SESSION"


def test_a_client_that_never_reads_replies_ends_its_session_alone(daemon, peer):
    region = peer.session.map(PAGE)
    peer.works()

    def ask_and_never_listen():
        for _ in range(1_000_000):
            send(peer.connection, region_packet(region))

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        ask_and_never_listen()
    has_ended(daemon, peer, "its memory connection broke")


def test_a_client_that_makes_its_userfaultfd_blocking_ends_its_session_and_holds_up_nobody(daemon, peer):
    _, address = peer.real(2)
    write(address, b"x").result()
    os.set_blocking(peer.userfaultfd, True)
    # A system call, which fails where a touch would be a SIGBUS.
    Doing(lambda: touch_by_system_call(address + PAGE)).result()
    has_ended(daemon, peer, "its userfaultfd reports no more faults")


def test_a_userfaultfd_that_is_blocking_from_the_start_is_made_not_to_be(stranger):
    os.set_blocking(stranger.userfaultfd, True)
    assert stranger.ask(attach_packet(stranger.session.token), [stranger.userfaultfd]) == ("", "ok", [])
    stranger.works()
    assert not os.get_blocking(stranger.userfaultfd)


def test_a_client_that_fills_its_memfd_by_itself_loses_its_session_and_one_that_does_so_a_little_does_not(daemon, peer):
    with Peer(daemon, "greedy") as greedy:
        shares = []
        for each, pages in ((peer, MAX_TAKEN), (greedy, MAX_TAKEN + 1)):
            region, memory, address = each.map(2 * MAX_TAKEN)
            assert each.ask(mapped_packet(region, address)) == ("", "ok", [])
            write(address, b"x").result()  # what was given does not count
            os.pwrite(memory, b"y" * (pages * PAGE), PAGE)
            shares.append((region, address))
        reason = f"{MAX_TAKEN + 1} pages of 4096 bytes are in its memfds that usmd did not put there"
        ended = daemon.wait_for("process_detached", process_id=greedy.process_id)
        assert ended["reason"].startswith(reason)
        status, killed, text = greedy.session.stream().ends_with()
        assert (killed, text.startswith(reason)) == ("SESSION_KILLED", True), status
        region, address = shares[0]
        assert peer.session.get(region, 0, 1) == b"x"
        assert read(address).result() == b"x"
        peer.works()


def test_a_daemon_that_is_out_of_descriptors_says_so_and_goes_on(daemon, peer):
    pid = daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    region, address = peer.real(2)
    used = max(int(entry) for entry in os.listdir(f"/proc/{pid}/fd")) + 1
    with contextlib.ExitStack() as waiting:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        try:
            # Some take the gaps below the limit, also those that are left only now; then one does not get in.
            for _ in range(used):
                waiting.enter_context(connect(daemon.address))
                if daemon.events("memory_socket_refused"):
                    break
            daemon.wait_for("memory_socket_refused")
            for _ in range(50):
                daemon.admin.status()
            write(address, b"x").result()
            refusals = daemon.events("memory_socket_refused")
            times = [datetime.fromisoformat(each["timestamp"]).timestamp() for each in refusals]
            assert all(later - earlier > 0.9 * REST_SECONDS for earlier, later in pairwise(times))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert peer.session.get(region, 0, 1) == b"x"


def attached_in_time(daemon):
    """A peer that has attached, with its stream, before the timeout; where the machine was slow it is tried again."""

    def attached():
        with contextlib.ExitStack() as undo:
            try:
                peer = undo.enter_context(Peer(daemon))
                peer.works()  # gRPC sends the stream when it gets to it
            except (AssertionError, OSError, grpc.RpcError):
                return None
            undo.pop_all()
            return peer

    return wait_until(attached, "a peer attaches in time")


def test_who_says_nothing_is_closed_after_the_timeout_and_who_has_attached_is_not(tmp_path):
    text = f'[server]\nattach_timeout = {ATTACH_TIMEOUT}\nsocket_mode = "0622"\n'
    with serving(tmp_path, config=text) as daemon, attached_in_time(daemon) as peer:
        assert (tmp_path / "usmd.sock.memory").stat().st_mode & 0o777 == 0o622  # as the clients' socket
        peer.works()
        before = descriptors(daemon)
        silent = [connect(daemon.address) for _ in range(5)]
        for connection in silent:
            assert receive(connection) is None
            connection.close()
        wait_until(lambda: descriptors(daemon) <= before, f"no more than the {before} descriptors of before")
        peer.works()


def test_many_connections_that_come_and_go_leave_nothing(daemon):
    for number in range(200):
        with connect(daemon.address) as connection:
            if number % 2:
                send(connection, attach_packet("forged"), [connection.fileno()])
