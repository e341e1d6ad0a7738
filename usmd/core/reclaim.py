"""Reclaim: which process gives frames, which victims its evict policy names, and what to do when it names none.

Reclaim begins when fewer than `low` frames are free, works in batches, and ends at `high`. The process with most
evictable pages gives first, so that no process pays for another that has more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import DENIED, DIRTY, PINNED, PRESENT
from usmd.core.guard import shown
from usmd.core.region import PAGE_BITS

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process
    from usmd.core.state import State


class Reclaim:
    """Begins evictions; `PageLife` ends them."""

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self.reclaiming = False
        """Background reclaim is on its way from below the low watermark up to the high one."""
        self._idle_until = 0.0
        """Time until which background reclaim rests, because it found nothing that can go."""
        self._hand = 0
        """Where the sweep of the default policy goes on."""

    def between_marks(self) -> None:
        """Background reclaim, after every event: from below the low watermark up to the high one."""
        state = self._state
        settings = state.settings
        coming = state.frames.free + len(self._life.evicting)
        if coming < settings.low:
            self.reclaiming = True
        elif coming >= settings.high:
            self.reclaiming = False
        if not self.reclaiming or state.now < self._idle_until:
            return
        if self.evict(min(settings.high - coming, settings.reclaim_batch)) == 0:
            self._idle_until = state.now + settings.reclaim_rest

    def for_faults(self, wanted: int) -> int:
        """Begin evictions for faults that wait; returns how many.

        When nothing can go it rests while I/O is in flight, which will bring frames. Without any, pins end and every
        frame is looked at, before the oom policy has its say.
        """
        state = self._state
        wanted = min(wanted, state.settings.reclaim_batch)
        in_flight = bool(self._life.evicting or self._life.filling)
        if in_flight and state.now < self._idle_until:
            return 0
        begun = self.evict(wanted)
        if begun == 0 and in_flight:
            self._idle_until = state.now + state.settings.reclaim_rest
        elif begun == 0:
            for pfn in list(state.pins):
                self._life.unpin(pfn)
            begun = self.evict(wanted) or self._sweep(None, wanted, state.frames.count)
        return begun

    def evict(self, wanted: int) -> int:
        """Begin up to `wanted` evictions, from the largest process down; returns how many."""
        begun = 0
        givers = [process for process in self._state.processes.values() if process.resident > process.denied]
        givers.sort(key=lambda process: process.denied - process.resident)
        for process in givers:
            if begun >= wanted:
                break
            begun += self._from_process(process, wanted - begun)
        if begun:
            self._state.notice(
                "pages_evicted", 0, f"{begun} pages chosen for eviction", {"pages": str(begun), "wanted": str(wanted)}
            )
        return begun

    def _from_process(self, process: Process, wanted: int) -> int:
        state = self._state
        policies = process.policies
        slots = self._slots_to_spare()
        chosen: dict[int, None] = {}
        for pfn in policies.candidates(max(state.settings.scan_limit, wanted)):
            wrong = self._objection(process, pfn)
            if wrong is not None or pfn in chosen:
                policies.broke("evict", f"choose_victims named frame {shown(pfn)}, which is {wrong or 'named already'}")
                continue
            if state.frames.flags[pfn] & PINNED or (slots <= 0 and self._needs_slot(pfn)):
                process.counters.refused_victims += 1
                continue
            slots -= self._needs_slot(pfn)
            chosen[pfn] = None
            if len(chosen) >= wanted:
                break
        name = policies.specifications["evict"]
        for pfn in chosen:
            self._life.evict(pfn, name, policies.reason(pfn))
        return len(chosen) or self._sweep(process, wanted, state.settings.scan_limit)

    def _objection(self, process: Process, pfn: int) -> str | None:
        """Why a frame can be no victim of the process, or None; a pinned frame may be named, but is not taken."""
        frames = self._state.frames
        if not 0 <= pfn < frames.count:
            return f"no frame (there are 0 to {frames.count - 1})"
        if frames.state[pfn] != PRESENT:
            return "not present"
        if self._state.regions[frames.page[pfn] >> PAGE_BITS].process is not process:
            return "not the process's"
        return "denied" if frames.flags[pfn] & DENIED else None

    def _slots_to_spare(self) -> int:
        """Free slots that no eviction under way will need."""
        unwritten = sum(1 for evicting in self._life.evicting.values() if evicting.reference < 0)
        return self._state.swap.writable(self._state.now) - unwritten

    def _needs_slot(self, pfn: int) -> bool:
        return bool(self._state.frames.flags[pfn] & DIRTY)

    def _sweep(self, process: Process | None, wanted: int, limit: int) -> int:
        """The default policy: victims of a process (None: of any) by a hand that goes round the frames."""
        state = self._state
        frames = state.frames
        slots = self._slots_to_spare()
        begun = 0
        for _ in range(min(limit, frames.count)):
            pfn = self._hand
            self._hand = pfn + 1 if pfn + 1 < frames.count else 0
            if frames.state[pfn] != PRESENT or frames.flags[pfn] & (DENIED | PINNED):
                continue
            if slots <= 0 and self._needs_slot(pfn):
                continue
            owner = state.regions[frames.page[pfn] >> PAGE_BITS].process
            if process is not None and owner is not process:
                continue
            slots -= self._needs_slot(pfn)
            self._life.evict(pfn, "default", "the default policy's sweep reached it")
            begun += 1
            if begun >= wanted:
                break
        return begun

    def now(self, pfns: list[int]) -> None:
        """Evict these frames for DONTNEED, where they can go."""
        slots = self._slots_to_spare()
        for pfn in pfns:
            if self._state.frames.state[pfn] != PRESENT or self._state.frames.flags[pfn] & (DENIED | PINNED):
                continue
            if self._needs_slot(pfn):
                if slots <= 0:
                    continue
                slots -= 1
            self._life.evict(pfn, "hint", "DONTNEED")
