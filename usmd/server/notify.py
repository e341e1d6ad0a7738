"""Sends the daemon's state to the service manager, over the socket that $NOTIFY_SOCKET names; see sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Final

from usmd import log
from usmd.aside import Aside

MAX_WAITING: Final = 16
"""Messages that wait for a service manager that does not read."""


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """The silence after which the service manager acts; 0 if it does not watch this process."""
    asked = environ.get("WATCHDOG_USEC", "")
    if not asked.isdecimal() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(asked) / 1e6


class Notifier:
    """Sends messages to the service manager in their order, on a thread of its own, because the socket may stay full.

    Without NOTIFY_SOCKET nothing is sent. If the service manager cannot be reached, that is logged and the daemon
    continues: the service manager acts on the silence by itself.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._aside: Aside[str] | None = None
        self._alive_every = _watchdog_seconds(environ) / 2
        self._alive_next = 0.0
        self._wrong = False
        """What the last self-check found."""
        if self._address and self._address[0] not in "/@":
            self._failed("allowed is a path or an abstract name (@NAME)")
        elif self._address:
            self._aside = Aside("notify", self._send, limit=MAX_WAITING)

    def notify(self, state: str) -> None:
        """Send `state`, assignments such as `READY=1`, one a line; does not wait."""
        if self._aside is not None and not self._aside.put(state):
            self._failed(f"{MAX_WAITING} messages wait already, because it does not read")

    def alive(self, now: float, check: Callable[[], str | None]) -> None:
        """Send `WATCHDOG=1` if the service manager asks for it, it is due, and `check` finds nothing wrong.

        `now`: monotonic, seconds. `check` returns what is wrong in words, or None. Only the event loop calls this, so
        that a loop that stands is silent.
        """
        if not self._alive_every or now < self._alive_next:
            return
        self._alive_next = now + self._alive_every
        wrong = check()
        if wrong is None:
            self.notify("WATCHDOG=1")
        elif not self._wrong:
            log.event("self_check_failed", message=wrong)
            self.notify(f"STATUS=the self-check has failed: {wrong}")
        self._wrong = wrong is not None

    def finish(self) -> bool:
        """Wait a moment for unsent messages; returns whether all are sent."""
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
