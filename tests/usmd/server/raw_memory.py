"""Memory connections on bare sockets, so that tests can send what lib_usm never would.

What a peer touches is touched by a thread in C code, which lets go of Python's lock; so a daemon that does not serve
fails the test and does not hold it up. Judges nothing that comes back.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from types import SimpleNamespace
from typing import NamedTuple

from tests.support.raw_client import SECONDS, RawClient
from tests.usmd.mechanism.mapped import map_memory, read, unmap, write
from usm_wire.pb.usm.v1 import client_pb2, common_pb2
from usm_wire.userfaultfd import open_userfaultfd

PAGE = 4096


def identity_of(address):
    """A connection to the identity socket, and its ticket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SECONDS)
    connection.connect(address.removeprefix("unix:") + ".identity")
    return connection, connection.recv(100).decode().strip()


def connect(address):
    """A connection to the memory socket; waits where many others wait to be let in."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(SECONDS), 0))
    try:
        connection.connect(address.removeprefix("unix:") + ".memory")
    except BaseException:
        connection.close()
        raise
    connection.settimeout(SECONDS)
    return connection


class Reply(NamedTuple):
    reason: str
    """Why not; empty: done."""
    message: str
    descriptors: list[int]


def receive(connection):
    """The next reply; None when the daemon has closed the connection."""
    try:
        data, descriptors, _, _ = socket.recv_fds(connection, 65536, 16, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # closed with something of ours unread
        return None
    if not data:
        return None
    reply = client_pb2.MemoryReply.FromString(data)
    reason = common_pb2.FailureReason.Name(reply.reason).removeprefix("FAILURE_REASON_") if reply.reason else ""
    return Reply(reason, reply.message, descriptors)


def send(connection, data, descriptors=()):
    """Send a packet of bytes with descriptors."""
    socket.send_fds(connection, [data], list(descriptors))


def attach_packet(token):
    return client_pb2.MemoryRequest(attach=client_pb2.MemoryAttach(session_token=token)).SerializeToString()


def region_packet(region):
    return client_pb2.MemoryRequest(region=client_pb2.MemoryRegion(region_id=region)).SerializeToString()


def mapped_packet(region, address):
    return client_pb2.MemoryRequest(
        mapped=client_pb2.MemoryMapped(region_id=region, address=address)
    ).SerializeToString()


class Peer:
    """A session with its stream, and a memory connection that hands over a userfaultfd, unless `attach` is False."""

    def __init__(self, daemon, name="peer", *, attach=True):
        self._undo = contextlib.ExitStack()
        try:
            self.identity, ticket = identity_of(daemon.address)
            self._undo.callback(self.identity.close)
            self.session = self._undo.enter_context(RawClient(daemon.address, name, ticket))
            self.process_id = self.session.attached.process_id
            self.session.stream()
            self.connection = connect(daemon.address)
            self._undo.callback(self.connection.close)
            self.userfaultfd, _ = open_userfaultfd()
            self._undo.callback(os.close, self.userfaultfd)
            if attach:
                reply = self.ask(attach_packet(self.session.token), [self.userfaultfd])
                assert reply == ("", "ok", []), reply
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._undo.close()

    def ask(self, data, descriptors=()):
        """Send a packet and return its reply; None when the daemon closes the connection instead."""
        send(self.connection, data, descriptors)
        return receive(self.connection)

    def descriptors(self, region):
        """The memfd and the residency map of a region; closed with the peer."""
        reply = self.ask(region_packet(region))
        assert reply.reason == "", reply
        for descriptor in reply.descriptors:
            self._undo.callback(os.close, descriptor)
        memfd, residency = reply.descriptors
        return memfd, residency

    def map(self, pages, memfd=None):
        """A region, its memfd, and its address here, where nobody serves it yet."""
        region = self.session.map(pages * PAGE)
        memfd, _ = self.descriptors(region)
        address = map_memory(pages * PAGE, memfd)
        self._undo.callback(unmap, address, pages * PAGE)
        return region, memfd, address

    def real(self, pages):
        """A region that is served; its address here."""
        region, _, address = self.map(pages)
        reply = self.ask(mapped_packet(region, address))
        assert reply == ("", "ok", []), reply
        return region, address

    def works(self):
        """Bytes go into real memory and come back, by faults and by calls."""
        region, address = self.real(4)
        write(address + PAGE, b"real").result()
        assert read(address + 3 * PAGE, 4).result() == bytes(4)
        assert self.session.get(region, 1, 4) == b"real"
        self.session.put(region, 2, b"call")
        assert read(address + 2 * PAGE, 4).result() == b"call"


def live_until_killed(address):
    """The program of a victim: it tells its token, and attaches when it is told to."""
    with Peer(SimpleNamespace(address=address), "victim", attach=False) as victim:
        print(victim.session.token, flush=True)  # noqa: T201 - to the test
        sys.stdin.readline()
        assert victim.ask(attach_packet(victim.session.token), [victim.userfaultfd]) == ("", "ok", [])
        victim.works()
        print("served", flush=True)  # noqa: T201
        sys.stdin.readline()
