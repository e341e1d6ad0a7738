"""The daemon's life: locks, devices, sockets, ready, drain.

To drain: health reports NOT_SERVING and new sessions are refused, from a notice on if there is one (see `ending`).
Then sessions end, both servers stop within the grace, the devices finish and close, and what was created is removed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Final

import uvloop

from usm_wire.pb.usm.v1 import admin_pb2, client_pb2
from usm_wire.places import IDENTITY_SUFFIX, MEMORY_SUFFIX
from usmd import log
from usmd.config import Config
from usmd.config_source import Source
from usmd.core.commands import Notice
from usmd.core.glance import disagreement
from usmd.core.running import Running
from usmd.errors import ConfigError
from usmd.mechanism import choose, uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.policies import registry
from usmd.runtime_paths import CALLS_SUFFIX
from usmd.server.admin_service import AdminService
from usmd.server.admission import Admission
from usmd.server.audit import audited
from usmd.server.client_service import ClientService
from usmd.server.collector import collect_rarely
from usmd.server.connections import Connections
from usmd.server.core_settings import core_settings
from usmd.server.cpu_clock import CpuClock
from usmd.server.descriptors import Shares, raise_limit
from usmd.server.ending import Ending
from usmd.server.endpoints import Endpoints
from usmd.server.engine import Engine
from usmd.server.event_log import EventLog
from usmd.server.excess import Sessions as Holders
from usmd.server.grpc_endpoint import GrpcEndpoint
from usmd.server.identity import Identities
from usmd.server.lock import SocketLock
from usmd.server.loop_watch import LoopWatch
from usmd.server.memory_socket import MemorySocket
from usmd.server.metrics import Metrics
from usmd.server.notify import Notifier
from usmd.server.operators import Operators
from usmd.server.page_reading import PageReading
from usmd.server.policy_changes import PolicyChanges
from usmd.server.policy_check import check_policies
from usmd.server.policy_watch import PolicyWatch
from usmd.server.pressure_watch import PressureWatch
from usmd.server.reload import Parts, Reload, Reloaded
from usmd.server.sampling_cost import SamplingCost
from usmd.server.session_calls import SessionCalls
from usmd.server.sessions import Sessions
from usmd.server.signals import MEANINGS, Meaning, Signals, name_of
from usmd.server.swap_devices import SwapDevices, close_quietly
from usmd.server.touch_sampling import TouchSampling
from usmd.server.wakeup_choice import parse_wakeup
from usmd.server.watch import Watch
from usmd.swap.base import SwapDevice
from usmd.swap.open import open_devices
from usmd.version import VERSION

TICK_SECONDS: Final = 0.1
_UNWATCHED: Final = "the thread that watches the event loop has ended"


class Daemon:
    """One run of usmd."""

    def __init__(
        self,
        config: Config,
        devices: list[SwapDevice],
        signals: Signals,
        cpu_clock: CpuClock,
        running: Running,
        shares: Shares,
        locks: Sequence[SocketLock],
        event_log: EventLog | None,
        clock: Callable[[], float],
        source: Source,
    ) -> None:
        """`locks`: of the clients' and of the operators' socket. `clock`: for all parts; seconds, never falling.

        `source`: where `config` comes from, to be read again.
        """
        self._config = config
        self._notifier = Notifier()
        self._tasks: set[asyncio.Task[Reloaded] | asyncio.Task[None]] = set()
        """Those that nothing waits for."""
        self._signals = signals
        self._locks = locks
        memory = config.memory
        offer = uffd.probe()
        mechanism, self._why_not_real = choose.make(memory.mechanism, memory.frames, memory.page_size, offer, clock)
        settings = core_settings(memory, config.policy, sum(device.slots for device in devices))
        self.engine = Engine(
            settings, mechanism, devices, cpu_clock, event_log,
            config.server.device_timeout, running, clock,
        )  # fmt: skip
        self.watch = Watch()
        self.policy_changes = PolicyChanges(clock)
        self.engine.on_notice = self._notice
        server = config.server
        self._pressure = PressureWatch(self.engine.core.state, self._notice, server.pressure_threshold, clock())
        self._identities = Identities(
            timeout=server.attach_timeout, of_user=server.max_user_connections, in_all=shares.connections, clock=clock
        )
        self.sessions = Sessions(
            self.engine,
            self._identities,
            config.policy,
            max_sessions=server.max_sessions,
            of_user=server.max_user_sessions,
            attach_timeout=config.server.attach_timeout,
        )
        self._pressure.on_advanced = self.sessions.pressure.tell
        self._calls = SessionCalls(self.engine, shares if isinstance(mechanism, UserfaultfdMemory) else None)
        self._memory_socket: MemorySocket | None = None
        if isinstance(mechanism, UserfaultfdMemory):
            cost = SamplingCost(memory.sampling_cpu, cpu_clock)
            sampling = TouchSampling(self.engine, mechanism, offer.features, cost=cost)
            self._memory_socket = MemorySocket(
                self.engine,
                mechanism,
                self.sessions,
                self._calls,
                parse_wakeup(memory.fault_wakeup, clock),
                offer.features & (uffd.REQUIRED | uffd.WANTED) | sampling.features | mechanism.features,
                sampling=sampling,
                timeout=config.server.attach_timeout,
                of_user=server.max_user_connections,
                in_all=shares.memory_connections,
            )
        self._connections = Connections(
            locks[0].place(), self._holders, of_user=server.max_user_connections, in_all=shares.connections, clock=clock
        )
        self._ending = Ending(
            self.engine, self.sessions, self._notice, self._notifier,
            grace=server.drain_grace, notice=server.drain_notice,
        )  # fmt: skip
        self._ending.given = self._notice_given
        self._admission = Admission(lambda token: self.sessions.find(token).reads, self._identities.turns)
        self._served: list[GrpcEndpoint] = []
        self.metrics = Metrics(
            self.engine,
            processes=config.metrics.processes,
            most_sessions=lambda: self.sessions.max_sessions,
            draining=lambda: self.sessions.draining,
        )
        reading = PageReading(self.engine, lambda: self.sessions.draining, lambda: self._ending.seconds_left)
        self._endpoints = Endpoints(self.metrics, reading, locks[1].place)
        self._operators = Operators(locks[1].place(CALLS_SUFFIX), server.max_user_connections, shares.operators)
        self._defaults = {kind: getattr(config.policy, kind) for kind in registry.TABLES}
        self._swap_devices = SwapDevices(
            self.engine, config.swap, devices, server.state_dir, lambda: self.sessions.rules, self._notice
        )
        parts = Parts(
            self.engine, self.sessions, self.metrics, self._endpoints, self._ending.set, self._defaults,
            self._made, self._pressure, self._swap_devices,
        )  # fmt: skip
        self._reload = Reload(config, source, parts, self._notifier.notify)

    async def run(self) -> int:
        """Serve until a signal or Drain; returns the exit code."""
        loop = asyncio.get_running_loop()
        self._signals.attend(lambda number: loop.call_soon_threadsafe(self._signalled, number))
        try:
            return await self._serve_until_stopped(loop)
        finally:
            self._signals.attend(lambda _: None)  # the end is under way, and the loop will be closed

    async def _serve_until_stopped(self, loop: asyncio.AbstractEventLoop) -> int:
        server = self._config.server
        admin = AdminService(
            self.engine,
            self.watch,
            self.policy_changes,
            self._defaults,
            started=self.engine.now(),
            draining=lambda: self.sessions.draining,
            ending=self._ending,
            reload=self._reload.reload,
            swap_devices=self._swap_devices,
            state_dir=server.state_dir,
        )
        clients = GrpcEndpoint(
            client_pb2.DESCRIPTOR.services_by_name["ClientService"],
            ClientService(self.engine, self.sessions, self._calls, self._connections.admit),
            self._admission,
            self.engine.now,
            {"": self._admission.read, "Attach": self._admission.read_stranger},
        )
        calls = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
        operators = GrpcEndpoint(calls, audited(calls, admin, self._operators.caller), self._admission, self.engine.now)
        self._served += (clients, operators)
        await clients.serve(self._locks[0].place(), server.socket_mode)
        await operators.serve(self._locks[1].place(CALLS_SUFFIX), 0o600)
        self._operators.serve(self._locks[1].place(), server.admin_socket_mode)
        self._identities.serve(self._locks[0].place(IDENTITY_SUFFIX), server.socket_mode)
        if self._memory_socket is not None:
            self._memory_socket.serve(self._locks[0].place(MEMORY_SUFFIX), server.socket_mode)
        self._endpoints.apply(self._config.metrics, self._config.page)
        self._made()
        notifier = self._notifier
        loop_watch = LoopWatch(self._end_client, notifier.notify, self.engine.now)
        ticker = loop.create_task(self._tick(notifier, loop_watch))
        log.event(
            "ready",
            socket=f"unix:{server.socket}",
            admin_socket=f"unix:{server.admin_socket}",
            pid=os.getpid(),
            frames=self.engine.core.state.frames.count,
            page_size=self._config.memory.page_size,
            mechanism=self.engine.memory.name,
            **({"sampling": self.engine.memory.sampling} if self.engine.memory.sampling else {}),
            **({"why_not_real_memory": self._why_not_real} if self._why_not_real else {}),
            **self._endpoints.addresses(server.admin_socket),
            swap=", ".join(f"{each.device.number} {each.device.name}" for each in self.engine.queues),
            version=VERSION,
        )
        notifier.notify("READY=1")
        waits = {loop.create_task(self._ending.over.wait()), ticker}
        with loop_watch:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        notifier.notify("STOPPING=1")
        await self._drain(clients, operators)
        if ticker.done():
            ticker.result()  # only a defect ends the ticker: raise that
        ticker.cancel()
        notifier.finish()
        return 0

    def _end_client(self, client: ClientMemory) -> None:
        if self._memory_socket is not None:
            self._memory_socket.kill_process_of(client)

    async def _tick(self, notifier: Notifier, loop_watch: LoopWatch) -> None:
        core = self.engine.core
        while True:
            due = self.engine.now() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            loop_watch.beat()
            now = self.engine.now()
            self.metrics.lag.add(max(now - due, 0.0))
            notifier.alive(now, lambda: disagreement(core.state, core.life) if loop_watch.watches else _UNWATCHED)
            self.engine.tick()
            self._pressure.tick(self.engine.now())
            self._connections.tick()
            self._ending.tick()
            if self._memory_socket is not None:
                self._memory_socket.tick()

    def _holders(self) -> Holders:
        """Processes with sessions, and the bytes of this process that their pages take."""
        state = self.engine.core.state
        pages = state.swap.slots - state.swap.free
        if self.engine.memory.name == "simulated":
            pages += state.frames.count - state.frames.free
        processes = state.processes.values()
        return Holders(
            frozenset(each.pid for each in processes if each.pid is not None),
            Counter(each.uid for each in processes if each.uid is not None),
            pages * state.settings.page_size,
        )

    def _notice(self, notice: Notice) -> None:
        self.policy_changes.hear(notice)
        self.watch.publish(notice)

    def _signalled(self, number: int) -> None:
        meaning = MEANINGS[number]
        if meaning is Meaning.RELOAD:
            message = "usmd reads its configuration again"
            task = asyncio.get_running_loop().create_task(self._reload.reload())
            self._tasks.add(task)
            task.add_done_callback(self._reloaded)
        elif meaning is Meaning.NOTHING:
            message = "this signal means nothing to usmd; nothing has changed"
        else:
            message = self._ending.signalled()
        log.event("signal", signal=name_of(number), message=message)

    def _reloaded(self, task: asyncio.Task[Reloaded]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ConfigError):
            log.event("defect", exc_info=error, method="reload")  # a refused configuration is logged

    def _made(self) -> None:
        """Remember the sockets that were bound."""
        for lock in self._locks:
            lock.made()

    def _notice_given(self, seconds: float) -> None:
        for report in (self._report_stopping(), self._ending.tell(seconds)):
            task = asyncio.get_running_loop().create_task(report)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report_stopping(self) -> None:
        for endpoint in self._served:
            await endpoint.stopping()

    async def _drain(self, clients: GrpcEndpoint, operators: GrpcEndpoint) -> None:
        log.event("draining", sessions=len(self.sessions), grace_seconds=self._ending.grace)
        await self._report_stopping()
        self.sessions.draining = True
        self.sessions.end_all("usmd is draining")
        await self.sessions.finish()
        self.watch.end()
        await clients.stop(self._ending.grace, self._ending.hurry)
        await self._connections.close()
        self._identities.close()
        if self._memory_socket is not None:
            self._memory_socket.close()
        await operators.stop(self._ending.grace, self._ending.hurry)
        await self._operators.close()
        await self._endpoints.close()
        await self.engine.close()
        log.event("stopped")


def serve(config: Config, signals: Signals, source: Source) -> int:
    """Serve until a signal or an operator ends it; returns the exit code. Raises UsmdError if it cannot start."""
    with ExitStack() as stack:
        locks = [stack.enter_context(SocketLock(path)) for path in (config.server.socket, config.server.admin_socket)]
        shares = raise_limit()
        devices = open_devices(config.swap, config.memory.page_size)
        try:
            running = Running()
            stack.enter_context(PolicyWatch(config.policy.call_timeout, running))
            cpu_clock = stack.enter_context(CpuClock())
            check_policies(config.policy, [device.name for device in devices], running)
            event_log = None
            place = config.server.trace_events
            if place is not None:
                event_log = stack.enter_context(closing(EventLog(place, config.server.trace_events_size)))
            collect_rarely()
            factory = uvloop.new_event_loop if config.server.uvloop else asyncio.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                return runner.run(_run(config, devices, signals, cpu_clock, running, shares, locks, event_log, source))
        finally:
            for device in devices:
                close_quietly(device)


async def _run(
    config: Config,
    devices: list[SwapDevice],
    signals: Signals,
    cpu_clock: CpuClock,
    running: Running,
    shares: Shares,
    locks: Sequence[SocketLock],
    event_log: EventLog | None,
    source: Source,
) -> int:
    daemon = Daemon(
        config, devices, signals, cpu_clock, running, shares, locks, event_log, time.monotonic, source
    )  # fmt: skip
    return await daemon.run()
