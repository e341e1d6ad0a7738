"""Holds: a page that a fault brought in stays in memory until the access after the fault touches it.

A fault counts as a touch here, when its hold begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from usmd.core.frames import HELD, KEPT, PRESENT
from usmd.core.region import PAGE_BITS

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process
    from usmd.core.state import State


MAX_MET: Final = 1024
"""Held pages for which reclaim between the watermarks remembers when it first spared them."""


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

    def begin_new(self, process: Process, frames: Sequence[int]) -> None:
        """As `begin` for frames that pages without a hint have just come into by faults, which no recording hears."""
        held, budget = self._held, self._budget
        if not isinstance(frames, range) or len(frames) > budget:
            for pfn in frames:
                self.begin(process, pfn, False, True)
            return
        flags = self._frames.flags
        for _ in range(len(held) + len(frames) - budget):
            oldest, _until = held.popitem(last=False)
            flags[oldest] &= ~HELD
        flags[frames.start : frames.stop] = bytes((flags[frames.start] | HELD,)) * len(frames)
        held.update(dict.fromkeys(frames, self._state.now + self._seconds))

    def count_touch(self, process: Process, pfn: int, *, write: bool, told: bool) -> None:
        """Count a fault as a touch of a page that has its bytes. `told`: as for `begin`."""
        frames = self._frames
        if process.touches is not None:
            process.touches.extend((frames.page[pfn], 3 if write else 2))
        if not told and not frames.flags[pfn] & KEPT:
            process.policies.page_accessed(pfn, write=write)


def end_all(state: State, life: PageLife) -> None:
    """End all holds, those of real faults included."""
    for pfn in list(state.holds):
        life.end_hold(pfn)
    state.recent.clear()


def end_those_of(process: Process, state: State, life: PageLife) -> bool:
    """End all holds of one process, those of real faults included; returns whether there were any."""
    keys = state.frames.page

    def is_own(pfn: int) -> bool:
        region = state.regions.get(keys[pfn] >> PAGE_BITS)
        return region is not None and region.process is process

    held = [pfn for pfn in state.holds if is_own(pfn)]
    for pfn in held:
        life.end_hold(pfn)
    recent = [pfn for pfn in state.recent if is_own(pfn)]
    for pfn in recent:
        state.recent.remove(pfn)
    return bool(held or recent)


class Spared:
    """The held pages that reclaim between the watermarks leaves to their threads for a moment."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._met: dict[int, tuple[float, float]] = {}
        """Page key → (rough time of its fill, time at which `spares` first spared it after that)."""

    def spares(self, pfn: int) -> bool:
        """Whether to leave a held frame to its thread: for the first `reclaim_rest`.

        If the event that brought the page in evicted it again, the thread could fault on it for ever.
        """
        state = self._state
        key, filled = state.frames.page[pfn], state.frames.filled[pfn]
        before, since = self._met.get(key, (filled, None))
        if since is None or before != filled:
            if len(self._met) >= MAX_MET:
                self._met.clear()
            since = state.now
            self._met[key] = filled, since
        return state.now - since < state.settings.reclaim_rest

    def forget(self, key: int) -> None:
        """The page was evicted."""
        self._met.pop(key, None)
