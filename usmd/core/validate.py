"""The invariants of the core, checkable at any time between two events. Costs time in proportion to what there is.

Each frame has exactly one state and at most one page, each slot at most one page; free + filling + present + evicting =
all frames; nothing pinned or denied is being evicted; every count says what a count of the things themselves says.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from usmd.core.frames import DENIED, DIRTY, EVICTING, FILLING, FREE, KEPT, LOCKED, NO_PAGE, NO_SLOT, PINNED, PRESENT
from usmd.core.region import page_key
from usmd.core.swap_map import SLOT_BITS, SLOT_MASK

if TYPE_CHECKING:
    from usmd.core.machine import Core


def violations(core: Core) -> list[str]:
    """What does not hold, in words; empty when all is well."""
    found: list[str] = []
    found += _frames(core)
    found += _tables(core)
    found += _slots(core)
    found += _counts(core)
    return found


def _frames(core: Core) -> list[str]:
    frames, life = core.state.frames, core.life
    found = []
    if frames.free != frames.count_state(FREE):
        found.append(f"free is {frames.free}, but {frames.count_state(FREE)} frames are")
    if sum(frames.count_state(each) for each in (FREE, FILLING, PRESENT, EVICTING)) != frames.count:
        found.append("a frame has a state that is none")
    for pfn in range(frames.count):
        state, flags, key = frames.state[pfn], frames.flags[pfn], frames.page[pfn]
        orphan = state == FILLING and life.filling[pfn].region is None if pfn in life.filling else False
        if (key == NO_PAGE) != (state == FREE or orphan):
            found.append(f"frame {pfn} in state {state} has page {key}")
        if state == FREE and (flags or frames.slot[pfn] != NO_SLOT):
            found.append(f"free frame {pfn} has flags {flags} or slot {frames.slot[pfn]}")
        if state == EVICTING and flags & (KEPT | PINNED):
            found.append(f"frame {pfn} is being evicted with flags {flags}")
        if (pfn in life.filling) != (state == FILLING) or (pfn in life.evicting) != (state == EVICTING):
            found.append(f"frame {pfn} in state {state} disagrees with what is in flight")
        if (pfn in core.state.pins) != bool(flags & PINNED):
            found.append(f"frame {pfn} disagrees with the pins")
        if state in (PRESENT, EVICTING) and bool(flags & DIRTY) != (frames.slot[pfn] == NO_SLOT):
            found.append(f"frame {pfn} is {'dirty' if flags & DIRTY else 'clean'} with slot {frames.slot[pfn]}")
    return found


def _tables(core: Core) -> list[str]:
    frames = core.state.frames
    found = []
    mapped = 0
    for region in core.state.regions.values():
        resident = 0
        for page, entry in region.table.entries():
            if entry > 0:
                resident += 1
                if frames.page[entry - 1] != page_key(region.region_id, page):
                    found.append(f"page {page} of region {region.region_id} is not in its frame {entry - 1}")
        mapped += resident
        if region.resident != resident:
            found.append(f"region {region.region_id} counts {region.resident} resident pages, there are {resident}")
        if region.process.process_id not in core.state.processes:
            found.append(f"region {region.region_id} has no process")
    if mapped != sum(1 for key in frames.page if key != NO_PAGE):
        found.append(f"{mapped} pages are mapped to frames that hold another number of pages")
    return found


def _slots(core: Core) -> list[str]:
    state, life = core.state, core.life
    users: Counter[int] = Counter(reference for reference in state.frames.slot if reference != NO_SLOT)
    users.update(life.writing.keys())
    users.update(filling.reference for filling in life.filling.values())
    for region in (*state.regions.values(), *state.dying.values()):
        users.update(-entry - 1 for _, entry in region.table.entries() if entry < 0)
    found = [f"slot {reference} has {count} users" for reference, count in users.items() if count != 1]
    for device in state.swap.devices:
        used = {reference & SLOT_MASK for reference in users if reference >> SLOT_BITS == device.number}
        marked = {slot for slot in range(device.slots) if device.used[slot]}
        if used != marked:
            found.append(f"device {device.name}: slots {sorted(used ^ marked)} are used or marked, but not both")
        if device.free != device.slots - len(marked):
            found.append(
                f"device {device.name} counts {device.free} free slots, there are {device.slots - len(marked)}"
            )
    return found


def _counts(core: Core) -> list[str]:
    state = core.state
    found = []
    denied = sum(1 for flags in state.frames.flags if flags & DENIED)
    if state.denied != denied or sum(process.denied for process in state.processes.values()) != denied:
        found.append(f"{state.denied} denied frames are counted, there are {denied}")
    locked = sum(1 for flags in state.frames.flags if flags & LOCKED)
    if state.locked != locked or sum(len(process.pins) for process in state.processes.values()) != locked:
        found.append(f"{state.locked} pinned frames are counted, there are {locked}")
    if denied + locked > state.settings.deny_budget_total:
        found.append(f"{denied + locked} kept frames exceed the budget of {state.settings.deny_budget_total}")
    for process in state.processes.values():
        if process.resident != sum(region.resident for region in process.regions.values()):
            found.append(f"process {process.process_id} counts {process.resident} resident pages wrongly")
        if process.denied + process.locked > state.settings.deny_budget or process.locked != len(process.pins):
            found.append(f"process {process.process_id} keeps more frames than its budget, or counts them wrongly")
    for region in state.regions.values():
        swapped = sum(1 for _, entry in region.table.entries() if entry < 0)
        if region.swapped != swapped:
            found.append(f"region {region.region_id} counts {region.swapped} swapped pages, there are {swapped}")
    unwritten = sum(1 for evicting in core.life.evicting.values() if evicting.reference == NO_SLOT)
    if core.life.unwritten != unwritten:
        found.append(f"{core.life.unwritten} evictions without a slot are counted, there are {unwritten}")
    passing = sum(1 for filling in core.life.filling.values() if filling.device is not None)
    if core.life.passing != passing:
        found.append(f"{core.life.passing} pages on their way to another device are counted, there are {passing}")
    for reference, pfn in core.life.writing.items():
        if pfn is not None and (pfn not in core.life.evicting or core.life.evicting[pfn].reference != reference):
            found.append(f"slot {reference} is being written from frame {pfn}, which is not being evicted to it")
    return found
