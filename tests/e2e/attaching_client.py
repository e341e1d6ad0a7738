"""A client process that stops half-way through getting its memory mapped, for a test that kills it there.

Run as `attaching_client.py ADDRESS STAGE`. It goes as far as STAGE, one of `STAGES`, says `there`, and waits.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys

from lib_usm.address import SocketAddress
from lib_usm.identity import Identity
from tests.support.raw_client import RawClient
from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.userfaultfd import open_userfaultfd

STAGES = ("connected", "descriptor_sent", "attached", "region_asked", "region_received", "mapped_here", "mapped")
PAGES = 16
PAGE = 4096


def main(address: str, stage: str) -> None:
    """Get there, step by step, and stay."""
    where = SocketAddress(address)
    identity = Identity(where)
    client = RawClient(address, "attaching", identity.ticket)
    client.stream()
    region_id = client.map(PAGES * PAGE, "half")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(where.memory_path))
    if stage == "connected":
        return stay()
    descriptor, _ = open_userfaultfd()
    attach = client_pb2.MemoryAttach(session_token=client.token)
    socket.send_fds(connection, [client_pb2.MemoryRequest(attach=attach).SerializeToString()], [descriptor])
    if stage == "descriptor_sent":
        return stay()
    expect(connection)
    if stage == "attached":
        return stay()
    connection.send(client_pb2.MemoryRequest(region=client_pb2.MemoryRegion(region_id=region_id)).SerializeToString())
    if stage == "region_asked":
        return stay()
    memfd, _ = expect(connection)
    if stage == "region_received":
        return stay()
    memory = mmap.mmap(memfd, PAGES * PAGE)
    if stage == "mapped_here":
        return stay()
    address_here = address_of(memory)
    mapped = client_pb2.MemoryMapped(region_id=region_id, address=address_here)
    connection.send(client_pb2.MemoryRequest(mapped=mapped).SerializeToString())
    return stay()


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping begins."""
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def expect(connection: socket.socket) -> list[int]:
    """Read a reply that is no refusal; returns the descriptors that came with it."""
    data, descriptors, _, _ = socket.recv_fds(connection, 4096, 4)
    reply = client_pb2.MemoryReply.FromString(data)
    assert data
    assert not reply.reason, reply
    return descriptors


def stay() -> None:
    """Say so, and wait to be killed."""
    os.write(1, b"there\n")
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
