"""Tell the service manager how the daemon is: the sd_notify protocol, over the socket that $NOTIFY_SOCKET names.

Covers sending one message. When to send which is the daemon's; see sd_notify(3) for the messages.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from usmd.log import get_logger

SEND_SECONDS = 1.0
"""Longest wait for a service manager that does not read; its queue is otherwise never full for long."""


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `state`, one or several assignments one a line (`READY=1`), and return whether it was sent.

    Nobody asked when NOTIFY_SOCKET is not set. A service manager that cannot be reached is logged and does not stop
    the daemon: it will act on the silence by itself.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address[0] not in "/@":
        get_logger().warning("notify_failed", socket=address, error="allowed is a path or an abstract name (@NAME)")
        return False
    # An abstract name begins with a zero byte, for which the variable has '@'.
    peer = "\0" + address[1:] if address[0] == "@" else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(SEND_SECONDS)
        try:
            sender.sendto(state.encode(), peer)
        except OSError as error:
            get_logger().warning("notify_failed", socket=address, error=str(error))
            return False
    return True
