"""Takes pages of sampled processes out of their page tables, see `sampling`, and puts pages back.

Sampling of a process begins when memory is first short. Until then its pages come in without a note, which would cost
time for each of them. Deferred work then notes the pages that are in memory already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.commands import Sample
from usmd.core.frame_list import FrameLinks
from usmd.core.frames import DIRTY, HELD, KEPT, PRESENT
from usmd.core.region import NO_MAX
from usmd.core.sampling import PART, Sampling
from usmd.core.work import Kind, Work

if TYPE_CHECKING:
    from usmd.core.events import SetSampling
    from usmd.core.pages_left import Steps
    from usmd.core.region import Process
    from usmd.core.state import State

MAX_AN_EVENT: Final = 128
"""Pages taken out in one event, which bounds its time."""
SHORT: Final = 4
"""Memory is short if less than one frame in so many is free, or may yet be used by a process with a memory_max."""
STAYS: Final = 8
"""Of its pages in memory, one in so many stays in the page table: those heard of last."""
LEAST: Final = 64
"""Pages that stay at least: more than the frames held for real faults, which are not touched yet."""


class Sampler:
    """Takes pages out of page tables, and puts them back."""

    def __init__(self, state: State) -> None:
        self._state = state

    def set(self, event: SetSampling) -> None:
        """Begin to sample a process, or cease."""
        state = self._state
        process = state.processes.get(event.process_id)
        if process is None or state.settings.sampling <= 0:
            return
        if process.sampling is not None:
            process.sampling.active = event.on
            process.sampling.since = 0
        elif not event.on:
            self.forget(process)
        elif process.memory_max == NO_MAX:
            state.unsampled[process] = None
            state.begin_sampling_below = -(-state.frames.count // SHORT)
        else:  # memory can be short for it though frames are free
            self._begin(process)

    def forget(self, process: Process) -> None:
        """A process is gone, or is not to be sampled if memory becomes short."""
        state = self._state
        if process in state.unsampled:
            del state.unsampled[process]
            if not state.unsampled:
                state.begin_sampling_below = 0

    def begin_next(self) -> None:
        """Begin to sample one process, because memory is short; the next event begins with the next one."""
        process = next(iter(self._state.unsampled))
        self.forget(process)
        self._begin(process)

    def _begin(self, process: Process) -> None:
        """Sample a process from now on."""
        state = self._state
        if state.sampling_links is None:
            state.sampling_links = FrameLinks(state.frames.count)
        process.sampling = Sampling(state.sampling_links, state.settings.sampling)
        if process.resident:
            process.sampling.noting = True
            state.work.add(Work(Kind.NOTE, process, steps=self._note(process, process.sampling)))

    def _note(self, process: Process, sampling: Sampling) -> Steps:
        """Note the pages of a process that are in memory already; none is taken out before all are noted."""
        mapped = sampling.mapped
        for region in list(process.regions.values()):
            for _, pfn in region.table.resident():
                if process.ended is not None:
                    return
                if region.unmapped is None and pfn not in mapped:
                    mapped.append(pfn)
                yield True
        sampling.noting = False

    def take_out(self) -> None:
        """Take out the pages that are due, the oldest first."""
        state = self._state
        wanted, state.sampling_wanted = state.sampling_wanted, []
        pages: list[int] = []
        for process in wanted:
            if process.sampling is not None and process.sampling.since:
                earned = process.sampling.batch()
                if process.sampling.active and not process.sampling.noting and self._is_of_use(process):
                    pages += self._take_out_of(process, process.sampling, earned)
        if pages:
            state.last.append(Sample(sorted(pages)))  # neighbours next to each other: a run is one call

    def _is_of_use(self, process: Process) -> bool:
        """Whether memory is short for a process, and a policy, a recording or a shadow hears touches."""
        frames, most = self._state.frames, process.memory_max
        if process.process_id not in self._state.processes:
            return False
        if process.policies.on_access is None and process.touches is None:
            return False
        return frames.free * SHORT < frames.count or (most - process.resident) * SHORT < most

    def _take_out_of(self, process: Process, sampling: Sampling, earned: int) -> list[int]:
        """The keys of the pages that are taken out."""
        state, mapped = self._state, sampling.mapped
        states, flags, keys, recent = state.frames.state, state.frames.flags, state.frames.page, state.recent
        taken: list[int] = []
        stay = LEAST // PART if sampling.in_vain else max(process.resident // STAYS, LEAST)
        for _ in range(min(earned, MAX_AN_EVENT, mapped.length - stay)):
            pfn = mapped.head
            if states[pfn] == PRESENT and not flags[pfn] & (KEPT | HELD) and pfn not in recent:
                mapped.remove(pfn)
                taken.append(keys[pfn])
            else:
                mapped.move_to_end(pfn)
        process.counters.sampled += len(taken)
        sampling.took(len(taken), process.resident)
        return taken

    def put_back(self, pfn: int) -> None:
        """A PRESENT page must be in the page table, because a thread waits for that, or a pin promises it."""
        frames = self._state.frames
        self._state.maps_again[frames.page[pfn]] = bool(frames.flags[pfn] & DIRTY)
