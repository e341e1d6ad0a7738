"""The invariants of the core. They can be checked between any two events, while the core runs on.

Each frame has exactly one state and at most one page; each slot has at most one page; free + filling + present +
evicting = all frames; nothing pinned or unevictable is being evicted; every counter equals a fresh count.

`Snapshot` copies memory: 18 bytes a frame (22 if touches are sampled), 8 a page of the chunks in use, 1 a slot.
`check` goes through the copy in small steps, so its caller can do other work in between.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from usmd.core.columns import as_bytes
from usmd.core.frames import (
    DIRTY,
    EVICTING,
    FILLING,
    FREE,
    HELD,
    KEPT,
    NO_PAGE,
    NO_SLOT,
    PINNED,
    PRESENT,
    PRIORITY_OF,
    STATE_NAMES,
    UNEVICTABLE,
)
from usmd.core.glance import disagreement
from usmd.core.hint_ranges import HintRanges
from usmd.core.hints import Priority
from usmd.core.page_table import PageTable
from usmd.core.quotas import over_budget
from usmd.core.region import NO_MAX, Process, Region, page_key
from usmd.core.swap_map import RETIRING, SLOT_BITS, SLOT_MASK
from usmd.core.work import Kind

if TYPE_CHECKING:
    from usmd.core.machine import Core

Step = str | None
"""A step of a check: a violation in words, or None."""
SHOWN_SLOTS: Final = 16
"""Most slots that one violation names."""
_STRIDE: Final = 65536
"""Slots compared in a step."""
_ONLY: Final = {flag: bytes(flags & flag for flags in range(256)) for flag in (UNEVICTABLE, PINNED)}
"""For `bytes.translate`: clears all flags but one."""


class _Filling(NamedTuple):
    reference: int
    orphan: bool


class _Region(NamedTuple):
    region_id: int
    process_id: int
    resident: int
    swapped: int
    unevictable: int
    pinned: int
    pins: int
    alive: bool
    stored: int
    table: PageTable
    hints: HintRanges
    unsettled: list[tuple[range, frozenset[int]]]
    """Ranges that deferred work has still to bring in line with their hints, and their pages that already are."""

    def is_settled(self, page: int) -> bool:
        """Whether the page, if it has a frame, should have the rights that its hint gives."""
        return not any(page in pages and page not in done for pages, done in self.unsettled)


class _Process(NamedTuple):
    process_id: int
    resident: int
    unevictable: int
    pinned: int
    stored: int
    swap_max: int
    memory_max: int
    absent_max: int
    lent: int
    hint_ranges: int
    regions: list[int]


class _Device(NamedTuple):
    number: int
    name: str
    slots: int
    free: int
    used: bytes


class Snapshot:
    """A copy of all that the invariants are about."""

    def __init__(self, core: Core) -> None:
        state, life, frames = core.state, core.life, core.state.frames
        self.free, self.states, self.flags = frames.free, bytes(frames.state), bytes(frames.flags)
        self.pages, self.slots = (array("q", as_bytes(each)) for each in (frames.page, frames.slot))
        self.filling = {pfn: _Filling(each.reference, each.region is None) for pfn, each in life.filling.items()}
        self.evicting = {pfn: each.reference for pfn, each in life.evicting.items()}
        self.writing, self.unwritten = dict(life.writing), life.unwritten
        self.moving = life.moving, sum(each.device is not None for each in life.evicting.values())
        self.arriving, self.holds = set(state.arriving), set(state.holds)
        links = state.sampling_links
        self.sampled = b"" if links is None else as_bytes(links.owner)
        """Four bytes a frame: not 0 if its page counts as in a page table whose touches are sampled."""
        self.unevictable, self.pinned = state.unevictable, state.pinned
        self.over_budget, self.budget_total = over_budget(state, life), state.settings.deny_budget_total
        self.limited, self.full = state.budgets.limited, state.budgets.full
        self.overdrawn = [each.uid for each in state.users.of.values() if each.is_overdrawn]
        self.processes = {each.process_id: _copy_of(each) for each in state.processes.values()}
        self.regions = {each.region_id: _copied(each) for each in (*state.dying.values(), *state.regions.values())}
        self.dying_frames, self.refreshing = state.dying_frames, state.refreshing
        self.work = Counter(each.kind for each in state.work.queue)
        self.notifies, self.stalled = bool(state.waits.late), state.stalls.waiting
        stalled = [each for each in state.processes.values() if each.stall.waits]
        self.stalls_wrongly = [each.process_id for each in stalled if not each.missing]
        self.waits = len(stalled)
        self.unmarked = core.has_more_to_do and not state.more_to_do
        self.waiting, self.waiting_of = len(core.waiting), sum(map(len, core.waiting_of.values()))
        self.released = next((each.next_page for each in state.work.queue if each.kind is Kind.RELEASE), 0)
        """In the oldest region that is gone, the pages before this one are ABSENT."""
        self.devices = [
            _Device(each.number, each.name, each.slots, each.free, bytes(each.used)) for each in state.swap.devices
        ]
        self.retiring = {each.number for each in state.swap.devices if each.status == RETIRING}
        self.retiring_wrongly = sorted(self.retiring ^ core.retirement.of.keys())


def _copy_of(process: Process) -> _Process:
    return _Process(
        process.process_id,
        process.resident,
        process.unevictable,
        process.pinned,
        process.stored,
        process.swap_max,
        process.memory_max,
        process.absent_max,
        process.lent,
        process.hint_ranges,
        list(process.regions),
    )


def _copied(region: Region) -> _Region:
    return _Region(
        region.region_id,
        region.process.process_id,
        region.resident,
        region.swapped,
        region.unevictable,
        region.pinned,
        len(region.pins),
        region.gone is None,
        region.stored,
        region.table.copy(),
        region.hints.copy(),
        [(range(each.next_page, each.end), frozenset(each.settled)) for each in region.unsettled],
    )


def violations(core: Core) -> list[str]:
    """The violations in words; empty if all invariants hold. Looks at every frame, page and slot."""
    return [step for step in (disagreement(core.state, core.life), *check(Snapshot(core))) if step is not None]


def check(copy: Snapshot) -> Iterator[Step]:
    """Check a copy in steps of some microseconds; yields a violation, or None for a step without one."""
    yield from _frames(copy)
    yield from _tables(copy)
    yield from _deferred(copy)
    yield from _slots(copy)
    yield from _counts(copy)
    yield from _budgets(copy)


def _frames(copy: Snapshot) -> Iterator[Step]:
    count = len(copy.states)
    if copy.free != copy.states.count(FREE):
        yield f"free is {copy.free}, but {copy.states.count(FREE)} frames are"
    if sum(copy.states.count(state) for state in range(len(STATE_NAMES))) != count:
        yield "a frame has an invalid state"
    for pfn in range(count):
        yield None
        state, flags, key, slot = copy.states[pfn], copy.flags[pfn], copy.pages[pfn], copy.slots[pfn]
        orphan = state == FILLING and pfn in copy.filling and copy.filling[pfn].orphan
        if (key == NO_PAGE) != (state == FREE or orphan):
            yield f"frame {pfn} in state {state} has page {key}"
        if state == FREE and (flags or slot != NO_SLOT):
            yield f"free frame {pfn} has flags {flags} or slot {slot}"
        if state == EVICTING and flags & (KEPT | HELD):
            yield f"frame {pfn} is being evicted with flags {flags}"
        if (pfn in copy.filling) != (state == FILLING) or (pfn in copy.evicting) != (state == EVICTING):
            yield f"frame {pfn} in state {state} disagrees with what is in flight"
        if key == NO_PAGE and any(copy.sampled[4 * pfn : 4 * pfn + 4]):
            yield f"frame {pfn} has no page, and counts as in a page table"
        if (pfn in copy.holds) != bool(flags & HELD):
            yield f"frame {pfn} disagrees with the holds"
        if state in (PRESENT, EVICTING) and bool(flags & DIRTY) != (slot == NO_SLOT):
            yield f"frame {pfn} is {'dirty' if flags & DIRTY else 'clean'} with slot {slot}"


def _tables(copy: Snapshot) -> Iterator[Step]:
    mapped = 0
    for region in copy.regions.values():
        resident = swapped = 0
        for page, entry in region.table.entries():
            yield None
            if entry < 0:
                swapped += 1
                continue
            resident += 1
            if entry > len(copy.pages) or copy.pages[entry - 1] != page_key(region.region_id, page):
                yield f"page {page} of region {region.region_id} is not in its frame {entry - 1}"
            elif region.alive and copy.states[entry - 1] == PRESENT:
                yield _wrong_rights(region, page, copy.flags[entry - 1])
        mapped += resident
        if region.resident != resident:
            yield f"region {region.region_id} counts {region.resident} resident pages, there are {resident}"
        if region.swapped != swapped:
            yield f"region {region.region_id} counts {region.swapped} swapped pages, there are {swapped}"
        if region.alive and region.process_id not in copy.processes:
            yield f"region {region.region_id} has no process"
    if mapped != len(copy.pages) - copy.pages.count(NO_PAGE):
        yield f"{mapped} pages are mapped to frames that hold another number of pages"


def _wrong_rights(region: _Region, page: int, flags: int) -> Step:
    """A violation if the flags of a page in memory differ from the hint in force on it."""
    found = region.hints.find(page)
    priority = Priority.NORMAL if found is None else found.hint.priority
    unevictable = flags & UNEVICTABLE and (found is None or not found.hint.deny)
    if (PRIORITY_OF[flags] != priority or unevictable) and region.is_settled(page):
        return f"page {page} of region {region.region_id} has flags {flags}, which are not those of its hint"
    return None


def _deferred(copy: Snapshot) -> Iterator[Step]:
    """Deferred work, and the regions that it still has to release."""
    if copy.work[Kind.NOTIFY] != copy.notifies:
        yield f"waiters are {'' if copy.notifies else 'not '}to be notified, and {copy.work[Kind.NOTIFY]} pieces do it"
    if copy.stalled != copy.waits or copy.stalls_wrongly:
        yield f"{copy.stalled} processes are counted as waiting, {copy.waits} do; without a fault {copy.stalls_wrongly}"
    if copy.waiting != copy.waiting_of:
        yield f"{copy.waiting} pages wait for memory, and processes have {copy.waiting_of} such pages"
    if copy.unmarked:
        yield "there is more to do after an event than after most, and no mark says so"
    dying = [region for region in copy.regions.values() if not region.alive]
    if copy.dying_frames != sum(region.resident for region in dying):
        yield f"{copy.dying_frames} frames are counted for regions that are gone"
    if copy.work[Kind.RELEASE] != bool(dying):
        yield f"{len(dying)} regions are gone, and {copy.work[Kind.RELEASE]} pieces of work release them"
    for page, entry in dying[0].table.entries(0, copy.released) if dying else ():
        yield f"page {page} of region {dying[0].region_id} was released, and has entry {entry}"
    if copy.retiring_wrongly or (copy.retiring and not copy.work[Kind.RETIRE]):
        yield f"swap devices {copy.retiring_wrongly} are retiring or counted so, and {copy.work[Kind.RETIRE]} pieces do"
    if copy.refreshing != copy.work[Kind.REFRESH]:
        yield f"{copy.refreshing} hints are being brought to pages, and {copy.work[Kind.REFRESH]} pieces of work do it"
    waiting = sum(len(region.unsettled) for region in copy.regions.values() if region.alive)
    if waiting > copy.refreshing:
        yield f"regions wait for {waiting} hints to be brought to pages, and {copy.refreshing} are"


def _references(copy: Snapshot) -> Iterator[int]:
    """Each use of a slot, by reference; NO_SLOT for a step without one."""
    yield from copy.slots
    yield from copy.writing
    for filling in copy.filling.values():
        yield filling.reference
    for region in copy.regions.values():
        for _, entry in region.table.entries():
            yield -entry - 1 if entry < 0 else NO_SLOT


def _slots(copy: Snapshot) -> Iterator[Step]:
    used = [bytearray(device.slots) for device in copy.devices]
    for reference in _references(copy):
        yield None
        if reference == NO_SLOT:
            continue
        number, slot = reference >> SLOT_BITS, reference & SLOT_MASK
        if number >= len(used) or slot >= len(used[number]):
            yield f"slot {slot} of device {number} is used, but does not exist"
            continue
        users = used[number][slot] = min(used[number][slot] + 1, 255)
        if users > 1:
            yield f"slot {reference} has {users} users"
    for device, users_of in zip(copy.devices, used, strict=True):
        unequal: list[int] = []
        for start in range(0, device.slots, _STRIDE):
            yield None
            mine, marked = users_of[start : start + _STRIDE], device.used[start : start + _STRIDE]
            if mine != marked and len(unequal) < SHOWN_SLOTS:
                unequal += [start + number for number, each in enumerate(mine) if bool(each) != bool(marked[number])]
        if unequal:
            yield f"device {device.name}: slots {unequal[:SHOWN_SLOTS]} are used or marked, but not both"
        marked_slots = device.slots - device.used.count(0)
        if device.free != device.slots - marked_slots:
            yield f"device {device.name} counts {device.free} free slots, there are {device.slots - marked_slots}"


def _with_flag(flags: bytes, flag: int) -> int:
    """Number of frames that have a flag."""
    return len(flags) - flags.translate(_ONLY[flag]).count(0)


def _counts(copy: Snapshot) -> Iterator[Step]:
    alive = [region for region in copy.regions.values() if region.alive]
    for what, flag, counted, in_regions, in_processes, everywhere in (
        (
            "unevictable", UNEVICTABLE, copy.unevictable, sum(each.unevictable for each in alive),
            sum(each.unevictable for each in copy.processes.values()),
            sum(each.unevictable for each in copy.regions.values()),
        ),
        (
            "pinned", PINNED, copy.pinned, sum(each.pinned for each in alive),
            sum(each.pinned for each in copy.processes.values()), sum(each.pins for each in copy.regions.values()),
        ),
    ):  # fmt: skip
        if not counted == in_regions == in_processes or everywhere != _with_flag(copy.flags, flag):
            yield (
                f"{counted} {what} frames are counted, {in_processes} for processes and {in_regions} for regions; with "
                f"those of regions that are gone {everywhere}, and {_with_flag(copy.flags, flag)} have the flag"
            )
    kept = _with_flag(copy.flags, UNEVICTABLE) + _with_flag(copy.flags, PINNED)
    kept -= sum(each.unevictable + each.pinned for each in copy.regions.values() if not each.alive)
    if kept > copy.budget_total:
        yield f"{kept} kept frames exceed the budget of {copy.budget_total}"
    for process in copy.processes.values():
        yield None
        own = [copy.regions[each] for each in process.regions if each in copy.regions]
        if process.hint_ranges != sum(len(region.hints) for region in own):
            yield f"process {process.process_id} counts {process.hint_ranges} ranges with a hint wrongly"
        if process.resident != sum(region.resident for region in own):
            yield f"process {process.process_id} counts {process.resident} resident pages wrongly"
        if process.process_id in copy.over_budget:
            yield f"process {process.process_id} keeps more frames than its budget"
    unwritten = sum(1 for reference in copy.evicting.values() if reference == NO_SLOT)
    if copy.unwritten != unwritten:
        yield f"{copy.unwritten} evictions without a slot are counted, there are {unwritten}"
    if copy.moving[0] != copy.moving[1]:
        yield f"{copy.moving[0]} evictions to another device are counted, there are {copy.moving[1]}"
    if not copy.arriving <= copy.filling.keys():
        lost = sorted(copy.arriving - copy.filling.keys())
        yield f"frames {lost} migrate to another device, and are not being filled"
    for reference, pfn in copy.writing.items():
        yield None
        if pfn is not None and copy.evicting.get(pfn) != reference:
            yield f"slot {reference} is being written from frame {pfn}, which is not being evicted to it"


def _budgets(copy: Snapshot) -> Iterator[Step]:
    """The pages that count against each `swap_max`: in swap, on their way in or out, and in memory with a slot."""
    limited = [process for process in copy.processes.values() if process.swap_max != NO_MAX]
    full = [process for process in limited if process.stored >= max(process.swap_max, 1)]
    if (copy.limited, copy.full) != (len(limited), len(full)):
        yield (
            f"{copy.limited} processes with a swap_max are counted, {copy.full} of them at it; there are "
            f"{len(limited)} and {len(full)}"
        )
    for process in copy.processes.values():
        if process.memory_max - process.absent_max != (process in full):
            yield f"process {process.process_id} keeps {process.memory_max - process.absent_max} frames for swap"
        if process.resident > process.memory_max + process.lent:
            yield (
                f"process {process.process_id} has {process.resident} pages in memory, its memory_max is "
                f"{process.memory_max}, and {process.lent} are lent to it"
            )
    for uid in copy.overdrawn:
        yield f"the processes of user {uid} have grants beyond its limits"
    for process in copy.processes.values():
        stored = 0
        for region in [copy.regions[each] for each in process.regions if each in copy.regions]:
            in_region = 0
            for _, entry in region.table.entries():
                yield None
                pfn = entry - 1
                if entry < 0 or pfn >= len(copy.states) or copy.states[pfn] != PRESENT or copy.slots[pfn] != NO_SLOT:
                    in_region += 1
            if region.stored != in_region:
                yield f"region {region.region_id} counts {region.stored} pages in swap, there are {in_region}"
            stored += in_region
        if process.stored != stored or stored > process.swap_max:
            yield (
                f"process {process.process_id} counts {process.stored} pages against its swap_max of "
                f"{process.swap_max}, there are {stored}"
            )
