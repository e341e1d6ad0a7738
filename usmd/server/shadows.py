"""The shadow of a live process: simulations that get its touches, in short turns that leave the loop to the daemon.

A simulation has one region; the regions of the process lie in it one after the other, so that hints hold on the same
pages. With sampling, simulations get the touches of one page in K, chosen by a hash of its number, and have a K-th of
the frames. The miss ratio of the sample is that of the whole (C. Waldspurger et al., "Efficient MRC Construction with
SHARDS", FAST 2015). It is scaled by the number of all touches, the paper's correction for hot pages (SHARDS-adj).
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from usmd.core import events
from usmd.core.hints import Hint
from usmd.core.region import PAGE_BITS, PAGE_MASK, Process, Region, page_key
from usmd.core.running import Running
from usmd.core.settings import CoreSettings
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.server.shadow_simulation import ShadowSimulation
from usmd.server.taps import Change, split

MAX_SIMULATIONS: Final = 8
"""Policies beside the one in force."""
MAX_FRAMES: Final = 1 << 21
"""Frames of all simulations together; one takes about 100 bytes."""
MIN_FRAMES: Final = 16
"""Frames of a simulation with sampling; with fewer the sample says nothing."""
MAX_WAITING: Final = 1 << 18
"""Touches kept for the next turns, 4 MiB; later ones are dropped and counted."""
TURN_SECONDS: Final = 0.001
"""Time of a turn, about. A rest as long follows, so that a shadow takes at most half of the daemon's time."""
ENOUGH: Final = 512
"""Touches that are worth a turn, which costs some 20 microseconds a simulation beside the work for each touch."""
REST_SECONDS: Final = 0.01
"""Time between two looks whether there are enough touches."""
MOST_REST_SECONDS: Final = 0.2
"""How long fewer touches wait for more."""
_LONGEST_RUN: Final = 8192
_SHORTEST_RUN: Final = 64
_TO_WRITES: Final = bytes.maketrans(bytes(range(4)), b"\0\1\0\1")
_WORD: Final = (1 << 64) - 1
_GONE: Final = Hint(text="DONTNEED", dont_need=True, lasting=False)


def sampled(key: int, limit: int) -> bool:
    """Whether a page is in the sample: its hash is below `limit`, of 2^64."""
    mixed = key * 0x9E3779B97F4A7C15 & _WORD
    return (mixed ^ mixed >> 32) * 0xBF58476D1CE4E5B9 & _WORD < limit


class Standing(msgspec.Struct, frozen=True):
    """Touches and misses of a simulation, scaled up from the sample; `recent_miss_ratio`: since the standing before."""

    simulation: ShadowSimulation
    accesses: int
    misses: int
    miss_ratio: float
    recent_miss_ratio: float


class Shadow:
    """A listener with simulations: the first of the policy in force at the start, the others of `policies`.

    `accesses` counts the process's own; `looked_at` those that the simulations took or that sampling left out;
    `dropped` those for which there was no time. `seconds`: the time that turns took.
    """

    def __init__(
        self,
        process: Process,
        policies: Sequence[str],
        frames: int,
        sample: int,
        settings: CoreSettings,
        running: Running | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UnknownPolicy, InvalidArgument or LimitExceeded. `running`: as for `ShadowSimulation`."""
        names = list(dict.fromkeys([process.policies.specifications["evict"], *policies]))
        each = check_size(len(names), frames, sample)
        self._clock = clock
        self.frames = frames
        self.sample = sample
        self.accesses = self.looked_at = self.dropped = 0
        self.seconds = 0.0
        self.over = asyncio.Event()
        self.reason = ""
        self._process = process
        self._faults_before = process.counters.faults
        self._page_size = settings.page_size
        self._pages = min(4 * max(settings.max_mapped // settings.page_size, frames), PAGE_MASK)
        self._bases: dict[int, int] = {}  # by region: what to add to a page key for the simulations' page
        self._page_counts: dict[int, int] = {}
        self._next_base = 0
        self._limit = (1 << 64) // sample
        self._waiting: deque[array[int] | events.SetHint] = deque()
        self._at = 0
        self._kept = 0
        self._run = _SHORTEST_RUN
        self._before: dict[ShadowSimulation, tuple[int, int]] = {}
        budget = settings.deny_budget * each // settings.frames
        self.simulations = [
            ShadowSimulation(
                name, frames=each, pages=self._pages, page_size=self._page_size, deny_budget=budget, running=running
            )
            for name in names
        ]

    @property
    def live_misses(self) -> int:
        """Faults of the process since the start."""
        return self._process.counters.faults - self._faults_before

    def begin(self, now: float) -> None:
        """Take over the process's regions and the hints in force."""
        for region in self._process.regions.values():
            self._place(region)
            for found in region.hints:
                ttl = None if found.expires is None else max(found.expires - now, 0.001)
                hint = msgspec.structs.replace(found.hint, ttl_seconds=ttl, will_need=False, dont_need=False)
                offset, length = found.first * self._page_size, (found.end - found.first) * self._page_size
                self._hinted(region.region_id, offset, length, hint)

    def touched(self, touches: array[int], now: float) -> None:
        """Keep touches for the next turn, while there is room."""
        del now
        count = len(touches) // 2
        self.accesses += count
        if self._kept + count > MAX_WAITING:
            self.dropped += count
            return
        self._kept += count
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, array) and len(last) < _LONGEST_RUN:
            last.extend(touches)
        else:
            self._waiting.append(touches[:])

    def changed(self, change: Change, now: float) -> None:
        """Give a new region its place; queue hints for the simulations, behind earlier touches."""
        del now
        if isinstance(change, events.Map):
            for region in self._process.regions.values():
                if region.region_id not in self._bases:
                    self._place(region)
        elif isinstance(change, events.Unmap):
            pages = self._page_counts.pop(change.region_id, 0)
            for hint in (None, _GONE) if pages else ():
                self._hinted(change.region_id, 0, pages * self._page_size, hint)
        else:
            region = self._process.regions[change.region_id]
            length = region.length - change.offset if change.length is None else change.length
            self._hinted(region.region_id, change.offset, length, change.hint)

    def ended(self, reason: str) -> None:
        """End the shadow; touches that wait are not simulated."""
        self.reason = reason
        self.over.set()

    def _place(self, region: Region) -> None:
        if self._next_base + region.page_count > self._pages:
            self.ended(f"the process mapped more than {self._pages} pages since the start of its shadow; start again")
            return
        self._bases[region.region_id] = self._next_base - region.first_key
        self._page_counts[region.region_id] = region.page_count
        self._next_base += region.page_count

    def _hinted(self, region_id: int, offset: int, length: int, hint: Hint | None) -> None:
        if region_id not in self._bases:
            return
        if hint is not None and hint.swap_device is not None:  # a simulation has but one
            hint = msgspec.structs.replace(hint, swap_device=None)
        start = (self._bases[region_id] + page_key(region_id, 0)) * self._page_size
        self._waiting.append(events.SetHint(1, 1, start + offset, length, hint))

    async def work(self) -> None:
        """Hand what waits to the simulations, until cancelled."""
        rested = 0.0
        while True:
            if not self._waiting or (self._kept < ENOUGH and rested < MOST_REST_SECONDS):
                await asyncio.sleep(REST_SECONDS)
                rested += REST_SECONDS
                continue
            rested = 0.0
            started = time.perf_counter()
            self.turn(self._clock())
            took = time.perf_counter() - started
            self.seconds += took
            await asyncio.sleep(took)

    def turn(self, now: float) -> None:
        """Hand a run of touches, or hints, to the simulations."""
        first = self._waiting[0]
        if not isinstance(first, array):
            self._waiting.popleft()
            for simulation in self.simulations:
                simulation.hint(first, now)
            return
        started = time.perf_counter()
        end = min(self._at + 2 * self._run, len(first))
        keys, kinds = split(first[self._at : end])
        self._at = end
        if end == len(first):
            self._waiting.popleft()
            self._at = 0
        self._kept -= len(keys)
        self.looked_at += len(keys)
        pages, writes = self._pages_of(keys, kinds.translate(_TO_WRITES))
        for simulation in self.simulations:
            simulation.touch(pages, writes, len(keys), now)
        each = (time.perf_counter() - started) / len(keys)
        self._run = max(_SHORTEST_RUN, min(_LONGEST_RUN, int(TURN_SECONDS / max(each, 1e-9))))

    def _pages_of(self, keys: array[int], writes: bytes) -> tuple[list[int], bytes]:
        """The simulations' pages, and writes, of page keys in the sample and in regions that have a place."""
        bases, limit = self._bases, self._limit
        if self.sample == 1:
            try:
                return [bases[key >> PAGE_BITS] + key for key in keys], writes if 1 in writes else b""
            except KeyError:  # a region without a place
                pass
        chosen = [
            (bases[key >> PAGE_BITS] + key, write)
            for key, write in zip(keys, writes, strict=True)
            if key >> PAGE_BITS in bases and sampled(key, limit)
        ]
        return [page for page, _ in chosen], bytes(write for _, write in chosen)

    def standings(self, now: float) -> list[Standing]:
        """How the simulations did so far, in their order."""
        found = []
        for simulation in self.simulations:
            simulation.tick(now)
            accesses = simulation.touched
            misses = min(simulation.misses * self.sample, accesses)
            accesses_before, misses_before = self._before.get(simulation, (0, 0))
            self._before[simulation] = accesses, misses
            recent = accesses - accesses_before
            ratios = misses / max(accesses, 1), (misses - misses_before) / max(recent, 1)
            found.append(Standing(simulation, accesses, misses, *ratios))
        return found


def check_size(simulations: int, frames: int, sample: int) -> int:
    """Frames of each of so many simulations after sampling; raises InvalidArgument or LimitExceeded."""
    if frames < 1:
        raise InvalidArgument(f"{frames} frames; allowed are 1 and more")
    if sample < 1 or (sample > 1 and frames // sample < MIN_FRAMES):
        most = max(frames // MIN_FRAMES, 1)
        raise InvalidArgument(
            f"a sample of 1/{sample} of {frames} frames; allowed is 1/1 to 1/{most}, which leaves {MIN_FRAMES} frames"
        )
    each = max(frames // sample, 1)
    if each * simulations > MAX_FRAMES:
        raise LimitExceeded(
            f"{simulations} simulations of {each} frames each; allowed are {MAX_FRAMES} frames in all: take a sample "
            f"of 1/{-(-frames * simulations // MAX_FRAMES)}, or fewer policies"
        )
    return each
