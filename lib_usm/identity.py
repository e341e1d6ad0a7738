"""The identity socket: it proves pid and uid to the daemon, which also sees by it that this process has died.

gRPC over a Unix socket does not tell the daemon the caller's pid and uid. On this socket the daemon reads them from the
kernel, and answers with a one-time ticket for Attach.
"""

from __future__ import annotations

import socket
import struct

from lib_usm.address import SocketAddress
from lib_usm.errors import DaemonUnavailable, LimitExceeded
from lib_usm.reach import unreachable
from usm_wire.conventions import REFUSAL

_TIMEOUT_SECONDS = 5.0
_MAX_TICKET_BYTES = 512


class Identity:
    """A ticket and the socket that it was read from, which must stay open as long as the session.

    If the daemon has no identity socket, the ticket is empty, and the daemon does not know pid and uid. Raises
    DaemonUnavailable if the socket gives no ticket in time or may not be used, and LimitExceeded if this user has too
    many such connections.
    """

    def __init__(self, address: SocketAddress, timeout: float = _TIMEOUT_SECONDS) -> None:
        self.ticket = ""
        self._socket: socket.socket | None = None
        # Python's sockets are close-on-exec, so a program started by the application does not keep the session alive.
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise unreachable(error, f"the identity socket {address.identity_path}") from None
        try:
            connect(connection, str(address.identity_path), timeout)
            self.ticket = _read_ticket(connection)
            connection.settimeout(None)
            self._socket = connection
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            self.ticket = ""
        except (OSError, ValueError) as error:
            raise DaemonUnavailable(
                f"the identity socket {address.identity_path} gave no ticket: {error or 'no answer'}; "
                "check that a usmd runs there and that its sockets are open to this user"
            ) from None
        finally:
            if self._socket is None:
                connection.close()

    @property
    def descriptor(self) -> int:
        """Descriptor of the socket, which hangs up when the session has ended; -1 if there is no socket."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket, which tells the daemon that the session may end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(connection: socket.socket, path: str, timeout: float) -> None:
    """Connect a Unix socket, and set its timeout in seconds. Raises OSError.

    If the server's queue of connections is full, this waits, unlike a connect with Python's own timeout: the kernel
    waits for a blocking socket only.
    """
    seconds = struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
    connection.connect(path)
    connection.settimeout(timeout)


def _read_ticket(connection: socket.socket) -> str:
    line = b""
    while not line.endswith(b"\n"):
        if len(line) >= _MAX_TICKET_BYTES:
            raise ValueError(f"more than {_MAX_TICKET_BYTES} bytes without a line end")
        piece = connection.recv(_MAX_TICKET_BYTES - len(line))
        if not piece:
            raise ConnectionAbortedError("closed before the ticket was complete")
        line += piece
    text = line[:-1].decode("ascii")
    if text.startswith(REFUSAL):
        raise LimitExceeded(text.removeprefix(REFUSAL))
    return text
