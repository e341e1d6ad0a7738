"""The client service: the calls of applications. Every call but Attach carries the token of its session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from usm_wire.conventions import OVER_BUDGET_KEY, TOKEN_KEY
from usm_wire.pb.usm.v1 import client_pb2
from usmd.core import commands, events
from usmd.policy_rules import Choice
from usmd.server.admission import Context, metadata_of
from usmd.server.engine import Engine
from usmd.server.fault_stream import MAX_BATCH_FAULTS, FaultStream
from usmd.server.session_calls import EMPTIED_SECONDS, SessionCalls
from usmd.server.sessions import Session, Sessions
from usmd.server.transfers import Transfers

REQUEST_LIMITS: Final = {"Store": (2 << 20) + (64 << 10), "StreamFaults": (2 << 20) + (512 << 10)}
"""Most bytes of a request message, for methods with more than the usual limit. A page is at most 2 MiB. A message of a
stream holds stores of as many bytes as one store may move, beside 4,096 faults and the fields of 4,096 accesses."""


Admit = Callable[[int | None, int | None], Awaitable[None]]
"""Admits a call of a process (pid, uid), or raises LimitExceeded."""


class ClientService:
    """usm.v1.ClientService; the methods have the names of the proto."""

    def __init__(self, engine: Engine, sessions: Sessions, calls: SessionCalls, admit: Admit) -> None:
        self._engine = engine
        self._calls = calls
        self._sessions = sessions
        self._admit = admit
        self._page_size = engine.core.state.settings.page_size
        self._transfers = Transfers(engine)

    def _session(self, context: Context) -> Session:
        return self._sessions.find(metadata_of(context, TOKEN_KEY))

    def _caller(self, context: Context) -> Session:
        """The session of a unary call, whose answer has the pages that DENY could not keep if they have doubled."""
        session = self._session(context)
        count = session.newly_over_budget(self._calls.process(session).counters.deny_over_budget)
        if count:
            context.set_trailing_metadata(((OVER_BUDGET_KEY, str(count)),))
        return session

    async def Attach(  # noqa: N802
        self, request: client_pb2.AttachRequest, context: Context
    ) -> client_pb2.AttachResponse:
        """Begin a session."""
        del context
        session = self._sessions.attach(request.name, request.ticket, Choice(request.alloc, request.evict))
        try:
            await self._check_connections(session)
        except BaseException:  # raised again
            self._sessions.end(session, "its connection was too many")
            raise
        state = self._engine.core.state
        return client_pb2.AttachResponse(
            session_token=session.token,
            process_id=session.process_id,
            page_size=self._page_size,
            max_transfer_bytes=self._transfers.limit,
            max_fault_pages=state.settings.max_fault_pages,
            max_batch_faults=MAX_BATCH_FAULTS,
            mechanism=self._engine.memory.name,
            capacity_bytes=self._engine.capacity,
        )

    async def Detach(  # noqa: N802
        self, request: client_pb2.DetachRequest, context: Context
    ) -> client_pb2.DetachResponse:
        """End the session."""
        del request
        session = self._caller(context)
        regions = list(self._calls.process(session).regions)
        self._sessions.end(session, "detached")
        await self._until_emptied(regions)
        return client_pb2.DetachResponse()

    async def MapRegion(self, request: client_pb2.MapRegionRequest, context: Context) -> client_pb2.Region:  # noqa: N802
        """Make a region."""
        return self._calls.map(self._caller(context), request)

    async def UnmapRegion(  # noqa: N802
        self, request: client_pb2.UnmapRegionRequest, context: Context
    ) -> client_pb2.UnmapRegionResponse:
        """Give a region back."""
        self._calls.unmap(self._caller(context), request.region_id)
        await self._until_emptied([request.region_id])
        return client_pb2.UnmapRegionResponse()

    async def _until_emptied(self, regions: Sequence[int]) -> None:
        """Wait up to EMPTIED_SECONDS until regions hold nothing, so that a client finds no byte after the answer."""
        latest = self._engine.now() + EMPTIED_SECONDS
        for region_id in regions:  # one after another, because there may be very many
            while not self._calls.is_emptied(region_id) and self._engine.now() < latest:  # noqa: ASYNC110 - threads do it
                await asyncio.sleep(0.001)

    async def HintRegion(  # noqa: N802
        self, request: client_pb2.HintRegionRequest, context: Context
    ) -> client_pb2.HintRegionResponse:
        """Put a hint on a range, or clear it."""
        return await self._calls.hint(self._caller(context), request)

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
        """End pins of pages."""
        session = self._caller(context)
        self._engine.submit(events.Unpin(session.process_id, request.region_id, request.first_page, request.page_count))
        return client_pb2.UnpinRegionResponse()

    async def Load(self, request: client_pb2.LoadRequest, context: Context) -> client_pb2.LoadResponse:  # noqa: N802
        """Read bytes of resident pages, once few answers to earlier calls are unread."""
        unread = self._caller(context).unread_loads
        await unread.acquire()
        context.add_done_callback(lambda _: unread.release())  # type: ignore[arg-type] # the stub wants a class of its own
        data, absent = self._transfers.load(self._caller(context).process_id, request)
        return client_pb2.LoadResponse(data=data, absent_pages=absent)

    async def Store(self, request: client_pb2.StoreRequest, context: Context) -> client_pb2.StoreResponse:  # noqa: N802
        """Write bytes of resident pages."""
        stored, absent = self._transfers.store(self._caller(context).process_id, request)
        return client_pb2.StoreResponse(stored=stored, absent_pages=absent)

    async def GetKept(  # noqa: N802
        self, request: client_pb2.GetKeptRequest, context: Context
    ) -> client_pb2.GetKeptResponse:
        """What the session keeps in memory."""
        del request
        process = self._calls.process(self._caller(context))
        core = self._engine.core
        return client_pb2.GetKeptResponse(
            unevictable_pages=process.unevictable,
            pinned_pages=process.pinned,
            budget_pages=core.life.budget(process),
            room_pages=max(core.life.kept_room(process), 0),
            refused_pages=process.counters.deny_over_budget,
        )

    async def StreamFaults(self, context: Context) -> None:  # noqa: N802
        """Take faults and accesses and send their outcomes, until either side ends."""
        session = self._session(context)
        if session.opened:  # the session's own stream comes on the connection of its Attach
            await self._check_connections(session)
        stream = FaultStream(self._engine, self._transfers, self._sessions, session, context)
        try:
            # Not with the first message: if the stream ends during that, gRPC sends them again, and then no status.
            await context.send_initial_metadata(())
        except BaseException:  # raised again
            stream.close()
            raise
        await stream.run()

    async def _check_connections(self, session: Session) -> None:
        """Raise LimitExceeded if the call's connection may be one too many; Attach and StreamFaults can open one."""
        process = self._calls.process(session)
        await self._admit(process.pid, process.uid)
