"""The memory socket: a client hands over its userfaultfd and gets the memory of its regions, and its faults are served.

Here it listens, and checks its connections; `memory_connection` serves each. A connection without a session that sends
nothing, or an invalid request, is closed with every descriptor that it sent.
"""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from usmd import log
from usmd.errors import SessionKilled
from usmd.mechanism import uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.userfaultfd import UserfaultfdMemory
from usmd.server import time_slice
from usmd.server.allowance import Allowance
from usmd.server.engine import Engine
from usmd.server.fault_wakeup import Sleep
from usmd.server.guaranteed_faults import GuaranteedFaults
from usmd.server.identity import bound, peer_of
from usmd.server.listener import Listener
from usmd.server.local_stream import LocalStreams
from usmd.server.memory_connection import Connection, Surroundings
from usmd.server.memory_packets import refuse
from usmd.server.session_calls import SessionCalls
from usmd.server.sessions import Sessions
from usmd.server.touch_sampling import TouchSampling

MAX_CONNECTIONS: Final = 4096
TICKS_PER_AUDIT: Final = 10
"""Ticks between two checks of all connections."""
REGIONS_A_TURN: Final = 32
"""Regions checked in one turn of the loop, because there may be very many."""
TURNS_A_TICK: Final = 4
"""Turns of the loop after a tick in which regions are checked."""
MAX_TAKEN: Final = 256
"""Pages of the hardware's size that a process may have in memory beyond those that usmd gave it."""


class MemorySocket:
    """Listens, and keeps the connections. `features` are enabled on each userfaultfd."""

    def __init__(
        self,
        engine: Engine,
        memory: UserfaultfdMemory,
        sessions: Sessions,
        calls: SessionCalls,
        wakeup: Sleep,
        features: uffd.Feature,
        *,
        sampling: TouchSampling,
        timeout: float,
        of_user: int = MAX_CONNECTIONS,
        in_all: int = MAX_CONNECTIONS,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._sessions = sessions
        self._wakeup = wakeup
        self._allowance = Allowance("memory", of_user, min(in_all, MAX_CONNECTIONS), engine.now)
        self._around = Surroundings(
            engine,
            memory,
            sessions,
            calls,
            wakeup,
            features,
            timeout,
            self._allowance,
            sampling,
            LocalStreams(engine, sessions, min(in_all, MAX_CONNECTIONS)),
            GuaranteedFaults(engine.core.state.guarantees, engine.now),
            self._dispose,
        )
        engine.between = self._around.guaranteed.serve
        memory.on_held = self._held
        self._ticks = 0
        self._round: Iterator[bool] | None = None
        """The rest of the check of all connections."""
        self._unwanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._close_unwanted, name="usmd-closer", daemon=True).start()
        self._listener: Listener | None = None

    @property
    def connections(self) -> list[Connection]:
        """Open connections."""
        return list(self._around.connections)

    def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the start."""
        time_slice.ask()
        self._listener = Listener(bound(path, mode, socket.SOCK_SEQPACKET), self._accepted, _refused)

    def _accepted(self, peer: socket.socket) -> None:
        pid, uid, _ = peer_of(peer)
        if (why := self._allowance.enter(uid, pid)) is not None:
            refuse(peer, why)
        else:
            Connection(self._around, peer, pid, uid)

    def _dispose(self, descriptor: int) -> None:
        """Close a descriptor of a stranger, or a socket that may have some in its queue, on a thread that may wait.

        The last close of a socket with SO_LINGER, for instance, waits as long as its maker wants.
        """
        self._unwanted.put(descriptor)

    def _close_unwanted(self) -> None:
        while True:
            with suppress(OSError):
                os.close(self._unwanted.get())

    def tick(self) -> None:
        """Retry what was put off, and check some regions. Called every 0.1 s."""
        self._wakeup.tick()
        self._memory.tick()
        self._around.sampling.tick()
        self._ticks += 1
        if self._round is None and self._ticks >= TICKS_PER_AUDIT:
            self._ticks = 0
            self._around.sampling.look()
            self._round = self._audit_all()
        self._audit_some(TURNS_A_TICK)

    def _audit_some(self, turns: int) -> None:
        """Check the next regions, some in each of so many turns of the loop."""
        if self._round is None:
            return
        for _ in range(REGIONS_A_TURN):
            if next(self._round, None) is None:
                self._round = None
                return
        if turns > 1:
            asyncio.get_running_loop().call_soon(self._audit_some, turns - 1)

    def _audit_all(self) -> Iterator[bool]:
        """Check all connections, in steps of a region."""
        for connection in self.connections:
            try:
                connection.check()
                yield from self._audit(connection)
            except Exception:  # noqa: BLE001 - logged with its traceback; one client is no reason to stop
                log.event("defect", exc_info=True, method="usmd memory socket")
                connection.give_up()
            yield True

    def _held(self, region_id: int, why: str) -> None:
        """Kill the client that has made the loop wait for a region."""
        processes = self._engine.core.state.processes
        for connection in self.connections:
            session = connection.session
            process = None if session is None else processes.get(session.process_id)
            if process is not None and region_id in process.regions:
                connection.kill(why)

    def kill_process_of(self, client: ClientMemory) -> None:
        """Kill the process of a client in whose memory the loop stands. Called on another thread."""
        for connection in self.connections:
            connection.kill_process_of(client)

    def _audit(self, connection: Connection) -> Iterator[bool]:
        """End the session of a client that writes into its memfds where it has no page.

        It can, because it may map them. But the daemon alone gives memory, and other clients would lack what it takes.
        """
        session = connection.session
        process = None if session is None else self._engine.core.state.processes.get(session.process_id)
        if session is None or process is None:
            return
        each = self._engine.core.state.settings.page_size // uffd.HARDWARE_PAGE
        taken = 0
        self._memory.settle()
        for region_id in list(process.regions):  # by number: those that go meanwhile are not kept, to go all at once
            region, real = process.regions.get(region_id), self._memory.region(region_id)
            if region is not None and real is not None:  # else it went meanwhile
                taken += max(real.pages_in_memory() - region.resident * each, 0)
            yield True
        if taken > MAX_TAKEN:
            reason = (
                f"{taken} pages of {uffd.HARDWARE_PAGE} bytes are in its memfds that usmd did not put there; map "
                "a memfd, and do not write to it"
            )
            self._sessions.end(session, reason, SessionKilled(reason))

    def close(self) -> None:
        """Stop listening, and close all connections; touches of clients' missing pages then raise SIGBUS."""
        if self._listener is not None:
            self._listener.close()
        for connection in self.connections:
            connection.close(poison=True)
        self._around.ready.close()
        self._around.guaranteed.close()


def _refused(error: str) -> None:
    log.event("memory_socket_refused", error=error)
