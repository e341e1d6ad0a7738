"""The order of hints among pages that no policy can name, because they are on their way in or out.

A frame that a page of low priority leaves or fills is free, or may be evicted, in a moment. So reclaim waits for it
rather than evict a page of a higher priority of the same process, however much the waiting faults want.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import PRIORITY_OF
from usmd.core.hints import Priority
from usmd.core.region import PAGE_MASK

if TYPE_CHECKING:
    from usmd.core.region import Process, Region
    from usmd.core.state import State


def lowest_in_flight(state: State, process: Process, bound: int) -> int:
    """The lowest priority of a page of a process that is on its way in or out; `bound` if none is below that.

    A page that comes in under EVICTION=DENY does not count: it is no victim.
    """
    floor: int = process.lowest_priority
    lowest = bound
    frames = state.frames
    for pfn, evicting in state.evicting.items():
        if lowest <= floor:
            break
        if evicting.region.process is process:
            lowest = min(lowest, PRIORITY_OF[frames.flags[pfn]])
    for pfn, filling in state.filling.items():
        if lowest <= floor:
            break
        region = filling.region
        if region is not None and region.process is process:
            lowest = min(lowest, _priority_to_come(region, frames.page[pfn] & PAGE_MASK, bound))
    return lowest


def has_lower(state: State, process: Process, pfn: int) -> bool:
    """Whether, where the evict policy heeds PRIORITY, a page of lower priority than `pfn` has may go, or soon will.

    Then a policy cannot give the page up: it may order pages by priority, while a policy below it gives up its own.
    """
    flags, policies = state.frames.flags, process.policies
    priority: int = PRIORITY_OF[flags[pfn]]
    if not policies.by_priority or priority <= process.lowest_priority:
        return False
    if lowest_in_flight(state, process, priority) < priority:
        return True
    first = policies.first_victim()
    return 0 <= first < len(flags) and PRIORITY_OF[flags[first]] < priority


def _priority_to_come(region: Region, page: int, bound: int) -> int:
    """The priority that a page will have once it is in memory; `bound` if it is not to be evicted then."""
    found = region.hints.find(page) if region.hints.ranges else None
    if found is None:
        return Priority.NORMAL.value
    return bound if found.hint.deny else found.hint.priority.value
