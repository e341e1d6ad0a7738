"""Reads the page faults of one client from its userfaultfd, and has them served.

While the faults of its process wait for as many pages as its `max_faults`, no more are read: they wait in the kernel,
in their order, and the loop does not look at them until the core says that fewer wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from usmd import log
from usmd.core.events import MINOR, PageFaults
from usmd.mechanism import uffd
from usmd.mechanism.client_memory import ClientMemory
from usmd.server.engine import Engine
from usmd.server.fault_wakeup import Sleep
from usmd.server.guaranteed_faults import GuaranteedFaults
from usmd.server.sessions import Session
from usmd.server.touch_sampling import TouchSampling

MAX_PIECES: Final = 4096
"""Pieces that the regions of a client may be in."""
MAX_ROUNDS: Final = 16
"""Reads of one client's faults before other work has its turn: a thread that was woken may fault again at once."""
TURN_SECONDS: Final = 0.0005
"""No further read after so long: faults on pages that come from swap at once take long."""


class FaultReader:
    """Serves faults from now on, until `close`. `failed` ends the session with a reason, and closes this."""

    def __init__(
        self,
        engine: Engine,
        sampling: TouchSampling,
        wakeup: Sleep,
        guaranteed: GuaranteedFaults,
        client: ClientMemory,
        session: Session,
        pid: int,
        failed: Callable[[str], None],
    ) -> None:
        state = engine.core.state
        self._now = engine.now
        self._guaranteed = guaranteed
        self._stalls = state.stalls
        self._guarantees = state.guarantees
        self._process = state.processes[session.process_id]
        self._submit = engine.submit
        self._touched = sampling.touched
        self._faulted = wakeup.faulted
        self._client = client
        self._session = session
        self._pid = pid
        self._failed = failed
        self._early = self._closed = self._paused = False
        self._loop = asyncio.get_running_loop()
        client.on_early = self._serve_soon
        session.on_room = self._go_on
        self._begin()

    def _begin(self) -> None:
        self._loop.add_reader(self._client.descriptor, self.read)
        self._guaranteed.add(self._session.process_id, self._client.descriptor, self)

    def _end(self) -> None:
        self._guaranteed.remove(self._session.process_id)
        self._loop.remove_reader(self._client.descriptor)

    def _pause(self) -> None:
        """Read no faults until `_go_on`."""
        if not self._paused:
            self._paused = True
            self._end()

    def _go_on(self) -> None:
        """The process may have more faults, or its session has ended and they are errors."""
        if self._paused and not self._closed:
            self._paused = False
            self._begin()
            if self._client.has_early:
                self._serve_soon()

    def read(self) -> None:
        """Serve the faults that have happened, and those that happen meanwhile, for a turn of the loop.

        Those of clients with a guarantee are served in between.
        """
        self._serve(MAX_ROUNDS)

    def serve_once(self) -> None:
        """Serve the faults that have happened."""
        self._serve(1)

    def _serve(self, most: int) -> None:
        client, process = self._client, self._process
        clock, submit, faulted = self._now, self._submit, self._faulted
        began = now = clock()
        rounds, linger_until, turn_ends = 0, 0.0, began + TURN_SECONDS
        waited, waiting = process.stall.waits, self._stalls.waiting
        while rounds < most and not self._closed:  # its faults may have ended it
            room: int | None = None
            if process.faults_limited and process.ended is None:
                room = process.fault_room
                if room <= 0:
                    self._pause()
                    break
            try:
                faults = client.read(room)
            except OSError as error:
                if not uffd.broken(client.descriptor):
                    log.event("faults_not_read", process_id=process.process_id, error=str(error))
                self._failed("its userfaultfd reports no more faults")
                return
            if not faults:
                if linger_until:
                    idle, now = now, clock()
                    began += now - idle
                if now >= linger_until or now >= turn_ends:
                    break
                continue
            rounds += 1
            if process.ended is not None:
                client.refuse(faults)
            elif faults[0].kind == MINOR:
                self._touched(process.process_id, faults)
            else:
                submit(PageFaults(process.process_id, faults))
            if process.memory_min:
                os.sched_yield()  # its thread, now woken, may wait for this CPU
            now = clock()
            if most > 1:
                linger_until = faulted(self._pid, client.last_thread, now, len(faults))
                if self._guarantees.processes:
                    self._guaranteed.serve(process.process_id)
                    idle, now = now, clock()
                    began += now - idle
            if now >= turn_ends:
                break
        if rounds:
            self._stalls.served(process, waited, waiting, now - began, now)
        elif not self._closed and uffd.broken(client.descriptor):
            self._failed("its userfaultfd reports no more faults")

    def check(self) -> None:
        """End the session if its regions are in too many pieces, or if its userfaultfd reports no more faults.

        The loop reports the latter only once.
        """
        if uffd.broken(self._client.descriptor):
            self._failed("its userfaultfd reports no more faults")
        elif self._client.piece_count > MAX_PIECES:
            self._failed(
                f"its regions are in more than {MAX_PIECES} pieces, by mremap or left mapped after they were given back"
            )

    def _serve_soon(self) -> None:
        """Serve faults that another operation has read, after that operation."""
        if not self._early:
            self._early = True
            self._loop.call_soon(self._serve_early)

    def _serve_early(self) -> None:
        self._early = False
        if not self._closed:
            self.read()

    def close(self) -> None:
        """Read no more faults."""
        self._closed = True
        self._end()
