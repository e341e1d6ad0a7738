"""Holds: a page that was faulted in stays until it is touched, so that a fault and the access after it meet.

Also where a fault counts as a touch, because that is where its hold begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import HELD, KEPT, PRESENT

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State


class Holds:
    """Begins holds within the budget; `PageLife.unpin` ends them."""

    __slots__ = ("_budget", "_frames", "_held", "_seconds", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._frames = state.frames
        self._held = state.holds
        self._budget = state.settings.hold_budget
        self._seconds = state.settings.hold_seconds

    def begin(self, process: Process, pfn: int, *, write: bool, told: bool) -> None:
        """Hold a PRESENT frame within the budget; the oldest hold gives way to the newest.

        The access that a hold is for ends it and is not counted: the touch is counted here, where a hold begins.
        `told`: the evict policy has heard of this fault by `page_filled`.
        """
        frames, budget = self._frames, self._budget
        if budget == 0 or frames.state[pfn] != PRESENT:
            return
        held, flags = self._held, frames.flags
        if flags[pfn] & HELD:
            held.move_to_end(pfn)
        else:
            if len(held) >= budget:
                oldest, _ = held.popitem(last=False)
                flags[oldest] &= ~HELD
            flags[pfn] |= HELD
            self.count_touch(process, pfn, write=write, told=told)
        held[pfn] = self._state.now + self._seconds

    def count_touch(self, process: Process, pfn: int, *, write: bool, told: bool) -> None:
        """Count a fault's touch of a page that has its bytes; `told`: the evict policy has just heard of the page."""
        frames = self._frames
        if process.touches is not None:
            process.touches.extend((frames.page[pfn], 3 if write else 2))
        if not told and not frames.flags[pfn] & KEPT:
            process.policies.page_accessed(pfn, write=write)
