"""What the live screen shows of one moment, and how it is read from the daemon.

A reading is a few calls on one connection, so the daemon does nothing for the screen in between. After a failure the
next reading makes a new connection: gRPC would wait ever longer before it tried the old one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from usm_wire.pb.usm.v1 import admin_pb2
from usmd.ctl.connect import Admin, AdminError

EVICTIONS = 50
"""Evictions that are read of a process."""


@dataclass(frozen=True)
class Wanted:
    """What to read besides status, processes and devices.

    `cells`: of the memory map; 0: no map. `process_id`: the process whose regions and evictions to read; 0: none.
    `counters`: of each process; none is all.
    """

    cells: int = 0
    process_id: int = 0
    counters: Sequence[str] = ()


@dataclass(frozen=True)
class Detail:
    """More about one process."""

    process_id: int
    regions: list[admin_pb2.RegionInfo]
    evictions: admin_pb2.ListEvictionsResponse


@dataclass(frozen=True)
class Reading:
    """The daemon at one moment. `detail` is None if it was not asked for, or if the process is gone."""

    status: admin_pb2.GetStatusResponse
    processes: list[admin_pb2.Process] = field(default_factory=list)
    devices: list[admin_pb2.SwapDevice] = field(default_factory=list)
    memory: admin_pb2.GetMemoryMapResponse | None = None
    detail: Detail | None = None

    def seconds_since(self, before: Reading) -> float:
        """Seconds from an earlier reading to this one by the daemon's clock; 0 if another daemon answered that one."""
        if before.status.pid != self.status.pid:
            return 0.0
        return max(self.status.uptime_seconds - before.status.uptime_seconds, 0.0)

    @property
    def names(self) -> Mapping[int, str]:
        """Names of the processes by number."""
        return {process.process_id: process.name for process in self.processes}


class Source(Protocol):
    """Where readings come from."""

    async def read(self, wanted: Wanted) -> Reading:
        """Read now. Raises AdminError if the daemon cannot be reached or refuses."""

    def close(self) -> None:
        """End the connection and a reading under way."""


class AdminSource:
    """Readings from the admin socket at `path`."""

    def __init__(self, path: Path, connect: Callable[[Path], Admin] = Admin) -> None:
        self._path = path
        self._connect = connect
        self._admin: Admin | None = None

    def read_now(self, wanted: Wanted) -> Reading:
        """Read, and wait for it. Raises AdminError if the daemon cannot be reached or refuses."""
        admin = self._admin = self._admin or self._connect(self._path)
        try:
            return Reading(
                status=admin.status(),
                processes=admin.processes(wanted.counters),
                devices=admin.swap_devices(),
                memory=admin.memory_map(wanted.cells) if wanted.cells else None,
                detail=_detail(admin, wanted.process_id),
            )
        except AdminError:
            self.close()
            raise

    async def read(self, wanted: Wanted) -> Reading:
        """Read in a thread of its own, for which nobody waits at the end of the program."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Reading] = loop.create_future()

        def tell(reading: Reading | None, error: BaseException | None) -> None:
            if over.done():
                return  # cancelled
            if reading is None:
                over.set_exception(error or AdminError("nothing was read"))
            else:
                over.set_result(reading)

        def make() -> None:
            reading, failure = None, None
            try:
                reading = self.read_now(wanted)
            except BaseException as error:  # noqa: BLE001 - raised where the reading is awaited
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, reading, failure)

        threading.Thread(target=make, name="usmctl-top-read", daemon=True).start()
        return await over

    def close(self) -> None:
        """End the connection; a reading under way fails."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.__exit__(None, None, None)


def _detail(admin: Admin, process_id: int) -> Detail | None:
    """More about a process; None if it is gone. If the daemon is gone instead, the next reading will find that."""
    if not process_id:
        return None
    try:
        return Detail(process_id, admin.regions(process_id), admin.evictions(process_id, None, EVICTIONS))
    except AdminError:
        return None
