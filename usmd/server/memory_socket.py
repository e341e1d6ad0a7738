"""The memory socket: a client hands over its userfaultfd, and gets the memory of its regions; and its faults are read.

Here it listens, and looks after the connections; what each of them does is in `memory_connection`. A connection that
says nothing, or anything wrong, is closed, with every descriptor that came by it.
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
from usmd.server.allowance import Allowance
from usmd.server.engine import Engine
from usmd.server.fault_wakeup import Sleep
from usmd.server.identity import bound, peer_of
from usmd.server.memory_connection import Connection, Surroundings
from usmd.server.memory_packets import refuse
from usmd.server.session_calls import SessionCalls
from usmd.server.sessions import Sessions

MAX_CONNECTIONS: Final = 4096
BACKLOG: Final = 128
REST_SECONDS: Final = 1.0
"""For how long no connection is taken after one could not be."""
TICKS_PER_AUDIT: Final = 10
"""Between two looks at all connections."""
REGIONS_A_TICK: Final = 128
"""Regions looked at in one tick, for there may be very many."""
MAX_TAKEN: Final = 256
"""Pages of the hardware's size that a process may have in memory without having been given them."""


class MemorySocket:
    """Listens, and keeps the connections. `features` are what is agreed on with each userfaultfd."""

    def __init__(
        self,
        engine: Engine,
        memory: UserfaultfdMemory,
        sessions: Sessions,
        calls: SessionCalls,
        wakeup: Sleep,
        features: uffd.Feature,
        *,
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
            engine, memory, sessions, calls, wakeup, features, timeout, self._allowance, self._dispose
        )
        memory.on_held = self._held
        self._ticks = 0
        self._round: Iterator[bool] | None = None
        """What is left of the look at all connections."""
        self._unwanted: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._close_unwanted, name="usmd-closer", daemon=True).start()
        self._listener: socket.socket | None = None
        self._listen_again: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> list[Connection]:
        """Those that are open."""
        return list(self._around.connections)

    def serve(self, path: Path, mode: int) -> None:
        """Listen on `path`, with this file mode from the first moment on."""
        listener = bound(path, mode, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._listener = listener
        self._listen(listener)

    def _listen(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors, most likely, and the peer goes on waiting: look again later, or this is all we do.
            log.event("memory_socket_refused", error=error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            self._listen_again = loop.call_later(REST_SECONDS, self._listen, listener)
            return
        pid, uid, _ = peer_of(peer)
        if (why := self._allowance.enter(uid, pid)) is not None:
            refuse(peer, why)
        else:
            Connection(self._around, peer, pid, uid)

    def _dispose(self, descriptor: int) -> None:
        """Close what came from a stranger, or has such in its queue, where it can take as long as it likes.

        A socket with SO_LINGER, for instance, makes its last close wait for as long as its maker wants.
        """
        self._unwanted.put(descriptor)

    def _close_unwanted(self) -> None:
        while True:
            with suppress(OSError):
                os.close(self._unwanted.get())

    def tick(self) -> None:
        """Time has passed."""
        self._wakeup.tick()
        self._memory.tick()
        self._ticks += 1
        if self._round is None and self._ticks >= TICKS_PER_AUDIT:
            self._ticks = 0
            self._round = self._audit_all()
        for _ in range(REGIONS_A_TICK):
            if self._round is not None and next(self._round, None) is None:
                self._round = None

    def _audit_all(self) -> Iterator[bool]:
        """Look at all connections, in steps of a region."""
        for connection in self.connections:
            try:
                connection.check()
                yield from self._audit(connection)
            except Exception:  # noqa: BLE001 - logged with its traceback; one client is no reason to stop
                log.event("defect", exc_info=True, method="usmd memory socket")
                connection.give_up()
            yield True

    def _held(self, region_id: int, why: str) -> None:
        """A client has made the loop wait for its memory."""
        processes = self._engine.core.state.processes
        for connection in self.connections:
            session = connection.session
            process = None if session is None else processes.get(session.process_id)
            if process is not None and region_id in process.regions:
                connection.kill(why)

    def kill_process_of(self, client: ClientMemory) -> None:
        """End the process of a client in whose memory the loop stands. Called on another thread.

        The rest of its end is the loop's, which its pidfd tells.
        """
        for connection in self.connections:
            connection.kill_process_of(client)

    def _audit(self, connection: Connection) -> Iterator[bool]:
        """End the session of a client that writes into its memfds where it was given no page.

        It has the right to map them, and so can; but memory is the daemon's to give, and others would pay for it.
        """
        session = connection.session
        process = None if session is None else self._engine.core.state.processes.get(session.process_id)
        if session is None or process is None:
            return
        each = self._engine.core.state.settings.page_size // uffd.HARDWARE_PAGE
        taken = 0
        for region_id in list(process.regions):  # by number: those that go meanwhile are not kept, to go all at once
            region, real = process.regions.get(region_id), self._memory.region(region_id)
            if region is not None and real is not None:  # else it went meanwhile
                taken += max(real.pages_in_memory() - region.resident * each, 0)
            yield True
        if taken > MAX_TAKEN:
            reason = (
                f"{taken} pages of {uffd.HARDWARE_PAGE} bytes are in its memfds that usmd did not put there; a memfd "
                "is to be mapped, and not to be written to"
            )
            self._sessions.end(session, reason, SessionKilled(reason))

    def close(self) -> None:
        """Stop listening, make what is missing in the clients an error, and close all connections."""
        if self._listen_again is not None:
            self._listen_again.cancel()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for connection in self.connections:
            connection.close(poison=True)
