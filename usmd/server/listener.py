"""Accepts the connections to a Unix socket, one in a turn of the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 128
REST_SECONDS: Final = 1.0
"""How long no connection is accepted after one could not be."""


class Listener:
    """Listens on a bound socket until `close`, which closes it. `accepted` gets each connection, which does not block.

    If a connection cannot be accepted, most likely for want of descriptors, `refused` gets the reason in words.
    """

    def __init__(
        self, bound: socket.socket, accepted: Callable[[socket.socket], object], refused: Callable[[str], object]
    ) -> None:
        self._socket = bound
        self._accepted = accepted
        self._refused = refused
        self._again: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        bound.setblocking(False)
        bound.listen(BACKLOG)
        self._listen()

    def _listen(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # The peer still waits, so without a rest the loop would do nothing else.
            self._refused(error.strerror or str(error))
            self._loop.remove_reader(self._socket)
            self._again = self._loop.call_later(REST_SECONDS, self._listen)
            return
        connection.setblocking(False)
        self._accepted(connection)

    def close(self) -> None:
        """Listen no more."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
