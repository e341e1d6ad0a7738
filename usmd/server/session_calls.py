"""Requests of sessions that the client service and the memory socket both take: to map and unmap regions, and hints."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from usm_wire.pb.usm.v1 import client_pb2
from usm_wire.pb.usm.v1.client_pb2 import HintRegionResponse
from usmd.core import events
from usmd.core.hints import Hint, parse_hint
from usmd.core.region import MAX_REGION_ID, Process
from usmd.errors import InvalidArgument
from usmd.server.descriptors import Shares
from usmd.server.engine import Engine
from usmd.server.hint_messages import hint_from_fields
from usmd.server.sessions import Session

FIRST_NUMBER: Final = 1 << 20
"""First number that is drawn. If a drawn number is in use, the core chooses a lower one."""
EMPTIED_SECONDS: Final = 1.0
"""Longest wait for unmapped regions to be empty, which a client may delay."""


class SessionCalls:
    """The calls, each in the name of a session. All raise UsmdError."""

    def __init__(self, engine: Engine, shares: Shares | None = None) -> None:
        """`shares`: limits of descriptors, if regions take some."""
        self._engine = engine
        self._shares = shares

    def process(self, session: Session) -> Process:
        """The process of a session."""
        return self._engine.core.state.process(session.process_id)

    def map(self, session: Session, request: client_pb2.MapRegionRequest) -> client_pb2.Region:
        """Make a region."""
        if self._shares is not None:
            self._shares.check_region(self.process(session), self._engine.core.state.processes)
        mapped = self._engine.map(events.Map(session.process_id, request.length, request.name, _number()))
        return client_pb2.Region(
            region_id=mapped.region_id,
            address=mapped.address,
            length=mapped.length,
            page_count=mapped.page_count,
            name=mapped.name,
        )

    def unmap(self, session: Session, region_id: int) -> None:
        """Unmap a region. Answer the client once it `is_emptied`: then the client finds no byte of it."""
        self._engine.submit(events.Unmap(session.process_id, region_id))

    def is_emptied(self, region_id: int) -> bool:
        """Whether a region that is gone holds no memory."""
        return self._engine.memory.is_emptied(region_id)

    def discard(self, session: Session, request: client_pb2.MemoryDiscard) -> asyncio.Future[int]:
        """Give up bytes. The future is done when the client finds zeros, or the region is gone."""
        size = self._engine.core.state.settings.page_size
        if request.offset % size or request.length % size:
            raise InvalidArgument(
                f"bytes to discard at offset {request.offset}, length {request.length}; allowed are whole pages of "
                f"{size} bytes"
            )
        return self._engine.discard(
            session.process_id, request.region_id, request.offset // size, request.length // size
        )

    def hint(self, session: Session, request: client_pb2.HintRegionRequest) -> asyncio.Future[HintRegionResponse]:
        """Put a hint on a range, or clear it. The future is done when the hint is applied to all its pages."""
        loop = asyncio.get_running_loop()
        answer, applied = self._engine.hint(
            session.process_id, request.region_id, request.offset, request.length or None, _hint_of(request)
        )
        response: asyncio.Future[HintRegionResponse] = loop.create_future()

        def respond(over_budget: asyncio.Future[int]) -> None:
            process = self._engine.core.state.processes.get(session.process_id)
            if process is not None:
                session.over_budget_told = process.counters.deny_over_budget  # the response has these
            if not response.done():  # else its caller no longer waits
                response.set_result(
                    HintRegionResponse(
                        hint_id=answer.hint_id,
                        first_page=answer.first_page,
                        page_count=answer.page_count,
                        over_budget_pages=over_budget.result(),
                        unheeded_keys=answer.unheeded,
                    )
                )

        if applied.done():
            respond(applied)
        else:
            applied.add_done_callback(respond)
        return response


def _number() -> int:
    """A random number of a region, by which its client learns nothing of other clients' regions."""
    return FIRST_NUMBER + secrets.randbelow(MAX_REGION_ID - FIRST_NUMBER + 1)


def _hint_of(request: client_pb2.HintRegionRequest) -> Hint | None:
    which = request.WhichOneof("hint")
    if which == "fields":
        return hint_from_fields(request.fields)
    return parse_hint(request.text)
