"""Packets of the memory socket, and the process at its other end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from typing import Final

from google.protobuf.message import DecodeError

from usm_wire.pb.usm.v1 import client_pb2
from usmd.errors import InvalidArgument, LimitExceeded, UsmdError
from usmd.server.stream_messages import failure_reason

MAX_DESCRIPTORS: Final = 8
"""Descriptors taken from a packet: more than any request has, so that surplus ones are noticed, and closed."""
MAX_MESSAGE: Final = 1000
"""Characters of the cause in a reply."""
_SO_PEERPIDFD: Final = 77
"""Linux 6.5: gives the peer itself, even if its number is another process's by now. Python 3.11 has no name for it."""


def peer_pidfd(peer: socket.socket, pid: int) -> int:
    """A pidfd of the process at the other end; raises OSError."""
    try:
        size = struct.calcsize("i")
        return int(struct.unpack("i", peer.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, size))[0])
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(pid)


def send_kill(pidfd: int) -> bool:
    """Send SIGKILL; returns whether that was allowed. A process that has ended counts as killed."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def reply_of(error: UsmdError) -> client_pb2.MemoryReply:
    """The reply to a refused request."""
    return client_pb2.MemoryReply(reason=failure_reason(error), message=str(error)[:MAX_MESSAGE])


def refuse(peer: socket.socket, why: str) -> None:
    """Send a peer the reason why its connection is too many, and close that."""
    peer.setblocking(False)
    with peer:
        try:
            peer.send(reply_of(LimitExceeded(why)).SerializeToString())
        except OSError:
            return  # the peer is gone


def request_of(data: bytes) -> client_pb2.MemoryRequest:
    """The request of a packet; raises InvalidArgument."""
    try:
        request = client_pb2.MemoryRequest.FromString(data)
    except DecodeError:
        raise InvalidArgument("the packet is not a valid MemoryRequest") from None
    if request.WhichOneof("request") is None:
        allowed = ", ".join(each.name for each in request.DESCRIPTOR.oneofs_by_name["request"].fields)
        raise InvalidArgument(f"the packet asks for nothing; send one of {allowed}")
    return request
