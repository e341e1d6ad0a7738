"""The memory connection of a session: it sends a userfaultfd to the daemon, and receives the memory of regions.

After that a page fault needs no call and no Python code of this process. This process keeps a duplicate of the
userfaultfd: if the daemon is gone, a thread then waits for its page, where it would otherwise read zeros.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress

from google.protobuf.message import DecodeError

from lib_usm import taking_out
from lib_usm.address import SocketAddress
from lib_usm.errors import ConnectionLost, DaemonUnavailable, InternalError, UsmError, error_of_reply
from lib_usm.identity import connect
from lib_usm.limits import limit_reached
from lib_usm.mapping import Mapping
from usm_wire.conventions import MAX_PACKET_BYTES
from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.userfaultfd import open_userfaultfd

_TIMEOUT_SECONDS = 10.0


class Memory:
    """A session's memory connection. Raises OSError if this process gets no userfaultfd, else UsmError."""

    def __init__(self, address: SocketAddress, token: str) -> None:
        self._lock = threading.Lock()
        self.userfaultfd, self.way = open_userfaultfd()
        """`way`: `device`, `syscall`, or `user-mode`, see usm_wire.userfaultfd."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                connect(self._socket, str(address.memory_path), _TIMEOUT_SECONDS)
            except OSError as error:
                raise DaemonUnavailable(
                    f"the memory socket {address.memory_path} cannot be used: {error.strerror}"
                ) from None
            attach = client_pb2.MemoryRequest(
                attach=client_pb2.MemoryAttach(
                    session_token=token,
                    system_calls_fault=self.way != "user-mode",
                    takes_pages_out=taking_out.available,
                )
            )
            for descriptor in self._ask(attach, send=[self.userfaultfd], may_come=1, first=True):
                taking_out.begin(descriptor)
        except BaseException:
            self.close()
            raise

    def map(self, region_id: int, length: int, page_count: int) -> Mapping:
        """Map a region into this process, and have the daemon serve its faults. Raises UsmError or OSError."""
        with self._lock:
            request = client_pb2.MemoryRequest(region=client_pb2.MemoryRegion(region_id=region_id))
            descriptors = self._ask(request, expect=2)
            try:
                memfd, residency_fd = descriptors
                mapping = Mapping(memfd, residency_fd, length, page_count)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            mapped = client_pb2.MemoryMapped(region_id=region_id, address=mapping.address)
            try:
                self._ask(client_pb2.MemoryRequest(mapped=mapped))
            except UsmError:
                mapping.close(f"region {region_id}")
                raise
            return mapping

    def open_stream(self) -> socket.socket:
        """Get the socket of a new fault stream; see usm_wire.local_stream. Raises UsmError."""
        with self._lock:
            (descriptor,) = self._ask(client_pb2.MemoryRequest(stream=client_pb2.MemoryStream()), expect=1)
            return socket.socket(fileno=descriptor)

    def _ask(
        self,
        request: client_pb2.MemoryRequest,
        send: list[int] | None = None,
        expect: int = 0,
        *,
        may_come: int = 0,
        first: bool = False,
    ) -> list[int]:
        """Send a request, read its reply, and return the `expect` descriptors that it carries. Raises UsmError.

        `may_come`: descriptors that come or are missing. If the daemon refuses the connection, it may have replied and
        closed before the `first` request.
        """
        descriptors: list[int] = []
        if not first:
            self._skip_old_replies()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._socket, [request.SerializeToString()], send or [])
            try:
                data, descriptors, flags, _ = self._receive()
            except ConnectionResetError:  # the request was not read; the kernel reports that before it gives the reply
                data, descriptors, flags, _ = self._receive()
        except OSError as error:
            raise ConnectionLost(f"the memory connection broke: {error}; connect again") from None
        try:
            if not data:
                raise ConnectionLost("the daemon closed the memory connection; connect again")
            reply = client_pb2.MemoryReply.FromString(data)
            if reply.reason:
                raise error_of_reply(reply)
            if len(descriptors) < expect and flags & socket.MSG_CTRUNC:
                full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                raise limit_reached(full, "the descriptors of a region cannot be taken") or full
            if not expect <= len(descriptors) <= expect + may_come:
                raise ConnectionLost(
                    f"{len(descriptors)} descriptors came on the memory connection where {expect} should; connect again"
                )
        except (UsmError, DecodeError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, DecodeError):
                raise InternalError("the daemon's answer on the memory socket cannot be decoded") from None
            raise
        return descriptors

    def _receive(self) -> tuple[bytes, list[int], int, object]:
        return socket.recv_fds(self._socket, MAX_PACKET_BYTES, 4, socket.MSG_CMSG_CLOEXEC)

    def _skip_old_replies(self) -> None:
        """Discard replies to a request that was interrupted."""
        try:
            self._socket.settimeout(0)
            while True:
                data, descriptors, _, _ = self._receive()
                for descriptor in descriptors:
                    os.close(descriptor)
                if not data:
                    break
            self._socket.settimeout(_TIMEOUT_SECONDS)
        except BlockingIOError:
            self._socket.settimeout(_TIMEOUT_SECONDS)
        except OSError:
            return  # the connection is gone, which the request will report

    def leave_open(self) -> None:
        """Keep the descriptors open as long as this process lives, because memory that they serve is in use."""
        self._socket.detach()

    def close(self) -> None:
        """Close the connection and the userfaultfd. May be called again."""
        self._socket.close()
        if self.userfaultfd >= 0:
            os.close(self.userfaultfd)
            self.userfaultfd = -1
