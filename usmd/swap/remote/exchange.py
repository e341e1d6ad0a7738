"""Commands to one server in one pipeline, on a connection of the client library: sent at once, answered later.

Between the two, other servers can be asked. Answers that are pages go from the socket to the buffers where they are
wanted, without bytes objects in between; that is left to the library where it has more than a plain socket (TLS), and
for any answer that is not as long as its buffers.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from usmd.swap.remote.requests import PLACED, Places, Request

AT_ONCE: Final = 512
"""Buffers that one system call fills; the kernel takes 1,024."""


class Exchange:
    """One pipeline to the server of `client`. `into`: buffers for the answers; all commands have some, or none has.

    Commands with buffers may be performed twice. `close` must be called, and gives the connection back.
    """

    def __init__(self, client: redis.Redis, commands: Sequence[Request], into: Places = ()) -> None:
        self._client = client
        self._commands = commands
        self._into = into
        self._connection: Any = None

    def send(self) -> None:
        """Send the commands. Raises what the library does."""
        self._connection = self._client.connection_pool.get_connection()
        self._connection.send_packed_command(self._connection.pack_commands(self._commands))

    def answers(self, *, patient: bool = True) -> list[Any]:
        """One answer, PLACED or ResponseError for each command. Raises what the library does, and OSError.

        Not `patient`: raises TimeoutError of the library if no answer has begun to arrive.
        """
        if not patient and not self._connection.can_read():
            raise redis.TimeoutError("Timeout reading from socket")
        plain = getattr(self._connection, "_sock", None)
        if self._into and type(plain) is socket.socket:  # one of TLS is a subclass
            if receive(plain, self._into):
                answers: list[Any] = [PLACED] * len(self._commands)
                self._release()
                return answers
            self.close()  # what else is on its way there, nothing reads
            self._into = ()
            self.send()
        answers = [self._answer(str(command[0])) for command in self._commands]
        self._release()
        return answers

    def _answer(self, name: str) -> Any:  # noqa: ANN401 - as the library has it
        try:
            return self._client.parse_response(self._connection, name)
        except ResponseError as error:
            return error

    def close(self) -> None:
        """Give the connection back, without what is on its way there."""
        if self._connection is not None:
            self._connection.disconnect()
            self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        self._client.connection_pool.release(connection)


def receive(plain: socket.socket, into: Places) -> bool:
    """Fill buffers with the bulk strings that arrive, each exactly as long as its buffers.

    False if an answer is another one; it and those behind it are partly read. Raises OSError, and ConnectionError of
    the library if the connection ends.
    """
    lengths = [sum(buffer.nbytes for buffer in buffers) for buffers in into]
    # What is around the strings, for each: the end of the one before, and the length.
    around = [b"$%d\r\n" % lengths[0], *(b"\r\n$%d\r\n" % length for length in lengths[1:]), b"\r\n"]
    expected = b"".join(around)
    found = memoryview(bytearray(len(expected)))
    parts: list[memoryview] = []
    frames: set[int] = set()
    """Indexes of the parts that are around strings."""
    begin = 0
    for each, buffers in zip(around, (*into, ()), strict=True):
        frames.add(len(parts))
        parts.append(found[begin : begin + len(each)])
        parts += buffers
        begin += len(each)
    at = checked = 0
    while at < len(parts):
        got = plain.recvmsg_into(parts[at : at + AT_ONCE])[0]
        if not got:
            raise redis.ConnectionError("Connection closed by server.")
        while at < len(parts) and got >= (size := parts[at].nbytes):
            checked += size if at in frames else 0
            got -= size
            at += 1
        if got:
            checked += got if at in frames else 0
            parts[at] = parts[at][got:]
        # Looked at as it comes: of a shorter answer no more would come.
        if found[:checked] != expected[:checked]:
            return False
    return True
