"""What the live page shows of one moment, as JSON. It is read when a viewer asks, and at most once a second for all.

A reading is made in steps, between which the loop has its turn, so its parts may be of moments some milliseconds apart.
Its size has a bound: so many cells, processes and evictions. It has counts, names and policies' reasons, but neither
addresses nor bytes of applications. Rates are for the page to make, of two readings.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from usmd.core import report
from usmd.core.machine import Core
from usmd.core.pressure import Pressure
from usmd.core.region import PAGE_BITS, PAGE_MASK, EvictionRecord, Process, limit_or_none
from usmd.core.report import Cell, Totals
from usmd.core.state import State
from usmd.server.device_queue import DeviceQueue
from usmd.server.engine import Engine
from usmd.server.page_limits import Limit, UserRow, limits_of, user_rows
from usmd.server.pauses import Turns
from usmd.text_output import printable
from usmd.version import VERSION

CELLS: Final = 1024
"""Cells of the memory map, at most."""
PROCESSES: Final = 40
"""Processes of a reading, those with most memory."""
EVICTIONS: Final = 20
MOST_REASON: Final = 160
"""Characters of the reason of an eviction, which a policy writes."""
LEAST_SECONDS: Final = 1.0
"""From the begin of a reading to that of the next one."""
REST: Final = 3
"""At least so many times the CPU time of a reading passes between it and the next one, as for scrapes."""
FULL: Final = 8
"""What `used` of a cell says of one without a free frame."""
NOBODY: Final = -1
"""Owner of a cell in which no frame has a page."""
ANOTHER: Final = -2
"""Owner of a cell that is none of the processes of the reading."""
_COUNTED: Final = ("faults", "major_faults", "evictions", "swap_ins", "swap_outs")


class Memory(msgspec.Struct):
    """Frames by state; `dirty` to `held` are among those present."""

    frames: int
    free: int
    filling: int
    evicting: int
    dirty: int
    unevictable: int
    pinned: int
    held: int
    low: int
    high: int


class Map(msgspec.Struct):
    """Cells of the memory map. `states`: a letter each, of most used frames. `used`: a digit each, of FULL."""

    states: str
    used: str
    owners: list[int]
    """Position in the reading's processes, NOBODY or ANOTHER."""


class Waits(msgspec.Struct):
    """Shares of the last 10, 60 and 300 s. `full`: None if it is not known."""

    some: Sequence[float]
    full: Sequence[float] | None


class ProcessRow(msgspec.Struct):
    """A process. Pages but for `mapped`, in bytes; `counters` since its begin, by the order of `Reading.counted`."""

    id: int
    nth: int
    name: str
    pid: int | None
    uid: int | None
    resident: int
    swapped: int
    mapped: int
    kept: int
    memory_min: int
    memory_max: int | None
    weight: int
    limits: list[Limit]
    faults_limited: bool
    """Whether no more of its faults are taken until fewer wait."""
    frozen: bool
    evict: str
    pressure: Waits
    counters: list[int]


class Others(msgspec.Struct):
    """Processes that have no row."""

    count: int
    resident: int
    frozen: int


class MirrorState(msgspec.Struct):
    """How a mirror stands: whether its far part does not answer, and the pages that are to be repaired."""

    away: bool
    to_repair: int


class Device(msgspec.Struct):
    """A swap device. Slots and pages; `held` and `capacity` in bytes."""

    number: int
    name: str
    kind: str
    slots: int
    free: int
    held: int
    capacity: int
    read: int
    written: int
    in_flight: int
    errors: int
    hangs: bool
    retiring: int | None
    """Pages that it had when its retirement began; None: it is not retiring."""
    mirror: MirrorState | None
    """None: it is no mirror."""


class Eviction(msgspec.Struct):
    """A page that was evicted. `process`: its number; `region`: None if that is gone."""

    seconds_ago: float
    process: int
    name: str
    region: str | None
    page: int
    policy: str
    reason: str
    result: str


class Victims(msgspec.Struct):
    """Pages chosen to go since the start, by who chose and why; see `victims`."""

    policy: str
    reason: str
    count: int


class Reading(msgspec.Struct):
    """The daemon at one moment. `seconds_left`: until sessions end, while notice of a drain is given."""

    version: str
    pid: int
    mechanism: str
    page_size: int
    uptime: float
    draining: bool
    seconds_left: float | None
    memory: Memory
    map: Map
    pressure: Waits
    counted: Sequence[str]
    counters: list[int]
    processes: list[ProcessRow]
    others: Others
    users: list[UserRow]
    regions: int
    devices: list[Device]
    evictions: list[Eviction]
    victims: list[Victims]


class PageReading:
    """Readings of one daemon. `draining` and `seconds_left`: as of `Reading`."""

    def __init__(
        self,
        engine: Engine,
        draining: Callable[[], bool],
        seconds_left: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._draining = draining
        self._seconds_left = seconds_left
        self._started = engine.now()
        self._clock = clock
        self._turn = asyncio.Lock()
        self._last = b""
        self._not_before = clock()

    async def latest(self) -> bytes:
        """A reading as JSON: the last one, or a new one if that is old enough. All that ask meanwhile get the same."""
        async with self._turn:
            began = self._clock()
            if began >= self._not_before:
                self._engine.memory.settle()
                turns = Turns()
                reading = None
                for reading in self.steps():  # noqa: B007 - the last one is it
                    await turns.step()
                self._last = msgspec.json.encode(reading)
                self._not_before = began + max(LEAST_SECONDS, (1 + REST) * turns.cpu_seconds)
            return self._last

    def steps(self) -> Iterator[Reading | None]:
        """None after each step, and the reading in the end."""
        engine, state = self._engine, self._engine.core.state
        totals = Totals(state)
        yield from totals.steps()
        yield None
        largest = heapq.nlargest(PROCESSES, totals.processes, key=lambda each: each.resident)
        rows = []
        for process in largest:
            if process.ended is None:
                rows.append(self._row(process))
                yield None
        places = {row.id: place for place, row in enumerate(rows)}
        cells = []
        for cell in report.memory_map(engine.core, CELLS):
            cells.append(cell)
            yield None
        evictions: list[tuple[float, int, Process, EvictionRecord]] = []
        for process in totals.processes:
            _add_evictions(evictions, process)
            yield None
        users: list[UserRow] = []
        for found in user_rows(list(state.users.of.values())):
            users = users if found is None else found
            yield None
        devices = [_device(queue, engine.core) for queue in engine.queues]
        yield None
        yield Reading(
            version=VERSION,
            pid=os.getpid(),
            mechanism=engine.memory.name,
            page_size=state.settings.page_size,
            uptime=engine.now() - self._started,
            draining=self._draining(),
            seconds_left=self._seconds_left(),
            memory=_memory(state, sum(cell.dirty for cell in cells)),
            map=_map(cells, places),
            pressure=_waits(state.stalls.pressure),
            counted=_COUNTED,
            counters=[getattr(totals.counters, name) for name in _COUNTED],
            processes=rows,
            others=Others(
                len(totals.processes) - len(largest),
                sum(each.resident for each in totals.processes) - sum(each.resident for each in largest),
                max(len(engine.core.frozen) - sum(row.frozen for row in rows), 0),
            ),
            users=users,
            regions=state.region_count,
            devices=devices,
            evictions=[self._eviction(*each[2:]) for each in sorted(evictions, reverse=True)],
            victims=[Victims(*key, count) for key, count in sorted(state.victims.counts.items())],
        )

    def _row(self, process: Process) -> ProcessRow:
        return ProcessRow(
            id=process.process_id,
            nth=process.order,
            name=printable(process.name, "utf-8"),
            pid=process.pid,
            uid=process.uid,
            resident=process.resident,
            swapped=process.swapped,
            mapped=process.mapped,
            kept=max(process.unevictable, process.pinned),
            memory_min=process.own_memory_min,
            memory_max=limit_or_none(process.own_memory_max),
            weight=process.weight,
            limits=limits_of(process, self._engine.core.state.settings),
            faults_limited=process.fault_room <= 0,
            frozen=process.process_id in self._engine.core.frozen,
            evict=printable(process.policies.specifications["evict"], "utf-8"),
            pressure=_waits(process.pressure),
            counters=[getattr(process.counters, name) for name in _COUNTED],
        )

    def _eviction(self, process: Process, record: EvictionRecord) -> Eviction:
        region = process.regions.get(record.page >> PAGE_BITS)
        return Eviction(
            seconds_ago=max(self._engine.now() - record.time, 0.0),
            process=process.process_id,
            name=printable(process.name, "utf-8"),
            region=None if region is None else printable(region.name, "utf-8"),
            page=record.page & PAGE_MASK,
            policy=printable(record.policy, "utf-8"),
            reason=printable(record.reason[:MOST_REASON], "utf-8"),
            result=printable(record.result, "utf-8"),
        )


def _memory(state: State, dirty: int) -> Memory:
    return Memory(
        frames=state.frames.count,
        free=state.frames.free,
        filling=len(state.filling),
        evicting=len(state.evicting),
        dirty=dirty,
        unevictable=state.unevictable,
        pinned=state.pinned,
        held=len(state.holds),
        low=state.settings.low,
        high=state.settings.high,
    )


def _map(cells: Sequence[Cell], places: dict[int, int]) -> Map:
    return Map(
        "".join(map(_letter, cells)),
        "".join(str(-(-FULL * (cell.frames - cell.free) // cell.frames)) for cell in cells),
        [places.get(cell.process_id, ANOTHER) if cell.process_id else NOBODY for cell in cells],
    )


def _letter(cell: Cell) -> str:
    """The state of most used frames: evicting, filling, kept (x), dirty, clean, or free (.). A tie: the rarer one."""
    counts = (
        (cell.evicting, "e"),
        (cell.filling, "f"),
        (max(cell.unevictable, cell.pinned), "x"),
        (cell.dirty, "d"),
        (max(cell.present - cell.dirty, 0), "c"),
    )
    most, letter = max(counts, key=lambda pair: pair[0])
    return letter if most else "."


def _waits(pressure: Pressure) -> Waits:
    return Waits(pressure.some.averages[:], None if pressure.full is None else pressure.full.averages[:])


def _add_evictions(newest: list[tuple[float, int, Process, EvictionRecord]], process: Process) -> None:
    """Add evictions of a process to the heap of the newest ones, as far as they are newer than what that has."""
    for number, record in enumerate(reversed(process.evictions)):
        # Numbers make each entry unequal: of one process the newest is the greatest, and a number is of one process.
        entry = (record.time, process.order * EVICTIONS + EVICTIONS - number, process, record)
        if len(newest) < EVICTIONS:
            heapq.heappush(newest, entry)
        elif entry[:2] > newest[0][:2] and number < EVICTIONS:
            heapq.heapreplace(newest, entry)
        else:
            break


def _device(queue: DeviceQueue, core: Core) -> Device:
    known = core.state.swap.devices[queue.device.number]
    usage = queue.device.usage(known.slots - known.free)
    mirror = queue.mirror
    return Device(
        number=queue.device.number,
        name=printable(queue.device.name, "utf-8"),
        kind=queue.device.kind,
        slots=known.slots,
        free=known.free,
        held=usage.held,
        capacity=usage.capacity,
        read=queue.pages_read,
        written=queue.pages_written,
        in_flight=queue.in_flight,
        errors=queue.errors,
        hangs=queue.hangs,
        retiring=core.retirement.of.get(queue.device.number),
        mirror=None if mirror is None else MirrorState(mirror.away, mirror.to_repair),
    )
