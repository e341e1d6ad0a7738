"""When the daemon ends: at once, or after a notice, during which sessions go on and new ones are refused.

It ends early if no session is left, and a further request can cut a notice short, but not lengthen it. What happens
then is `Daemon._drain`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from usmd.core.commands import Notice
from usmd.server.engine import Engine
from usmd.server.notify import Notifier
from usmd.server.pauses import in_parts
from usmd.server.sessions import Sessions
from usmd.sizes import format_size

NAMED: Final = 5
"""Processes that the log names, of those that will lose memory."""
LEEWAY_SECONDS: Final = 60.0
"""What the service manager is asked to wait beyond the notice and the grace, to give a large memory back."""


class Loss(NamedTuple):
    """Memory of a process, in memory and in swap, which ends with its session."""

    process_id: int
    name: str
    pid: int
    """0: unknown."""
    bytes: int


async def losses_of(engine: Engine) -> list[Loss]:
    """What sessions would lose, most first; counted in parts, so one that ends meanwhile may be among them."""
    state = engine.core.state
    size = state.settings.page_size
    losses = []
    async for each in in_parts(list(state.processes.values()), cost=lambda each: 4 + len(each.regions) // 16):
        pages = each.resident + each.swapped
        if pages:
            losses.append(Loss(each.process_id, each.name, each.pid or 0, pages * size))
    return sorted(losses, key=lambda each: (-each.bytes, each.process_id))


def _nothing(_seconds: float) -> None:
    """Do nothing: the default of `given`."""


class Ending:
    """The end of one daemon. `report` gets what watchers and the log shall hear of."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        report: Callable[[Notice], object],
        notifier: Notifier,
        *,
        grace: float,
        notice: float,
    ) -> None:
        """`grace`, `notice`: server.drain_grace and server.drain_notice, which `set` changes."""
        self._engine = engine
        self._sessions = sessions
        self._report = report
        self._notifier = notifier
        self.grace = grace
        """Seconds that running calls get at the end."""
        self._notice = notice
        self.over = asyncio.Event()
        """Set when sessions shall end now."""
        self.hurry = asyncio.Event()
        """Set when running calls get no more grace."""
        self.given: Callable[[float], object] = _nothing
        """Called when a notice is given, with its seconds; `tell` is to follow, which takes a while."""
        self._signalled = False

    def set(self, grace: float, notice: float) -> None:
        """Set the grace, and the notice at a signal, as after a reload."""
        self.grace, self._notice = grace, notice

    @property
    def seconds_left(self) -> float | None:
        """Seconds until sessions end, while a notice is under way."""
        if self.over.is_set() or self._sessions.drains_at is None:
            return None
        return max(self._sessions.drains_at - self._engine.now(), 0.0)

    def drain(self, notice: float = 0.0, grace: float | None = None) -> None:
        """End after so many seconds of notice, or sooner if a notice under way ends sooner."""
        if grace is not None:
            self.grace = grace
        left = self.seconds_left
        if not notice or not len(self._sessions):
            self._sessions.draining = True
            self.over.set()
        elif not self.over.is_set() and (left is None or notice < left):
            self._sessions.tell_draining(self._engine.now() + notice)
            self.given(notice)

    async def tell(self, seconds: float) -> None:
        """Report a notice that was given, and who loses memory."""
        losses = await losses_of(self._engine)
        total = format_size(sum(each.bytes for each in losses))
        sessions = len(self._sessions)
        fields = {"ends_in": f"{seconds:g}", "sessions": str(sessions), "losses": ", ".join(map(_text, losses[:NAMED]))}
        message = f"usmd ends in {seconds:g} s, and with it {total} of {sessions} sessions"
        self._report(Notice("drain_notice", 0, message, fields))

    def signalled(self) -> str:
        """A signal that means to drain came. Returns what that one does, for the log."""
        first, self._signalled = not self._signalled, True
        if self.over.is_set():
            self.hurry.set()
            return "the grace of running calls is over"
        self.drain(self._notice if first else 0.0)
        if self.over.is_set():
            return "usmd drains; a second signal ends the grace of running calls"
        seconds = self.seconds_left or 0.0
        self._notifier.notify(
            f"STATUS=sessions end in {seconds:.0f} s\n"
            f"EXTEND_TIMEOUT_USEC={int((seconds + self.grace + LEEWAY_SECONDS) * 1e6)}"
        )
        return f"usmd drains in {seconds:.0f} s; a second signal ends this notice"

    def tick(self) -> None:
        """End if the notice is over, or no session is left that it is for."""
        left = self.seconds_left
        if left is not None and (left <= 0.0 or not len(self._sessions)):
            self.over.set()


def _text(loss: Loss) -> str:
    return f"{loss.name} (process {loss.process_id}, pid {loss.pid or 'unknown'}) {format_size(loss.bytes)}"
