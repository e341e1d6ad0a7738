"""Holds: a page that a fault brought in stays in memory until the access after the fault touches it.

A fault counts as a touch here, when its hold begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import HELD, KEPT, PRESENT

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.state import State


class Holds:
    """Begins holds within the budget; `PageLife.end_hold` ends them."""

    __slots__ = ("_budget", "_frames", "_held", "_seconds", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._frames = state.frames
        self._held = state.holds
        self._budget = state.settings.hold_budget
        self._seconds = state.settings.hold_seconds

    def begin(self, process: Process, pfn: int, write: bool, told: bool) -> None:
        """Hold a PRESENT frame. If the budget is used up, the oldest hold ends.

        The touch is counted here; the access after the fault ends the hold and is not counted. `told`: the evict policy
        was notified of this fault by `page_filled`.
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
            if not told or process.touches is not None:
                self.count_touch(process, pfn, write=write, told=told)
        held[pfn] = self._state.now + self._seconds

    def count_touch(self, process: Process, pfn: int, *, write: bool, told: bool) -> None:
        """Count a fault as a touch of a page that has its bytes. `told`: as for `begin`."""
        frames = self._frames
        if process.touches is not None:
            process.touches.extend((frames.page[pfn], 3 if write else 2))
        if not told and not frames.flags[pfn] & KEPT:
            process.policies.page_accessed(pfn, write=write)
