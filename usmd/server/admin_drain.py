"""Drains as an operator asks for them, and what each session would lose by one."""

from __future__ import annotations

from typing import Final

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.errors import InvalidArgument
from usmd.server.ending import Ending, losses_of
from usmd.server.engine import Engine

MOST_SECONDS: Final = 86400.0


class DrainRequests:
    """Answers Drain."""

    def __init__(self, engine: Engine, ending: Ending) -> None:
        self._engine = engine
        self._ending = ending

    async def answer(self, request: admin_pb2.DrainRequest) -> admin_pb2.DrainResponse:
        """Drain, or say what that would do; raises InvalidArgument."""
        for name in ("grace_seconds", "notice_seconds"):
            seconds: float = getattr(request, name)
            if not 0 <= seconds <= MOST_SECONDS:
                raise InvalidArgument(f"{name} {seconds:g}; allowed are 0 to {MOST_SECONDS:g}")
        losses = [admin_pb2.MemoryLoss(**loss._asdict()) for loss in await losses_of(self._engine)]
        sessions, left = len(self._engine.core.state.processes), self._ending.seconds_left
        if request.dry_run:
            notice = request.notice_seconds if sessions else 0.0
            left = notice if left is None else min(left, notice)
        else:
            self._ending.drain(request.notice_seconds, request.grace_seconds or None)
            left = self._ending.seconds_left
        return admin_pb2.DrainResponse(sessions=sessions, seconds_left=left or 0.0, losses=losses)
