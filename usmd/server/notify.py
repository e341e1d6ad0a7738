"""Tell the service manager how the daemon is: the sd_notify protocol, over the socket that $NOTIFY_SOCKET names.

Covers sending messages in their order. When to send which is the daemon's; see sd_notify(3) for the messages.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from usmd import log
from usmd.aside import Aside

MAX_WAITING: Final = 16
"""Messages that wait for a service manager that does not read."""


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """The silence after which the service manager acts; 0: it asks for nothing, or not this process."""
    asked = environ.get("WATCHDOG_USEC", "")
    if not asked.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(asked) / 1e6


class Notifier:
    """Sends messages to the service manager, on a thread of its own: its socket may be full for as long as it sleeps.

    Without NOTIFY_SOCKET nothing is sent. A service manager that cannot be reached is logged and does not stop the
    daemon: it will act on the silence by itself.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._aside: Aside[str] | None = None
        self._alive_every = _watchdog_seconds(environ) / 2
        self._alive_next = 0.0
        if self._address and self._address[0] not in "/@":
            self._failed("allowed is a path or an abstract name (@NAME)")
        elif self._address:
            self._aside = Aside("notify", self._send, limit=MAX_WAITING)

    def notify(self, state: str) -> None:
        """Send `state`, one or several assignments one a line (`READY=1`); waits for nothing."""
        if self._aside is not None and not self._aside.put(state):
            self._failed(f"{MAX_WAITING} messages wait already, because it does not read")

    def alive(self, now: float) -> None:
        """Say so (`WATCHDOG=1`) when it is time, where the service manager asks for that; `now` is monotonic, seconds.

        The event loop calls this, and nothing else does, so that a loop that stands is silence.
        """
        if self._alive_every and now >= self._alive_next:
            self._alive_next = now + self._alive_every
            self.notify("WATCHDOG=1")

    def finish(self) -> bool:
        """Wait a moment for what was not sent yet; returns whether all of it was."""
        return self._aside is None or self._aside.finish()

    def _send(self, state: str) -> bool:
        # An abstract name begins with a zero byte, for which the variable has '@'.
        peer = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto(state.encode(), peer)
            except OSError as error:
                self._failed(str(error))
                return False
        return True

    def _failed(self, error: str) -> None:
        log.event("notify_failed", socket=self._address, error=error)
