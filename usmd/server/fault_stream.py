"""One stream of faults: takes faults, accesses and regions to unmap, and writes their outcomes, on the loop.

A client that does not read delays its own stream alone: nothing more is taken from the stream until the client reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

import grpc.aio
from google.protobuf.message import Message

from usm_wire.pb.usm.v1 import client_pb2
from usmd.core import events
from usmd.core.region import Process
from usmd.errors import InvalidArgument, NotFound, UsmdError
from usmd.server.engine import Engine
from usmd.server.rpc import check_message
from usmd.server.sessions import Session, Sessions, Stream
from usmd.server.stream_messages import MESSAGE_BYTES, Answer, Loaded, Refused, Stored, message_full, message_of
from usmd.server.transfers import Transfers

MAX_BATCH_FAULTS: Final = 4096
MAX_BATCH_ACCESSES: Final = 4096
PART_PAGES: Final = 128
"""Pages of a batch of faults or accesses handled before the loop has its turn: about a millisecond in full memory. A
fault or an access on more pages is not cut."""
_END_OF_IDS: Final = 1 << 64
_EOF: Final = grpc.aio.EOF


class Wire(Protocol):
    """How a stream's messages travel: gRPC's context of the call, or usmd.server.local_stream.LocalWire."""

    async def read(self) -> Any:  # noqa: ANN401 - as gRPC declares it
        """The next message, Malformed in its place, or grpc.aio.EOF."""

    async def write(self, message: Message, /) -> None:
        """Write a message; waits while the client does not read."""


class FaultStream:
    """Serves one stream of a session."""

    def __init__(self, engine: Engine, transfers: Transfers, sessions: Sessions, session: Session, wire: Wire) -> None:
        """Open a stream; raises LimitExceeded if the session may not have another."""
        self._engine = engine
        self._transfers = transfers
        self._sessions = sessions
        self._session = session
        self._wire = wire
        self._page_size = engine.core.state.settings.page_size
        self._gate = asyncio.Lock()
        self._stream: Stream = session.open_stream()

    async def run(self) -> None:
        """Serve until either side or the session ends; raises the error with which the session ended."""
        session = self._session
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(_: object = None) -> None:
            if not over.done():
                over.set_result(None)

        tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._write_late_outcomes()))
        for task in tasks:
            task.add_done_callback(end)
        self._stream.on_ended = end
        try:
            if not session.ended.is_set():
                await over
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            # Before anything is awaited: gRPC may cancel this call more than once.
            self.close()
            try:
                await self._sessions.stream_ends.turn()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if session.end_error is not None:
            raise session.end_error

    def close(self) -> None:
        """Close the stream; late outcomes are dropped. May be called again."""
        self._sessions.close_stream(self._session, self._stream)

    async def _read(self) -> None:
        while (message := await self._wire.read()) is not _EOF:
            check_message(message)
            faults, accesses = message.faults, message.accesses
            if message.hear_session:
                self._sessions.hear(self._stream)
            if message.pressure_thresholds:
                self._sessions.hear_pressure(self._session, self._stream, message.pressure_thresholds)
            if message.unmapped_region_ids:
                await self._unmap(message.unmapped_region_ids)
            batches = message.page_batches
            if len(faults) > MAX_BATCH_FAULTS or batches:
                _check_faults(message)
            if accesses:
                if len(accesses) > MAX_BATCH_ACCESSES:
                    raise InvalidArgument(f"{len(accesses)} accesses in one message; allowed are {MAX_BATCH_ACCESSES}")
                await self._file_all(faults)
                await self._file_batches(batches)
                await self._access_all(accesses)
            else:
                await self._file_all(faults)
                await self._file_batches(batches)
                await self._flush()

    async def _unmap(self, region_ids: Sequence[int]) -> None:
        """Unmap regions, with a turn of the loop after each; regions that a call has unmapped already are skipped."""
        for region_id in region_ids:
            if self._session.ended.is_set():
                return
            with contextlib.suppress(NotFound):
                self._engine.submit(events.Unmap(self._session.process_id, region_id))
            await asyncio.sleep(0)

    async def _file_all(self, faults: Sequence[client_pb2.Fault]) -> None:
        """File a batch of faults; outcomes of its last part stay in the outbox."""
        part: list[events.FaultRequest] = []
        pages = 0
        for fault in faults:
            count = fault.page_count
            if part and pages + count > PART_PAGES:
                await self._file(part, pages)
                await self._flush()
                part, pages = [], 0
                await asyncio.sleep(0)
            part.append(events.FaultRequest(fault.fault_id, fault.region_id, fault.first_page, count, fault.write))
            pages += count
        if part:
            await self._file(part, pages)

    async def _file(self, part: list[events.FaultRequest], pages: int) -> None:
        """File part of a batch, which is about so many pages.

        While the session's faults wait for `max_faults` pages, no more are filed; the last of them may exceed it.
        """
        while part and (process := await self._with_room()) is not None:
            room = process.fault_room
            count = len(part) if pages <= room else _fitting(part, room)
            faults = part if count == len(part) else part[:count]
            self._submit(events.Faults(self._session.process_id, faults, self._stream.index), process)
            part = part[count:]

    async def _with_room(self) -> Process | None:
        """The process, once its faults wait for fewer pages than they may; None if its session has ended."""
        session = self._session
        process = self._engine.core.state.processes.get(session.process_id)
        while process is not None and not session.ended.is_set():
            if process.fault_room > 0:
                return process
            session.room.clear()
            await self._flush()
            await session.room.wait()
        return None

    async def _file_batches(self, batches: Sequence[client_pb2.PageBatch]) -> None:
        """File batches of faults on single pages, as `_file_all` and `_file` do; outcomes stay in the outbox."""
        session, index = self._session, self._stream.index
        pages = 0
        for batch in batches:
            first_id, region_id, write = batch.first_fault_id, batch.region_id, batch.write
            left: Sequence[int] = batch.pages
            while left:
                if pages >= PART_PAGES:
                    await self._flush()
                    pages = 0
                    await asyncio.sleep(0)
                process = await self._with_room()
                if process is None:
                    return
                part = left[: min(process.fault_room, PART_PAGES - pages)]
                self._submit(events.PageBatch(session.process_id, region_id, first_id, part, write, index), process)
                pages += len(part)
                first_id += len(part)
                left = left[len(part) :]

    def _submit(self, event: events.Faults | events.PageBatch, process: Process) -> None:
        """File faults, and answer those that are served at once."""
        stream, engine = self._stream, self._engine
        stalls = engine.core.state.stalls
        began, waited, waiting = engine.now(), process.stall.waits, stalls.waiting
        stream.direct = True
        try:
            engine.submit(event)
        finally:
            stream.direct = False
        now = engine.now()
        stalls.served(process, waited, waiting, now - began, now)

    async def _access_all(self, accesses: Sequence[client_pb2.Access]) -> None:
        """Do accesses in their order and write the answers, of which about MESSAGE_BYTES may wait to be written."""
        stream = self._stream
        pages = size = 0
        for access in accesses:
            if size >= MESSAGE_BYTES:
                await self._flush()
                size = 0
            count = self._pages(access)
            if pages and pages + count > PART_PAGES:
                await asyncio.sleep(0)
                pages = 0
            pages += count
            if self._session.ended.is_set():
                return
            stream.direct = True
            try:
                answer = self._access(access)
            finally:
                stream.direct = False
            stream.outbox.append(answer)
            size += answer.size
        await self._flush()

    def _pages(self, access: client_pb2.Access) -> int:
        """About how many pages an access asks for, which may be more than is allowed."""
        length = access.load.length if access.HasField("load") else access.ByteSize()
        return length // self._page_size + 1

    def _access(self, access: client_pb2.Access) -> Answer:
        access_id = access.access_id
        process_id = self._session.process_id
        try:
            match access.WhichOneof("access"):
                case "load":
                    return Loaded(access_id, *self._transfers.load(process_id, access.load))
                case "store":
                    return Stored(access_id, *self._transfers.store(process_id, access.store))
            raise InvalidArgument(f"access {access_id} is neither a load nor a store; set one of them")
        except UsmdError as error:
            return Refused(access_id, error)

    async def _write_late_outcomes(self) -> None:
        wake = self._stream.wake
        while True:
            await wake.wait()
            wake.clear()
            await self._flush()

    async def _flush(self) -> None:
        """Write the outbox; waits while the client does not read."""
        outbox = self._stream.outbox
        async with self._gate:
            while outbox:
                entries = message_full(outbox)
                del outbox[: len(entries)]
                message = message_of(entries)
                process = self._engine.core.state.processes.get(self._session.process_id)
                if process is not None and message.accessed:
                    message.over_budget_pages = self._session.newly_over_budget(process.counters.deny_over_budget)
                await self._wire.write(message)


def _check_faults(message: client_pb2.StreamFaultsRequest) -> None:
    """Raise InvalidArgument for more faults in a message than are allowed, or for a batch whose numbers overflow."""
    batches = message.page_batches
    count = len(message.faults) + max(len(batches), sum([len(batch.pages) for batch in batches]))
    if count > MAX_BATCH_FAULTS:
        raise InvalidArgument(f"{count} faults in one message; allowed are {MAX_BATCH_FAULTS}")
    for batch in batches:
        if batch.first_fault_id + len(batch.pages) > _END_OF_IDS:
            raise InvalidArgument(
                f"a batch of {len(batch.pages)} faults from number {batch.first_fault_id} on; allowed are numbers "
                "below 2^64"
            )


def _fitting(part: Sequence[events.FaultRequest], room: int) -> int:
    """How many faults there is room for; the last one may be about more pages than are left."""
    for index, fault in enumerate(part, 1):
        room -= fault.page_count
        if room <= 0:
            return index
    return len(part)
