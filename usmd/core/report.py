"""Read-only reports for operators: memory map, hints, evictions, and all that is known about a page."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from usmd.core.columns import as_bytes
from usmd.core.counters import Counters
from usmd.core.frames import (
    DIRTY,
    EVICTING,
    FILLING,
    FREE,
    HELD,
    NO_PAGE,
    NO_SLOT,
    PINNED,
    PRESENT,
    STATE_NAMES,
    UNEVICTABLE,
)
from usmd.core.hints import HintRange
from usmd.core.region import PAGE_BITS, EvictionRecord, Process, Region, page_key
from usmd.core.swap_map import SLOT_BITS
from usmd.errors import NotFound

if TYPE_CHECKING:
    from usmd.core.machine import Core
    from usmd.core.state import State

_OWNER_SAMPLES = 16
FRAMES_A_PART: Final = 1 << 16
"""Frames that are counted in a tenth of a millisecond."""
_DEVICE_BYTE: Final = SLOT_BITS // 8 if sys.byteorder == "little" else 7 - SLOT_BITS // 8
"""Where the number of the device is in a slot reference of 8 bytes."""
PROCESSES_A_PART: Final = 64
PAGES_A_PART: Final = 512
"""Pages of a hint's range that are looked up at a time."""


def _owner(core: Core, keys: Iterable[int]) -> int:
    """Number of the process with most of these pages; 0 if none has a process."""
    regions = core.state.regions
    owners = Counter(
        region.process.process_id
        for key in keys
        if key != NO_PAGE and (region := regions.get(key >> PAGE_BITS)) is not None and region.gone is None
    )
    return owners.most_common(1)[0][0] if owners else 0


def _mask_table(bit: int) -> bytes:
    return bytes(1 if flags & bit else 0 for flags in range(256))


_HAS = {bit: _mask_table(bit) for bit in (DIRTY, UNEVICTABLE, HELD, PINNED)}


class Cell(msgspec.Struct, frozen=True):
    """A group of adjacent frames, counted by state and flag. `process_id`: has most of them; 0: none has any."""

    first_frame: int
    frames: int
    free: int
    filling: int
    present: int
    evicting: int
    dirty: int
    unevictable: int
    pinned: int
    held: int
    process_id: int


def memory_cell(core: Core, first: int, end: int) -> Cell:
    """Frames `first` to `end` - 1 as one cell.

    Its process is found from at least 16 samples, or from all frames if the samples have none and some are not free.
    """
    frames = core.state.frames
    states, flags = frames.state[first:end], frames.flags[first:end]
    free = states.count(FREE)
    owner = _owner(core, frames.page[first : end : max((end - first) // _OWNER_SAMPLES, 1)])
    if owner == 0 and free < end - first:
        owner = _owner(core, frames.page[first:end])
    return Cell(
        first_frame=first,
        frames=end - first,
        free=free,
        filling=states.count(FILLING),
        present=states.count(PRESENT),
        evicting=states.count(EVICTING),
        dirty=flags.translate(_HAS[DIRTY]).count(1),
        unevictable=flags.translate(_HAS[UNEVICTABLE]).count(1),
        pinned=flags.translate(_HAS[PINNED]).count(1),
        held=flags.translate(_HAS[HELD]).count(1),
        process_id=owner,
    )


def memory_map(core: Core, cells: int) -> Iterator[Cell]:
    """All frames in `cells` cells of nearly equal size; never more cells than frames. Each is counted when it comes."""
    count = core.state.frames.count
    cells = min(cells, count)
    edges = (count * number // cells for number in range(cells + 1))
    return (memory_cell(core, first, end) for first, end in pairwise(edges))


def dirty_frames(core: Core) -> Iterator[int]:
    """How many frames are dirty, of FRAMES_A_PART after FRAMES_A_PART; all other counts the core has at hand."""
    flags = core.state.frames.flags
    for first in range(0, len(flags), FRAMES_A_PART):
        yield flags[first : first + FRAMES_A_PART].translate(_HAS[DIRTY]).count(1)


def pages_with_slot(core: Core, numbers: Collection[int]) -> Iterator[int]:
    """How many frames have pages that are on one of these swap devices too, of FRAMES_A_PART after FRAMES_A_PART."""
    slots = core.state.frames.slot
    for first in range(0, len(slots), FRAMES_A_PART):
        devices = as_bytes(slots[first : first + FRAMES_A_PART])[_DEVICE_BYTE::8]
        yield sum(devices.count(number) for number in numbers)


class Totals:
    """Counters of the daemon: of all processes, ended ones included, added up in parts.

    A process that ends meanwhile is in the list, and not yet in the sum of those that have ended. One that begins
    meanwhile is in the next sum. So no count falls from one sum to the next.
    """

    def __init__(self, state: State) -> None:
        self.counters = Counters()
        self.counters.add(state.ended_counters)
        self.processes = list(state.processes.values())

    def steps(self) -> Iterator[None]:
        """Add up."""
        for number, process in enumerate(self.processes):
            self.counters.add(process.counters)
            if number % PROCESSES_A_PART == PROCESSES_A_PART - 1:
                yield None


def hint_ranges(core: Core, process: Process | None) -> Iterator[list[tuple[Region, HintRange]]]:
    """Hints in force, of one process or of all, region by region. Regions that go meanwhile are left out."""
    regions = core.state.regions if process is None else process.regions
    for region in list(regions.values()):
        yield [] if region.gone is not None else [(region, found) for found in region.hints]


class HintReport(msgspec.Struct, frozen=True):
    """A range on which a hint is in force, and its resident and unevictable pages."""

    process_id: int
    process_name: str
    region_id: int
    region_name: str
    range: HintRange
    resident: int
    unevictable: int
    unheeded: list[str]
    """Keys that no policy of the process acts on."""


def hinted_frames(core: Core, region: Region, found: HintRange) -> Iterator[tuple[int, int]]:
    """Resident and unevictable pages of a range, counted in parts of a bounded number of pages."""
    flags = core.state.frames.flags
    page = found.first
    while page < found.end:
        entries, page = region.table.part(page, found.end, PAGES_A_PART)
        resident = [entry - 1 for _, entry in entries if entry > 0]
        yield len(resident), sum(1 for pfn in resident if flags[pfn] & UNEVICTABLE)


def hint_report(region: Region, found: HintRange, counted: Iterable[tuple[int, int]]) -> HintReport:
    """The report of one range. `counted`: what `hinted_frames` yields."""
    parts = list(counted)
    resident, unevictable = (sum(part[number] for part in parts) for number in (0, 1))
    process = region.process
    return HintReport(
        process_id=process.process_id,
        process_name=process.name,
        region_id=region.region_id,
        region_name=region.name,
        range=found,
        resident=resident,
        unevictable=unevictable,
        unheeded=process.policies.unheeded(found.hint),
    )


def keeping_processes(core: Core, process: Process | None) -> list[Process]:
    """Of all processes, or of `process` alone, those that have hints, or keep pages by EVICTION=DENY or by pins."""
    return [
        each
        for each in core.state.processes.values()
        if (process is None or each is process) and (each.unevictable or each.pinned or each.hint_ranges)
    ]


def last_evictions(process: Process, key: int | None, limit: int) -> list[EvictionRecord]:
    """At most `limit` (0: all) evictions of a process on record, newest first, of one page (by key) or of all."""
    found = (record for record in reversed(process.evictions) if key is None or record.page == key)
    return list(islice(found, limit or None))


class PageReport(msgspec.Struct, frozen=True):
    """All that is known about one page. `slot`: a slot reference."""

    region_id: int
    page: int
    state: str
    frame: int | None
    slot: int | None
    generation: int
    dirty: bool
    pinned: bool
    held: bool
    unevictable: bool
    waiting: int
    last_eviction: EvictionRecord | None


def find_region(process: Process, region_id: int, name: str) -> Region:
    """A region of a process by number, or by name where the number is 0; raises NotFound."""
    if region_id:
        found = process.regions.get(region_id)
        if found is None:
            raise NotFound(f"process {process.process_id} has no region {region_id}")
        return found
    named = [region for region in process.regions.values() if region.name == name]
    if len(named) != 1:
        count = "no region" if not named else f"{len(named)} regions"
        raise NotFound(f"process {process.process_id} has {count} called {name!r}; `usmctl regions` lists them")
    return named[0]


def explain(core: Core, region: Region, page: int) -> PageReport:
    """All that is known about a page of a region. The page number must be in range."""
    state, life = core.state, core.life
    frames = state.frames
    key = page_key(region.region_id, page)
    entry = region.table[page]
    pfn = entry - 1 if entry > 0 else None
    flags = 0 if pfn is None else frames.flags[pfn]
    reference: int | None = -entry - 1 if entry < 0 else None
    frozen = core.frozen.get(region.process.process_id)
    waiting = sum(
        each.waiter.region is region and each.waiter.page == page
        for each in chain(core.waiting, () if frozen is None else frozen.pages)
    )
    if pfn is not None:
        if frames.slot[pfn] != NO_SLOT:
            reference = frames.slot[pfn]
        if pfn in life.filling:
            reference = life.filling[pfn].reference
            waiting += len(life.filling[pfn].waiters)
    records = [record for record in region.process.evictions if record.page == key]
    if pfn is not None:
        name = STATE_NAMES[frames.state[pfn]]
    else:
        name = "SWAPPED" if entry < 0 else "ABSENT"
    return PageReport(
        region_id=region.region_id,
        page=page,
        state=name,
        frame=pfn,
        slot=reference,
        generation=0 if reference is None else state.swap.generation(reference),
        dirty=bool(flags & DIRTY),
        pinned=bool(flags & PINNED),
        held=bool(flags & HELD),
        unevictable=bool(flags & UNEVICTABLE),
        waiting=waiting,
        last_eviction=records[-1] if records else None,
    )
