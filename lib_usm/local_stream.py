"""A fault stream on a socket that the daemon has handed over: several times cheaper than a call, and without a thread.

Sessions with real memory use it; see usm_wire.local_stream. Others use lib_usm.message_stream.
"""

from __future__ import annotations

import socket
from typing import ClassVar

from google.protobuf.message import DecodeError

from lib_usm.errors import ConnectionLost, InternalError, UsmError, error_of_reply
from lib_usm.polled_stream import PolledStream
from usm_wire.local_stream import END, MESSAGE, PREFIX
from usm_wire.pb.usm.v1 import client_pb2


def _why(content: bytes) -> UsmError:
    """The error with which the daemon ended the stream."""
    try:
        return error_of_reply(client_pb2.MemoryReply.FromString(content))
    except DecodeError:
        return InternalError("the daemon's reason for the end of the fault stream cannot be decoded")


class LocalStream(PolledStream):
    """The client's end: messages and their prefixes, and nothing else."""

    last: ClassVar = {END: _why}

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._unsent: bytearray = bytearray()

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the daemon has room. After the end it is dropped."""
        if self.end is None:
            self._unsent += PREFIX.pack(MESSAGE, len(message)) + message
            self._push()

    def _take(self, data: bytes) -> None:
        self._incoming += data

    def _send_unsent(self) -> None:
        unsent = self._unsent
        while unsent:
            del unsent[: self._socket.send(unsent)]

    def _why_closed(self) -> UsmError:
        return ConnectionLost("the daemon ended the fault stream; the session and its regions are gone")
