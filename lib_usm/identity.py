"""The identity socket: it proves pid and uid to the daemon, and shows it the death of this process at once.

gRPC over a Unix socket does not tell the daemon who calls. A plain socket beside it does: the daemon reads the peer's
credentials from the kernel and answers with a one-time ticket, which Attach then carries.
"""

from __future__ import annotations

import socket
import struct

from lib_usm.address import SocketAddress
from lib_usm.errors import DaemonUnavailable, LimitExceeded
from lib_usm.reach import unreachable
from usm_wire.conventions import TICKET_REFUSAL

_TIMEOUT_SECONDS = 5.0
_MAX_TICKET_BYTES = 512


class Identity:
    """A ticket and the socket that it came from, to be kept open as long as the session lives.

    A daemon without an identity socket leaves the ticket empty; pid and uid are then unknown to it. Raises
    DaemonUnavailable when something listens there but gives no ticket in time, or the socket may not be used, and
    LimitExceeded when this user has too many such connections.
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
        """The socket's, which hangs up when the session has ended; -1 without one."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket, by which the daemon knows that the session may end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(connection: socket.socket, path: str, timeout: float) -> None:
    """Connect a Unix socket, and give it this timeout in seconds. Raises OSError.

    Unlike with Python's own timeout, a server that has not yet let in those before is waited for as well: the kernel
    does that for a blocking socket alone.
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
    if text.startswith(TICKET_REFUSAL):
        raise LimitExceeded(text.removeprefix(TICKET_REFUSAL))
    return text
