"""The admin service: the calls of operators. They read the core between two events.

The file mode of the admin socket decides which users may call.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Final, TypeVar, cast

from google.protobuf.message import Message

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.compiled import BUILD
from usmd.core import report
from usmd.core.counters import NAMES
from usmd.core.hints import HintRange
from usmd.core.mapping import KINDS
from usmd.core.region import Process, Region, page_key
from usmd.errors import ConfigError, InvalidArgument, NotFound
from usmd.policies import registry
from usmd.server.admin_drain import DrainRequests
from usmd.server.admin_limits import LimitCalls
from usmd.server.admin_messages import AdminMessages, config_change, latencies, pressure_message
from usmd.server.admin_observing import Observing
from usmd.server.admin_steering import Steering
from usmd.server.admin_swap import SwapCalls
from usmd.server.admission import Context
from usmd.server.ending import Ending
from usmd.server.engine import Engine
from usmd.server.pauses import in_parts
from usmd.server.policy_changes import PolicyChanges
from usmd.server.reload import Reloaded
from usmd.server.swap_devices import SwapDevices
from usmd.server.validation import validate
from usmd.server.watch import Watch
from usmd.version import VERSION

MAX_PAGE: Final = 1000
"""Items in a page, so that even the largest fit in a message of gRPC's usual 4 MiB."""
_TOKEN: Final = re.compile("[0-9]{0,18}")
MAX_CELLS: Final = 65536
DEFAULT_CELLS: Final = 1024
CELL_COSTS: Final = 2048
"""What a cell counts in frames."""
_T = TypeVar("_T")
_Call = TypeVar("_Call", bound=Callable[..., Awaitable[Message]])


def _of_memory(call: _Call) -> _Call:
    """A method that first waits until what has left is out of memory: a touch of a page that it calls absent faults."""

    @wraps(call)
    async def settled(self: AdminService, request: Message, context: Context) -> Message:
        self._engine.memory.settle()
        return await call(self, request, context)

    return cast("_Call", settled)


def paginate(items: Sequence[_T], page_size: int, page_token: str) -> tuple[Sequence[_T], str]:
    """A page of a list and the token of the next one; raises InvalidArgument for an invalid size or token."""
    if page_size < 0 or not _TOKEN.fullmatch(page_token):
        raise InvalidArgument(
            f"page_size {page_size}, page_token {page_token[:40]!r}; use 0 or more, and the token of an earlier answer"
        )
    start = int(page_token or 0)
    end = start + min(page_size or MAX_PAGE, MAX_PAGE)
    return items[start:end], str(end) if end < len(items) else ""


class AdminService(SwapCalls, LimitCalls):
    """usm.v1.AdminService; the methods have the names of the proto.

    `reload` reads the configuration again.
    """

    def __init__(
        self,
        engine: Engine,
        watch: Watch,
        changes: PolicyChanges,
        defaults: dict[str, str],
        *,
        started: float,
        draining: Callable[[], bool],
        ending: Ending,
        reload: Callable[[], Awaitable[Reloaded]],
        swap_devices: SwapDevices,
        state_dir: Path | None = None,
    ) -> None:
        """`state_dir`: where a failed check writes the last events before it; None: nowhere."""
        messages = AdminMessages(engine, changes, defaults)
        SwapCalls.__init__(self, engine, messages, swap_devices, draining)
        LimitCalls.__init__(self, engine)
        self._core = engine.core
        self._watch = watch
        self._steering = Steering(engine)
        self._observing = Observing(engine)
        self._started = started
        self._ending = ending
        self._drains = DrainRequests(engine, ending)
        self._reload = reload
        self._state_dir = state_dir
        self._validating = asyncio.Lock()  # each copies the tables

    @_of_memory
    async def GetStatus(  # noqa: N802
        self, request: admin_pb2.GetStatusRequest, context: Context
    ) -> admin_pb2.GetStatusResponse:
        """State of the daemon at one moment, except dirty frames and counters, which are added up in parts before."""
        del request, context
        dirty = sum([part async for part in in_parts(report.dirty_frames(self._core), 1)])
        totals = report.Totals(self._core.state)
        async for _ in in_parts(totals.steps(), 1):
            pass
        state, cost = self._core.state, self._engine.sampling_cost
        frames, filling, evicting = state.frames, len(state.filling), len(state.evicting)
        devices = [self._messages.swap_device(queue) for queue in self._engine.queues]
        return admin_pb2.GetStatusResponse(
            version=VERSION,
            build=BUILD.text,
            pid=os.getpid(),
            uptime_seconds=self._engine.now() - self._started,
            draining=self._draining(),
            drain_seconds_left=self._ending.seconds_left,
            mechanism=self._engine.memory.name,
            sampling=self._engine.memory.sampling,
            sampling_cpu=0.0 if cost is None else cost.share,
            sampling_cpu_max=0.0 if cost is None else cost.most,
            sampling_rests=cost is not None and cost.rests,
            page_size=state.settings.page_size,
            frames=frames.count,
            free_frames=frames.free,
            filling_frames=filling,
            present_frames=frames.count - frames.free - filling - evicting,
            evicting_frames=evicting,
            dirty_frames=dirty,
            unevictable_frames=state.unevictable,
            pinned_frames=state.pinned,
            held_frames=len(state.holds),
            low_watermark_frames=state.settings.low,
            high_watermark_frames=state.settings.high,
            processes=len(state.processes),
            processes_at_memory_max=sum(each.resident >= each.own_memory_max for each in state.processes.values()),
            processes_at_swap_max=sum(each.stored >= each.own_swap_max for each in state.processes.values()),
            users_at_limits=sum(each.is_at_limit for each in state.users.of.values()),
            frozen_processes=len(self._core.frozen),
            regions=state.region_count,
            swap_slots=state.swap.slots,
            free_swap_slots=state.swap.free,
            retiring_swap_devices=len(self._core.retirement.of),
            swap_capacity_bytes=sum(device.capacity_bytes for device in devices),
            swap_held_bytes=sum(device.held_bytes for device in devices),
            counters=totals.counters.as_dict(),
            latencies=latencies(self._engine),
            pressure=pressure_message(state.stalls.pressure),
        )

    @_of_memory
    async def ListProcesses(  # noqa: N802
        self, request: admin_pb2.ListProcessesRequest, context: Context
    ) -> admin_pb2.ListProcessesResponse:
        """Processes by number, in parts: one that ends meanwhile is left out."""
        del context
        processes = self._core.state.processes
        page, token = paginate(list(processes.values()), request.page_size, request.page_token)
        counters = list(request.counters) or NAMES
        if unknown := set(counters).difference(NAMES):
            raise InvalidArgument(f"counter {min(unknown)[:40]!r} does not exist; there are {', '.join(NAMES)}")
        return admin_pb2.ListProcessesResponse(
            processes=[
                self._messages.process(each, counters)
                async for each in in_parts(page, cost=lambda each: 4 + len(each.regions) // 16)
                if each.process_id in processes
            ],
            next_page_token=token,
        )

    def _regions(self, process_id: int) -> list[Region]:
        if process_id:
            return list(self._core.state.process(process_id).regions.values())
        return list(self._core.state.regions.values())

    @_of_memory
    async def ListRegions(  # noqa: N802
        self, request: admin_pb2.ListRegionsRequest, context: Context
    ) -> admin_pb2.ListRegionsResponse:
        """Regions by number, in parts: one that goes meanwhile is left out."""
        del context
        page, token = paginate(self._regions(request.process_id), request.page_size, request.page_token)
        return admin_pb2.ListRegionsResponse(
            regions=[self._messages.region(region) async for region in in_parts(page) if region.gone is None],
            next_page_token=token,
        )

    async def ListPolicies(  # noqa: N802
        self, request: admin_pb2.ListPoliciesRequest, context: Context
    ) -> admin_pb2.ListPoliciesResponse:
        """Policies by kind and name. Processes are gone over in parts: one that ends meanwhile is left out."""
        del request, context
        processes = self._core.state.processes
        users: dict[tuple[str, str], list[Process]] = {}
        of_processes = []
        async for process in in_parts(list(processes.values()), cost=lambda _process: 8):
            if process.process_id in processes:
                of_processes.append(self._messages.process_policies(process))
                for kind, specification in process.policies.specifications.items():
                    users.setdefault((kind, registry.parse(specification)[0]), []).append(process)
        return admin_pb2.ListPoliciesResponse(
            policies=[
                self._messages.policy(kind, name, users.get((kind, name), ()))
                for kind, table in registry.TABLES.items()
                for name in sorted(table)
            ],
            processes=of_processes,
        )

    async def SetPolicy(  # noqa: N802
        self, request: admin_pb2.SetPolicyRequest, context: Context
    ) -> admin_pb2.SetPolicyResponse:
        """Give a live process other policies."""
        del context
        wanted = {kind: getattr(request, kind) for kind in KINDS if getattr(request, kind)}
        changes = self._steering.set_policies(request.process_id, wanted)
        return admin_pb2.SetPolicyResponse(
            process_id=request.process_id, changes=[self._messages.policy_change(change) for change in changes]
        )

    @_of_memory
    async def GetMemoryMap(  # noqa: N802
        self, request: admin_pb2.GetMemoryMapRequest, context: Context
    ) -> admin_pb2.GetMemoryMapResponse:
        """Memory in cells, in parts: what is in a frame may move meanwhile, to a cell before it or behind it."""
        del context
        if request.cells > MAX_CELLS:
            raise InvalidArgument(f"{request.cells} cells; allowed are 1 to {MAX_CELLS}")
        cells = report.memory_map(self._core, request.cells or DEFAULT_CELLS)
        return admin_pb2.GetMemoryMapResponse(
            cells=[
                admin_pb2.MemoryMapCell(**{name: getattr(cell, name) for name in cell.__struct_fields__})
                async for cell in in_parts(cells, report.FRAMES_A_PART, cost=lambda cell: CELL_COSTS + cell.frames)
            ],
            frames=self._core.state.frames.count,
        )

    @_of_memory
    async def ListHints(  # noqa: N802
        self, request: admin_pb2.ListHintsRequest, context: Context
    ) -> admin_pb2.ListHintsResponse:
        """Hints in force, by region and page."""
        del context
        process = self._core.state.process(request.process_id) if request.process_id else None
        by_region = in_parts(report.hint_ranges(self._core, process), cost=lambda ranges: 1 + len(ranges))
        ranges = [each async for found in by_region for each in found]
        page, token = paginate(ranges, request.page_size, request.page_token)
        state = self._core.state
        return admin_pb2.ListHintsResponse(
            hint_ranges=[self._messages.hint_range(await self._hint_report(region, found)) for region, found in page],
            next_page_token=token,
            kept_pages=[self._messages.kept_pages(each) for each in report.keeping_processes(self._core, process)],
            deny_budget=state.settings.deny_budget,
            deny_budget_total=state.settings.deny_budget_total,
            kept_total=state.unevictable + state.pinned,
        )

    async def ClearHints(  # noqa: N802
        self, request: admin_pb2.ClearHintsRequest, context: Context
    ) -> admin_pb2.ClearHintsResponse:
        """Remove the hints of a range."""
        del context
        length = request.length if request.HasField("length") else None
        return self._steering.clear_hints(request.process_id, request.start, length)

    @_of_memory
    async def ExplainPage(  # noqa: N802
        self, request: admin_pb2.ExplainPageRequest, context: Context
    ) -> admin_pb2.ExplainPageResponse:
        """What the daemon knows of one page, and why it is where it is."""
        del context
        process = self._core.state.process(request.process_id)
        region, page = self._locate(process, request)
        found = region.hints.find(page)
        hint = None if found is None else await self._hint_report(region, found)
        if region.gone is not None:
            raise region.gone
        return self._messages.page(process, region, page, hint)

    async def _hint_report(self, region: Region, found: HintRange) -> report.HintReport:
        """The report of a range, counted in parts."""
        counted = [part async for part in in_parts(report.hinted_frames(self._core, region, found), 1)]
        return report.hint_report(region, found, counted)

    @_of_memory
    async def ListEvictions(  # noqa: N802
        self, request: admin_pb2.ListEvictionsRequest, context: Context
    ) -> admin_pb2.ListEvictionsResponse:
        """The last evictions of a process."""
        del context
        process = self._core.state.process(request.process_id)
        key = None
        if request.WhichOneof("page") is not None:
            region, page = self._locate(process, request)
            key = page_key(region.region_id, page)
        records = report.last_evictions(process, key, request.limit)
        return admin_pb2.ListEvictionsResponse(
            evictions=[self._messages.evicted_page(record) for record in records],
            records=process.evictions.maxlen or 0,
            total=process.counters.evictions,
        )

    def _locate(
        self, process: Process, request: admin_pb2.ExplainPageRequest | admin_pb2.ListEvictionsRequest
    ) -> tuple[Region, int]:
        page_size = self._core.state.settings.page_size
        which = request.WhichOneof("page")
        if which == "address":
            region = process.region_at(request.address)
            if region is None:
                raise NotFound(f"process {process.process_id} has no region at address {request.address:#x}")
            return region, (request.address - region.address) // page_size
        if which is None:
            raise InvalidArgument("no page is given; give an address, or a region and an offset")
        place = request.region_offset
        region = report.find_region(process, place.region_id, place.region_name)
        if place.offset >= region.length:
            raise NotFound(f"region {region.region_id} has {region.length} bytes, none at offset {place.offset}")
        return region, place.offset // page_size

    async def WatchEvents(  # noqa: N802
        self, request: admin_pb2.WatchEventsRequest, context: Context
    ) -> None:
        """Stream events as they happen, until the watcher leaves or the daemon drains."""
        with self._watch.watcher(request.kinds, request.process_ids) as watcher:
            await context.send_initial_metadata(())
            while (event := await watcher.next()) is not None:
                notice = event.notice
                await context.write(
                    admin_pb2.Event(
                        time_seconds=event.time,
                        kind=notice.kind,
                        process_id=notice.process_id,
                        message=notice.message,
                        fields=notice.fields,
                    )
                )

    async def RecordAccesses(  # noqa: N802
        self, request: admin_pb2.RecordAccessesRequest, context: Context
    ) -> None:
        """Stream what a process touches."""
        await self._observing.record(request, context)

    async def ShadowPolicies(  # noqa: N802
        self, request: admin_pb2.ShadowPoliciesRequest, context: Context
    ) -> None:
        """Stream how other policies would do."""
        await self._observing.shadow(request, context)

    async def Validate(  # noqa: N802
        self, request: admin_pb2.ValidateRequest, context: Context
    ) -> admin_pb2.ValidateResponse:
        """Check the state, in parts."""
        del request, context
        async with self._validating:
            return await validate(self._engine, self._state_dir)

    async def Reload(  # noqa: N802
        self, request: admin_pb2.ReloadRequest, context: Context
    ) -> admin_pb2.ReloadResponse:
        """Read the configuration again."""
        del request, context
        try:
            done = await self._reload()
        except ConfigError as error:
            raise ConfigError("; ".join(str(each) for each in error.all)) from error
        return admin_pb2.ReloadResponse(
            applied=[config_change(*each) for each in done.applied],
            needs_restart=[config_change(*each) for each in done.needs_restart],
        )

    async def Drain(  # noqa: N802
        self, request: admin_pb2.DrainRequest, context: Context
    ) -> admin_pb2.DrainResponse:
        """Begin to drain, or to give notice of it."""
        del context
        return await self._drains.answer(request)
