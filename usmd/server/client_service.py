"""The client service: what an application may ask. Every call but Attach is made in the name of its session's token.

Covers the wire: tokens, messages, and back-pressure. A stream whose client does not read holds up that stream alone,
because no further faults are taken from it until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc.aio

from lib_usm.pb.usm.v1 import client_pb2, common_pb2
from usmd.core import commands, events
from usmd.core.hints import Hint, parse_hint
from usmd.core.region import Region, page_key
from usmd.errors import InvalidArgument, OutOfRange, UsmdError
from usmd.server.engine import Engine, Touch
from usmd.server.hint_messages import hint_from_fields
from usmd.server.rpc import Context, check_message
from usmd.server.sessions import Session, Sessions

TOKEN_KEY: Final = "usm-session-token"  # noqa: S105 - the name of a key
MAX_TRANSFER_BYTES: Final = 1 << 20
MAX_BATCH_FAULTS: Final = 4096
MAX_MISSING_PAGES: Final = 16384
"""Pages that the faults of one session wait for, beyond which its stream is not read."""
PART_PAGES: Final = 512
"""Pages of a batch of faults handled at a stretch; then the loop has its turn."""
REQUEST_LIMITS: Final = {"Store": (2 << 20) + (64 << 10), "StreamFaults": 256 << 10}
"""Bytes of a request message, where they are not the usual ones: a page is at most 2 MiB, a batch 4,096 faults."""
_MESSAGE_RUNS: Final = 16384
"""Outcomes and runs of pages in one message, which so stays well below 1 MiB."""
_EOF: Final = grpc.aio.EOF


class ClientService:
    """usm.v1.ClientService; the methods have the names of the proto."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self._engine = engine
        self._sessions = sessions
        self._page_size = engine.core.state.settings.page_size

    def _session(self, context: Context) -> Session:
        for key, value in context.invocation_metadata() or ():
            if key == TOKEN_KEY:
                return self._sessions.find(value if isinstance(value, str) else None)
        return self._sessions.find(None)

    async def Attach(  # noqa: N802
        self, request: client_pb2.AttachRequest, context: Context
    ) -> client_pb2.AttachResponse:
        """Begin a session."""
        del context
        session = self._sessions.attach(request.name, request.ticket)
        return client_pb2.AttachResponse(
            session_token=session.token,
            process_id=session.process_id,
            page_size=self._page_size,
            max_transfer_bytes=max(MAX_TRANSFER_BYTES, self._page_size),
            max_fault_pages=self._engine.core.state.settings.max_fault_pages,
            max_batch_faults=MAX_BATCH_FAULTS,
            mechanism=self._engine.memory.name,
        )

    async def Detach(  # noqa: N802
        self, request: client_pb2.DetachRequest, context: Context
    ) -> client_pb2.DetachResponse:
        """End the session."""
        del request
        self._sessions.end(self._session(context), "detached")
        return client_pb2.DetachResponse()

    async def MapRegion(self, request: client_pb2.MapRegionRequest, context: Context) -> client_pb2.Region:  # noqa: N802
        """Make a region."""
        session = self._session(context)
        mapped = self._engine.map(events.Map(session.process_id, request.length, request.name))
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
        session = self._session(context)
        self._engine.submit(events.Unmap(session.process_id, request.region_id))
        return client_pb2.UnmapRegionResponse()

    async def HintRegion(  # noqa: N802
        self, request: client_pb2.HintRegionRequest, context: Context
    ) -> client_pb2.HintRegionResponse:
        """Put a hint on a range, or clear it."""
        session = self._session(context)
        answer = self._engine.submit(
            events.SetHint(
                session.process_id, request.region_id, request.offset, request.length or None, _hint_of(request)
            )
        )
        if not isinstance(answer, commands.HintSet):
            raise TypeError(f"the core answered {answer!r} to SetHint")
        return client_pb2.HintRegionResponse(
            hint_id=answer.hint_id,
            first_page=answer.first_page,
            page_count=answer.page_count,
            over_budget_pages=answer.over_budget,
        )

    async def PinRegion(  # noqa: N802
        self, request: client_pb2.PinRegionRequest, context: Context
    ) -> client_pb2.PinRegionResponse:
        """Keep pages in memory."""
        session = self._session(context)
        answer = self._engine.submit(
            events.Pin(session.process_id, request.region_id, request.first_page, request.page_count)
        )
        if not isinstance(answer, commands.Pinned):
            raise TypeError(f"the core answered {answer!r} to Pin")
        return client_pb2.PinRegionResponse(absent_pages=answer.absent)

    async def UnpinRegion(  # noqa: N802
        self, request: client_pb2.UnpinRegionRequest, context: Context
    ) -> client_pb2.UnpinRegionResponse:
        """Let pages go again."""
        session = self._session(context)
        self._engine.submit(events.Unpin(session.process_id, request.region_id, request.first_page, request.page_count))
        return client_pb2.UnpinRegionResponse()

    async def Load(self, request: client_pb2.LoadRequest, context: Context) -> client_pb2.LoadResponse:  # noqa: N802
        """Read what is resident."""
        session = self._session(context)
        length = request.length
        page, within = divmod(request.offset, self._page_size)
        first = page_key(request.region_id, page)
        data = b""

        def load(frames: Sequence[int]) -> None:
            nonlocal data
            resident = min(length, max(len(frames) * self._page_size - within, 0))
            data = self._engine.memory.load(frames, first, within, resident)

        accessed = self._access(session, request.region_id, request.offset, length, load, write=False)
        return client_pb2.LoadResponse(data=data, absent_pages=accessed.absent)

    async def Store(self, request: client_pb2.StoreRequest, context: Context) -> client_pb2.StoreResponse:  # noqa: N802
        """Write where it is resident."""
        session = self._session(context)
        page, within = divmod(request.offset, self._page_size)
        first = page_key(request.region_id, page)
        stored = 0

        def store(frames: Sequence[int]) -> None:
            nonlocal stored
            stored = self._engine.memory.store(frames, first, within, memoryview(request.data))

        accessed = self._access(session, request.region_id, request.offset, len(request.data), store, write=True)
        return client_pb2.StoreResponse(stored=stored, absent_pages=accessed.absent)

    def _access(
        self, session: Session, region_id: int, offset: int, length: int, touch: Touch, *, write: bool
    ) -> commands.Accessed:
        region: Region = self._engine.core.state.region(session.process_id, region_id)
        limit = max(MAX_TRANSFER_BYTES, self._page_size)
        if not 1 <= length <= limit:
            raise InvalidArgument(f"{length} bytes in one call; allowed are 1 to {limit}")
        if offset + length > region.length:
            raise OutOfRange(
                f"bytes {offset} to {offset + length - 1} of region {region_id}, which has {region.length} bytes"
            )
        first = offset // self._page_size
        count = (offset + length - 1) // self._page_size - first + 1
        return self._engine.access(events.Access(session.process_id, region_id, first, count, write), touch)

    async def StreamFaults(self, context: Context) -> None:  # noqa: N802
        """Take faults and give outcomes until either side ends; the session ends with its stream."""
        session = self._session(context)
        if session.streaming:
            raise InvalidArgument("this session has a fault stream already; there is one per session")
        session.streaming = True
        gate = asyncio.Lock()
        reader = asyncio.create_task(self._read_faults(session, context, gate))
        writer = asyncio.create_task(self._write_late_outcomes(session, context, gate))
        ended = asyncio.create_task(session.ended.wait())
        tasks = (reader, writer, ended)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # Before anything is awaited: gRPC may cancel this call more than once.
            self._sessions.end(session, "its fault stream ended")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if session.end_error is not None:
            raise session.end_error

    async def _read_faults(self, session: Session, context: Context, gate: asyncio.Lock) -> None:
        while (message := await context.read()) is not _EOF:
            check_message(message)
            faults = message.faults
            if len(faults) > MAX_BATCH_FAULTS:
                raise InvalidArgument(f"{len(faults)} faults in one message; allowed are {MAX_BATCH_FAULTS}")
            part: list[events.FaultRequest] = []
            pages = 0
            for fault in faults:
                count = fault.page_count
                if part and pages + count > PART_PAGES:
                    await self._handle_faults(session, part, context, gate)
                    part, pages = [], 0
                    await asyncio.sleep(0)
                part.append(events.FaultRequest(fault.fault_id, fault.region_id, fault.first_page, count, fault.write))
                pages += count
            await self._handle_faults(session, part, context, gate)

    async def _handle_faults(
        self, session: Session, part: list[events.FaultRequest], context: Context, gate: asyncio.Lock
    ) -> None:
        """Part of a batch; waits until the client has read what came of it, and there is room for more."""
        if session.ended.is_set():
            return
        session.direct = True
        try:
            self._engine.submit(events.Faults(session.process_id, part))
        finally:
            session.direct = False
        await _flush(session, context, gate)
        while self._missing(session) > MAX_MISSING_PAGES:
            session.room.clear()
            await session.room.wait()

    def _missing(self, session: Session) -> int:
        """Pages that the session's unanswered faults wait for."""
        process = self._engine.core.state.processes.get(session.process_id)
        return 0 if process is None else process.missing

    async def _write_late_outcomes(self, session: Session, context: Context, gate: asyncio.Lock) -> None:
        while True:
            await session.wake.wait()
            session.wake.clear()
            await _flush(session, context, gate)


async def _flush(session: Session, context: Context, gate: asyncio.Lock) -> None:
    """Write what is in the outbox; waits as long as the client does not read."""
    async with gate:
        while session.outbox:
            outcomes = _message_full(session.outbox)
            del session.outbox[: len(outcomes)]
            await context.write(_message_of(outcomes))


def _message_full(outbox: Sequence[commands.Outcome]) -> Sequence[commands.Outcome]:
    """As many of the first outcomes as one message takes."""
    size = 0
    for count, outcome in enumerate(outbox):
        size += 1 + (len(outcome.runs) if isinstance(outcome, commands.Allocated) else 0)
        if size > _MESSAGE_RUNS and count:
            return outbox[:count]
    return outbox[:]


def _message_of(outcomes: Sequence[commands.Outcome]) -> client_pb2.StreamFaultsResponse:
    message = client_pb2.StreamFaultsResponse()
    add = message.outcomes.add
    for outcome in outcomes:
        entry = add()
        entry.fault_id = outcome.fault_id
        if isinstance(outcome, commands.Allocated):
            allocated = entry.allocated
            if outcome.yield_token:
                allocated.yield_token = outcome.yield_token
            runs = allocated.runs
            for first_page, first_frame, page_count in outcome.runs:
                run = runs.add()  # field by field, because keywords take half as long again
                run.first_page = first_page
                run.first_frame = first_frame
                run.page_count = page_count
            if not outcome.runs:
                allocated.SetInParent()
        elif isinstance(outcome, commands.Yielded):
            entry.yielded.yield_token = outcome.yield_token
        else:
            failure = entry.failure
            failure.reason = failure_reason(outcome.error)
            failure.message = str(outcome.error)
            failure.page = max(outcome.page, 0)
            failure.yield_token = outcome.yield_token
    return message


def failure_reason(error: UsmdError) -> common_pb2.FailureReason.ValueType:
    """The wire's name for an error's cause."""
    return common_pb2.FailureReason.Value(f"FAILURE_REASON_{error.reason}")


def _hint_of(request: client_pb2.HintRegionRequest) -> Hint | None:
    which = request.WhichOneof("hint")
    if which == "fields":
        return hint_from_fields(request.fields)
    return parse_hint(request.text)
