"""The client service: what an application may ask. Every call but Attach is made in the name of its session's token.

Covers the wire: tokens and messages. Loads and stores are done by `transfers`, streams by `fault_stream`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from lib_usm.pb.usm.v1 import client_pb2
from usmd.core import commands, events
from usmd.core.hints import Hint, parse_hint
from usmd.core.region import MAX_REGION_ID, Process
from usmd.server.admission import TOKEN_KEY, Context, metadata_of
from usmd.server.descriptors import Shares
from usmd.server.engine import Engine
from usmd.server.fault_stream import MAX_BATCH_FAULTS, FaultStream
from usmd.server.hint_messages import hint_from_fields
from usmd.server.sessions import Session, Sessions
from usmd.server.transfers import Transfers

OVER_BUDGET_KEY: Final = "usm-over-budget"
EMPTIED_SECONDS: Final = 1.0
"""Longest wait for the memory of regions that a client gives back; a client may hold that up."""
FIRST_NUMBER: Final = 1 << 20
"""Of those that are drawn; the numbers below are for a draw that is taken."""
REQUEST_LIMITS: Final = {"Store": (2 << 20) + (64 << 10), "StreamFaults": (2 << 20) + (512 << 10)}
"""Bytes of a request message, where they are not the usual ones: a page is at most 2 MiB, and stores of together as
much as one may move fit into a message of a stream, beside 4,096 faults and what is said of 4,096 accesses."""


class ClientService:
    """usm.v1.ClientService; the methods have the names of the proto."""

    def __init__(self, engine: Engine, sessions: Sessions, shares: Shares | None = None) -> None:
        """`shares`: of descriptors, where regions take some."""
        self._engine = engine
        self._sessions = sessions
        self._page_size = engine.core.state.settings.page_size
        self._transfers = Transfers(engine)
        self._shares = shares

    def _session(self, context: Context) -> Session:
        return self._sessions.find(metadata_of(context, TOKEN_KEY))

    def _caller(self, context: Context) -> Session:
        """The session of a unary call; its answer tells how many pages DENY could not keep, when they have doubled."""
        session = self._session(context)
        count = self._process(session).counters.deny_over_budget
        if count >= max(2 * session.over_budget_told, 1):
            context.set_trailing_metadata(((OVER_BUDGET_KEY, str(count)),))
            session.over_budget_told = count
        return session

    def _process(self, session: Session) -> Process:
        return self._engine.core.state.process(session.process_id)

    async def Attach(  # noqa: N802
        self, request: client_pb2.AttachRequest, context: Context
    ) -> client_pb2.AttachResponse:
        """Begin a session."""
        del context
        session = self._sessions.attach(request.name, request.ticket)
        state = self._engine.core.state
        return client_pb2.AttachResponse(
            session_token=session.token,
            process_id=session.process_id,
            page_size=self._page_size,
            max_transfer_bytes=self._transfers.limit,
            max_fault_pages=state.settings.max_fault_pages,
            max_batch_faults=MAX_BATCH_FAULTS,
            mechanism=self._engine.memory.name,
            capacity_bytes=state.settings.frames * self._page_size
            + sum(queue.device.usage(0).capacity for queue in self._engine.queues),
        )

    async def Detach(  # noqa: N802
        self, request: client_pb2.DetachRequest, context: Context
    ) -> client_pb2.DetachResponse:
        """End the session."""
        del request
        session = self._caller(context)
        regions = list(self._process(session).regions)
        self._sessions.end(session, "detached")
        await self._until_emptied(regions)
        return client_pb2.DetachResponse()

    async def MapRegion(self, request: client_pb2.MapRegionRequest, context: Context) -> client_pb2.Region:  # noqa: N802
        """Make a region."""
        session = self._caller(context)
        if self._shares is not None:
            self._shares.check_region(self._process(session), self._engine.core.state.processes)
        mapped = self._engine.map(events.Map(session.process_id, request.length, request.name, _number()))
        return client_pb2.Region(
            region_id=mapped.region_id,
            address=mapped.address,
            length=mapped.length,
            page_count=mapped.page_count,
            name=mapped.name,
        )

    async def UnmapRegion(  # noqa: N802
        self, request: client_pb2.UnmapRegionRequest, context: Context
    ) -> client_pb2.UnmapRegionResponse:
        """Give a region back."""
        session = self._caller(context)
        self._engine.submit(events.Unmap(session.process_id, request.region_id))
        await self._until_emptied([request.region_id])
        return client_pb2.UnmapRegionResponse()

    async def _until_emptied(self, regions: Sequence[int]) -> None:
        """Wait, but not for ever, until regions hold nothing: who has been told that they are gone finds no byte."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + EMPTIED_SECONDS
        while not all(map(self._engine.memory.is_emptied, regions)) and loop.time() < latest:  # noqa: ASYNC110 - threads do it
            await asyncio.sleep(0.001)

    async def HintRegion(  # noqa: N802
        self, request: client_pb2.HintRegionRequest, context: Context
    ) -> client_pb2.HintRegionResponse:
        """Put a hint on a range, or clear it."""
        session = self._caller(context)
        answer = self._engine.submit(
            events.SetHint(
                session.process_id, request.region_id, request.offset, request.length or None, _hint_of(request)
            )
        )
        if not isinstance(answer, commands.HintSet):
            raise TypeError(f"the core answered {answer!r} to SetHint")
        session.over_budget_told = self._process(session).counters.deny_over_budget  # the answer tells of those
        return client_pb2.HintRegionResponse(
            hint_id=answer.hint_id,
            first_page=answer.first_page,
            page_count=answer.page_count,
            over_budget_pages=answer.over_budget,
            unheeded_keys=answer.unheeded,
        )

    async def PinRegion(  # noqa: N802
        self, request: client_pb2.PinRegionRequest, context: Context
    ) -> client_pb2.PinRegionResponse:
        """Keep pages in memory."""
        session = self._caller(context)
        answer = self._engine.submit(
            events.Pin(
                session.process_id,
                request.region_id,
                request.first_page,
                request.page_count,
                request.planned_page_count,
            )
        )
        if not isinstance(answer, commands.Pinned):
            raise TypeError(f"the core answered {answer!r} to Pin")
        return client_pb2.PinRegionResponse(absent_pages=answer.absent)

    async def UnpinRegion(  # noqa: N802
        self, request: client_pb2.UnpinRegionRequest, context: Context
    ) -> client_pb2.UnpinRegionResponse:
        """Let pages go again."""
        session = self._caller(context)
        self._engine.submit(events.Unpin(session.process_id, request.region_id, request.first_page, request.page_count))
        return client_pb2.UnpinRegionResponse()

    async def Load(self, request: client_pb2.LoadRequest, context: Context) -> client_pb2.LoadResponse:  # noqa: N802
        """Read what is resident."""
        data, absent = self._transfers.load(self._caller(context).process_id, request)
        return client_pb2.LoadResponse(data=data, absent_pages=absent)

    async def Store(self, request: client_pb2.StoreRequest, context: Context) -> client_pb2.StoreResponse:  # noqa: N802
        """Write where it is resident."""
        stored, absent = self._transfers.store(self._caller(context).process_id, request)
        return client_pb2.StoreResponse(stored=stored, absent_pages=absent)

    async def GetKept(  # noqa: N802
        self, request: client_pb2.GetKeptRequest, context: Context
    ) -> client_pb2.GetKeptResponse:
        """What the session keeps in memory."""
        del request
        process = self._process(self._caller(context))
        core = self._engine.core
        return client_pb2.GetKeptResponse(
            denied_pages=process.denied,
            pinned_pages=process.locked,
            budget_pages=core.state.settings.deny_budget,
            room_pages=max(core.life.kept_room(process), 0),
            refused_pages=process.counters.deny_over_budget,
        )

    async def StreamFaults(self, context: Context) -> None:  # noqa: N802
        """Take faults and accesses and give what comes of them, until either side ends."""
        await FaultStream(self._engine, self._transfers, self._sessions, self._session(context), context).run()


def _number() -> int:
    """A region's number, which tells its client nothing of the regions of others."""
    return FIRST_NUMBER + secrets.randbelow(MAX_REGION_ID - FIRST_NUMBER + 1)


def _hint_of(request: client_pb2.HintRegionRequest) -> Hint | None:
    which = request.WhichOneof("hint")
    if which == "fields":
        return hint_from_fields(request.fields)
    return parse_hint(request.text)
