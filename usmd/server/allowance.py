"""Limits the connections of one user to a socket, where clients connect those without a session, and all of them.

For sockets on which the daemon itself accepts; for gRPC's see `connections`. Refused connections are logged at most
once in `TELL_SECONDS` for each user.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from usmd import log

TELL_SECONDS: Final = 10.0
"""Time between two log lines for one user."""
LIMIT_OF_FILES: Final = "usmd's limit of open files"


Tell = Callable[[int | None, int | None, str, int], None]
"""Writes a line: uid, pid, why, and how many it counts."""


class Complaints:
    """Log lines about refusals, one for each user in TELL_SECONDS."""

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._log = tell
        self._untold: Counter[int | None] = Counter()
        self._quiet_until: dict[int | None, float] = {}

    def add(self, uid: int | None, pid: int | None, why: str) -> None:
        """A connection or call of `pid` was refused or closed because of `why`; None: no ticket vouches for it."""
        self._untold[uid] += 1
        now = self._clock()
        if now >= self._quiet_until.get(uid, 0.0):
            self._quiet_until[uid] = now + TELL_SECONDS
            # In the loop's next turn, so that the line counts connections that end together.
            asyncio.get_running_loop().call_soon(self._tell, uid, pid, why)

    def _tell(self, uid: int | None, pid: int | None, why: str) -> None:
        self._log(uid, pid, why, self._untold.pop(uid, 0))


class Allowance:
    """Counts the connections to one socket."""

    def __init__(
        self,
        socket: str,
        of_user: int,
        in_all: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        counted: str = "connections without a session",
        allows: str = "server.max_user_connections",
    ) -> None:
        """`counted`: what a user may have so many of; `allows`: what says how many. Both are for people."""
        self._socket = socket
        self._of_user = of_user
        self._in_all = in_all
        self._counted = counted
        self._allows = allows
        self._waiting: Counter[int] = Counter()
        self._open = 0
        self._complaints = Complaints(self._tell, clock)

    def enter(self, uid: int, pid: int) -> str | None:
        """Count a connection that waits for a session; or do not, and return why it is refused, for its peer."""
        if self._waiting[uid] >= self._of_user:
            why = (
                f"user {uid} has {self._waiting[uid]} {self._counted} to the {self._socket} socket; "
                f"{self._allows} allows {self._of_user}"
            )
        elif self._open >= self._in_all:
            why = (
                f"there are {self._open} connections to the {self._socket} socket; {LIMIT_OF_FILES} allows "
                f"{self._in_all}"
            )
        else:
            self._waiting[uid] += 1
            self._open += 1
            return None
        self._complaints.add(uid, pid, why)
        return why

    def settle(self, uid: int) -> None:
        """Record that a counted connection has its session."""
        self._waiting[uid] -= 1
        if not self._waiting[uid]:
            del self._waiting[uid]

    def leave(self, uid: int, *, waiting: bool) -> None:
        """Record that a connection is closed. `waiting`: it had no session."""
        self._open -= 1
        if waiting:
            self.settle(uid)

    def _tell(self, uid: int | None, pid: int | None, why: str, count: int) -> None:
        log.event("connections_refused", socket=self._socket, uid=uid, pid=pid, connections=count, message=why)
