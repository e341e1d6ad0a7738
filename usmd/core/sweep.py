"""The core's own choice of victims, for policies that name none that can go: a hand that goes round the frames.

Of a process at its `swap_max` only clean pages can go. It may have very few, which came in from swap while it was
there. Then only those are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from usmd.core.frames import CLEAN_AT, DIRTY, EVICTABLE_AT, HELD, PRESENT
from usmd.core.hint_order import lowest_in_flight
from usmd.core.hints import Priority
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.victims import SWEEP

if TYPE_CHECKING:
    from usmd.core.givers import Givers
    from usmd.core.page_life import PageLife
    from usmd.core.passed_over import PassedOver
    from usmd.core.region import Process
    from usmd.core.slot_room import SlotRoom
    from usmd.core.state import State


class Settled(Enum):
    """What became of a page that deferred work had not reached yet."""

    GONE = 1
    """Its region is gone, so its frame was freed."""
    OTHER_RIGHTS = 2
    """Its hint changed its rights."""


class Sweep:
    """Evicts pages, the lowest priority first. `barred`: as of `Reclaim`, after a sweep over pages of one process."""

    def __init__(self, state: State, life: PageLife, slots: SlotRoom, passed_over: PassedOver, givers: Givers) -> None:
        self._state = state
        self._life = life
        self._slots = slots
        self._passed_over = passed_over
        self._givers = givers
        self._hand = 0
        """Where the next look at all frames begins."""
        self.barred = False

    def any(self, wanted: int, reason: str) -> int:
        """Evict pages of any process; looks at all frames. Returns how many."""
        return self._sweep(None, wanted, self._state.frames.count, reason, None)

    def of(self, process: Process, wanted: int, limit: int, reason: str) -> int:
        """Evict pages of a process; looks at `limit` frames of each priority at most. Returns how many."""
        self.barred = False
        known = process.clean_frames
        if known and self._slots.of(process) <= 0 and self._are_all(process, known):
            return self._sweep(process, wanted, len(known), reason, list(known))
        return self._sweep(process, wanted, limit, reason, None)

    def _are_all(self, process: Process, known: Iterable[int]) -> bool:
        """Whether a process has no clean page but those in these frames."""
        state = self._state
        frames = state.frames
        count = 0
        for pfn in known:
            if frames.state[pfn] == PRESENT and not frames.flags[pfn] & DIRTY:
                region = state.regions.get(frames.page[pfn] >> PAGE_BITS)
                count += region is not None and region.process is process
        return count >= state.budgets.clean(process)

    def _sweep(self, process: Process | None, wanted: int, limit: int, reason: str, among: Sequence[int] | None) -> int:
        """Evict pages of a process (None: of any). `among`: the frames to look at; None: all, `limit` at most."""
        begun = 0
        for priority in Priority:
            if process is not None and priority > process.lowest_priority:
                self.barred = lowest_in_flight(self._state, process, priority) < priority
                if self.barred:
                    break
            slots = self._slots.to_spare() if process is None else self._slots.of(process)
            marks = (EVICTABLE_AT if slots > 0 else CLEAN_AT)[priority]
            looked_at = self._marked(marks, limit) if among is None else self._marked_among(marks, among)
            more, held = self._take(process, wanted - begun, looked_at, slots, priority)
            begun += more
            if begun >= wanted or held:
                break
        self._state.victims.add(SWEEP, reason, begun)
        return begun

    def _marked(self, marks: bytes, limit: int) -> Iterator[int]:
        """Frames with flags of `marks`, `limit` at most, from the hand on."""
        marked = self._state.frames.flags.translate(marks)
        pfn = self._hand
        for _ in range(min(limit, len(marked))):
            pfn = marked.find(1, pfn)
            if pfn < 0:
                pfn = marked.find(1)
            if pfn < 0:
                break
            marked[pfn] = 0
            self._hand = pfn + 1
            yield pfn

    def _marked_among(self, marks: bytes, among: Sequence[int]) -> Iterator[int]:
        flags = self._state.frames.flags
        for pfn in among:
            if marks[flags[pfn]]:
                yield pfn

    def _take(
        self, process: Process | None, wanted: int, looked_at: Iterator[int], slots: int, priority: Priority
    ) -> tuple[int, bool]:
        """Evict pages of one priority; returns how many, and whether a frame stayed only because it is held."""
        state = self._state
        frames = state.frames
        begun, held = 0, False
        for pfn in looked_at:
            if frames.state[pfn] != PRESENT or (slots <= 0 and self._needs_slot(pfn)) or pfn in self._passed_over:
                continue
            if self.unsettled:
                if self.settle(pfn) is Settled.GONE:
                    begun += 1
                    if begun >= wanted:
                        break
                    continue
                if not EVICTABLE_AT[priority][frames.flags[pfn]]:
                    continue
            owner = state.regions[frames.page[pfn] >> PAGE_BITS].process
            if owner is not process and (process is not None or (owner.memory_min and not self._givers.most(owner))):
                continue
            if self._needs_slot(pfn) and state.budgets.swap_room(owner) <= 0:
                continue
            if self.is_held(pfn):
                held = True
                continue
            slots -= self._needs_slot(pfn)
            self._life.evict(pfn, SWEEP, "the default policy's sweep reached it")
            begun += 1
            if begun >= wanted:
                break
        return begun, held

    def _needs_slot(self, pfn: int) -> bool:
        return bool(self._state.frames.flags[pfn] & DIRTY)

    def is_held(self, pfn: int) -> bool:
        """Whether the frame is held, by an explicit or a real fault."""
        return bool(self._state.frames.flags[pfn] & HELD) or pfn in self._state.recent

    @property
    def unsettled(self) -> bool:
        """Whether deferred work may still free pages of a region that is gone, or bring pages in line with hints."""
        return self._state.releasing or self._state.refreshing > 0

    def settle(self, pfn: int) -> Settled | None:
        """Do what deferred work has still to do to a page that may go; None: that changes nothing."""
        state = self._state
        frames = state.frames
        if not 0 <= pfn < frames.count or frames.state[pfn] != PRESENT:
            return None
        key = frames.page[pfn]
        region = state.dying.get(key >> PAGE_BITS) or state.regions[key >> PAGE_BITS]
        if region.gone is None:
            return Settled.OTHER_RIGHTS if self._life.settle(pfn) else None
        self._life.discard(region, key & PAGE_MASK, pfn + 1)
        return Settled.GONE
