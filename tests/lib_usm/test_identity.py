"""The identity socket: the ticket, its absence, and nonsense."""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import pytest

import lib_usm
from lib_usm.address import SocketAddress
from lib_usm.identity import Identity


@contextlib.contextmanager
def identity_socket(path, *pieces, finish=True):
    """Listens at `path`.identity and sends `pieces` to the first who connects; yields what then happens to it."""
    peer_gone = threading.Event()
    served = threading.Event()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{path}.identity")
    listener.listen()

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                for piece in pieces:
                    connection.sendall(piece)
                served.set()
                if finish and connection.recv(1) == b"":
                    peer_gone.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield peer_gone
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(90)
        assert not thread.is_alive()


def address(path):
    return SocketAddress(f"unix:{path}")


def test_the_ticket_arrives_even_in_pieces(tmp_path):
    with identity_socket(tmp_path / "s", b"tick", b"et-1\n"):
        identity = Identity(address(tmp_path / "s"))
        assert identity.ticket == "ticket-1"
        identity.close()


def test_the_ticket_vouches_for_the_session_and_the_socket_stays_open_until_close(daemon):
    with identity_socket(daemon.path, b"ticket-2\n") as gone:
        client = lib_usm.connect(daemon.address)
        assert daemon.attached.ticket == "ticket-2"
        client.mmap(10)
        assert not gone.is_set()
        client.close()
        assert gone.wait(90)


def test_without_an_identity_socket_the_ticket_is_empty(daemon, client):
    assert daemon.attached.ticket == ""


def test_a_refusing_identity_socket_leaves_the_ticket_empty(tmp_path):
    left_behind = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left_behind.bind(str(tmp_path / "s.identity"))
    left_behind.close()
    assert Identity(address(tmp_path / "s")).ticket == ""


def test_a_socket_closed_before_the_line_end_leaves_the_ticket_empty(tmp_path):
    with identity_socket(tmp_path / "s", b"half", finish=False):
        assert Identity(address(tmp_path / "s")).ticket == ""


def test_a_silent_identity_socket_is_an_error_after_the_timeout(tmp_path):
    with (
        identity_socket(tmp_path / "s"),
        pytest.raises(lib_usm.DaemonUnavailable, match=r"s\.identity gave no ticket: timed out"),
    ):
        Identity(address(tmp_path / "s"), timeout=0.05)


@pytest.mark.parametrize("line", [b"x" * 200, b"\xff\xfe\n"])
def test_what_is_no_ticket_is_an_error(tmp_path, line):
    with identity_socket(tmp_path / "s", line), pytest.raises(lib_usm.DaemonUnavailable, match="gave no ticket"):
        Identity(address(tmp_path / "s"), timeout=0.1)


def test_the_socket_is_not_inherited_by_programs_that_the_application_starts(tmp_path):
    with identity_socket(tmp_path / "s", b"t\n"):
        before = set(os.listdir("/proc/self/fd"))
        identity = Identity(address(tmp_path / "s"))
        new = [int(fd) for fd in set(os.listdir("/proc/self/fd")) - before if os.path.exists(f"/proc/self/fd/{fd}")]
        assert new
        assert not any(os.get_inheritable(fd) for fd in new)
        identity.close()


def test_a_forked_child_that_closes_does_not_hide_the_end_of_its_parent(daemon):
    code = """
import lib_usm, os, sys
client = lib_usm.connect(sys.argv[1])
if os.fork() == 0:
    client.close()
    sys.stdin.read()
    os._exit(0)
client.close()
os.wait()
"""
    with (
        identity_socket(daemon.path, b"ticket\n") as gone,
        subprocess.Popen([sys.executable, "-c", code, daemon.address], stdin=subprocess.PIPE) as program,
    ):
        assert gone.wait(90)
        assert program.poll() is None, "the child ought to be alive still"
        program.stdin.close()
        assert program.wait(90) == 0


def test_a_socket_at_which_many_are_waiting_to_be_let_in_is_waited_for(tmp_path):
    """As when a program starts hundreds of workers at once."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(tmp_path / "s.identity"))
        listener.listen(0)
        crowd = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        crowd.connect(str(tmp_path / "s.identity"))  # and the queue is full
        outcome = []

        def connect():
            try:
                outcome.append(Identity(address(tmp_path / "s")))
            except lib_usm.UsmError as error:
                outcome.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(0.05)  # time for it to find the queue full; where it has not, it is let in all the same
        listener.settimeout(90)
        stack.enter_context(listener.accept()[0])
        if not outcome:
            served = stack.enter_context(listener.accept()[0])
            served.sendall(b"ticket\n")
        thread.join(90)
        (identity,) = outcome
        assert isinstance(identity, Identity), identity
        assert identity.ticket == "ticket"
        identity.close()
