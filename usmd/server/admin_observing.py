"""Streams a live process's touches to an operator, or how other policies would do on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.core.region import Process
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.mechanism.simulated import SimulatedMemory
from usmd.server.admission import Context
from usmd.server.engine import Engine
from usmd.server.policy_check import check_policy
from usmd.server.recordings import Recording
from usmd.server.shadows import MAX_SIMULATIONS, Shadow, check_size

INTERVALS: Final = (0.05, 3600.0)
"""Shortest and longest time between reports, in seconds."""


class Observing:
    """The open streams: at most one recording and one shadow a process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorded: set[int] = set()
        self._shadowed: set[int] = set()

    @property
    def _faults_only(self) -> bool:
        """Whether the daemon sees no touches of present pages, except the first write to a clean one."""
        return not isinstance(self._engine.memory, SimulatedMemory)

    def _frames(self, process: Process) -> int:
        """Frames that a process may have when memory is short, including those that it keeps by hints or pins."""
        return MemoryView(self._engine.core.state, process).capacity + max(process.unevictable, process.pinned)

    async def record(self, request: admin_pb2.RecordAccessesRequest, context: Context) -> None:
        """Stream what a process touches, until it ends or the reader leaves; raises NotFound or LimitExceeded."""
        process = self._engine.core.state.process(request.process_id)
        with _alone(self._recorded, process, "recorded"):
            recording = Recording(self._engine.now())
            with self._engine.taps.listening(process, recording):
                header = admin_pb2.RecordingHeader(
                    process_id=process.process_id,
                    process_name=process.name,
                    started_seconds=time.time(),
                    page_size=self._engine.core.state.settings.page_size,
                    frames=self._frames(process),
                    evict_policy=process.policies.specifications["evict"],
                    mechanism=self._engine.memory.name,
                    sampling=self._engine.memory.sampling,
                    faults_only=self._faults_only,
                )
                await context.write(admin_pb2.RecordedAccesses(header=header))
                async for message in recording.messages():
                    await context.write(message)

    async def shadow(self, request: admin_pb2.ShadowPoliciesRequest, context: Context) -> None:
        """Stream how simulations do on what a process touches, until it ends or the reader leaves.

        Raises NotFound, LimitExceeded, UnknownPolicy or InvalidArgument.
        """
        state = self._engine.core.state
        process = state.process(request.process_id)
        policies = list(request.evict_policies)
        interval = request.interval_seconds or 1.0
        if not 1 <= len(policies) <= MAX_SIMULATIONS:
            raise InvalidArgument(f"{len(policies)} policies to shadow; allowed are 1 to {MAX_SIMULATIONS}")
        if not INTERVALS[0] <= interval <= INTERVALS[1]:
            raise InvalidArgument(f"interval_seconds {interval:g}; allowed are {INTERVALS[0]:g} to {INTERVALS[1]:g}")
        frames, sample = request.frames or self._frames(process), request.sample or 1
        check_size(len(policies) + 1, frames, sample)
        for each in policies:
            check_policy("evict", each, state.running)
        with _alone(self._shadowed, process, "shadowed"):
            started = self._engine.now()
            shadow = Shadow(process, policies, frames, sample, state.settings, state.running, self._engine.now)
            shadow.begin(started)
            with self._engine.taps.listening(process, shadow):
                await self._report(shadow, process, interval, started, context)

    async def _report(
        self, shadow: Shadow, process: Process, interval: float, started: float, context: Context
    ) -> None:
        worker = asyncio.create_task(shadow.work())
        over = asyncio.create_task(shadow.over.wait())
        try:
            while not over.done():
                await context.write(self._shadow_report(shadow, process, started))
                await asyncio.wait({worker, over}, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
                if worker.done():
                    worker.result()  # only a defect ends it: raise that
            await context.write(self._shadow_report(shadow, process, started))
        finally:
            worker.cancel()
            over.cancel()

    def _shadow_report(self, shadow: Shadow, process: Process, started: float) -> admin_pb2.ShadowReport:
        now = self._engine.now()
        standings = shadow.standings(now)
        first = standings[0].miss_ratio
        elapsed = max(now - started, 1e-9)
        return admin_pb2.ShadowReport(
            process_id=process.process_id,
            process_name=process.name,
            seconds=now - started,
            accesses=shadow.accesses,
            looked_at=shadow.looked_at,
            dropped=shadow.dropped,
            frames=shadow.frames,
            sample=shadow.sample,
            live_policy=process.policies.specifications["evict"],
            live_misses=shadow.live_misses,
            live_miss_ratio=shadow.live_misses / max(shadow.accesses, 1),
            simulations=[
                admin_pb2.ShadowSimulation(
                    policy=each.simulation.specification,
                    accesses=each.accesses,
                    misses=each.misses,
                    miss_ratio=each.miss_ratio,
                    recent_miss_ratio=each.recent_miss_ratio,
                    difference=each.miss_ratio - first,
                    microseconds_an_access=1e6 * each.simulation.seconds / max(each.accesses, 1),
                    policy_errors=each.simulation.errors,
                    problem=each.simulation.problem,
                    stopped=each.simulation.stopped,
                )
                for each in standings
            ],
            microseconds_an_access=1e6 * shadow.seconds / max(shadow.looked_at, 1),
            wall_share=shadow.seconds / elapsed,
            faults_only=self._faults_only,
            sampling=self._engine.memory.sampling,
            ended=shadow.reason,
        )


@contextmanager
def _alone(taken: set[int], process: Process, what: str) -> Iterator[None]:
    """Reserve a process for one stream of a kind; raises LimitExceeded while another is open."""
    if process.process_id in taken:
        raise LimitExceeded(f"process {process.process_id} ({process.name}) is {what} already; end that first")
    taken.add(process.process_id)
    try:
        yield
    finally:
        taken.discard(process.process_id)
