"""Runs a trace through the real core with a simulated clock: what a policy would have done with so many frames.

The core, its reclaim, hints and policies are those of the daemon (`core/instant`). There are no bytes, so I/O takes no
time. There is a swap slot for each page.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from copy import copy

import msgspec

from usmd.core import events
from usmd.core.instant import InstantCore
from usmd.core.region import PAGE_MASK
from usmd.core.touches import Touches
from usmd.errors import InvalidArgument
from usmd.lab.hint_file import TimedHint
from usmd.lab.loading import Trace
from usmd.lab.simulation import ALL_PARTS, Simulation
from usmd.policies import registry

RUN = 16384
"""Accesses in one event. The clock advances between events, or at each access if a policy or hint needs it."""
SECONDS_AN_ACCESS = 1e-6
"""Step of the simulated clock for a trace without times."""
NEVER = 1 << 62
MAX_REPLAY_FRAMES = 1 << 28


class Setup(msgspec.Struct, frozen=True):
    """The settings of a replay. `deny_budget`: share of the frames that EVICTION=DENY may keep, as in the daemon."""

    frames: int
    evict: str
    alloc: str = "first_fit"
    page_size: int = 4096
    hints: list[TimedHint] = []
    deny_budget: float = 0.5


class Row(msgspec.Struct, frozen=True):
    """The result of a replay. `complete`: the whole trace was replayed.

    `hits` + `misses` = `accesses`. `evictions`: evicted pages, of which `writebacks` were dirty. `read_ahead`: pages
    brought in beside a missed one. `refused`: misses whose page was not brought in, because no page could be evicted.
    `policy_errors`: unusable answers of a policy; `policy_error` is the first. `seconds` and `accesses_per_s` are the
    replay's own.
    """

    trace: str
    frames: int
    evict: str
    alloc: str
    accesses: int
    hits: int
    misses: int
    miss_ratio: float
    evictions: int
    writebacks: int
    faults_per_1000: float
    read_ahead: int
    refused: int
    policy_errors: int
    policy_error: str
    seconds: float
    accesses_per_s: float
    complete: bool


class Replay:
    """One replay. Raises InvalidArgument or UnknownPolicy for an invalid setup."""

    def __init__(self, trace: Trace, setup: Setup) -> None:
        if not 1 <= setup.frames <= MAX_REPLAY_FRAMES:
            raise InvalidArgument(f"{setup.frames} frames; allowed are 1 to {MAX_REPLAY_FRAMES}")
        self.trace = trace
        self.setup = setup
        self.seconds = 0.0
        self._done = 0
        self._simulation = Simulation(
            frames=setup.frames,
            pages=trace.page_count,
            page_size=setup.page_size,
            deny_budget=int(setup.frames * setup.deny_budget),
            slots=trace.page_count,
        )
        self.core = self._simulation.core
        foreign = _is_foreign(setup)
        if foreign or "belady" in setup.evict:
            self.core.state.future = _Future(trace.pages, self.core).next_use
        identity = trace.numbering.identity
        self.core.state.identity = lambda key: identity(key & PAGE_MASK)
        self._simulation.begin(setup.alloc, setup.evict)
        self._counters = copy(self._simulation.process.counters)
        """As of access `_done`; the core's counters are ahead during a part, which Ctrl-C may interrupt."""
        self._exact = trace.times is not None and (foreign or bool(setup.hints))

    def unheeded(self) -> list[str]:
        """Keys of the setup's hints on which none of its policies acts."""
        hints = (each.hint for each in self.setup.hints if each.hint is not None)
        keys = (key for hint in hints for key in self._simulation.process.policies.unheeded(hint))
        return list(dict.fromkeys(keys))

    def run(self) -> Iterator[int]:
        """Replay the trace; yields the number of accesses done after each part, so that a caller may stop."""
        trace, page_size = self.trace, self.setup.page_size
        hints = list(self.setup.hints)
        while self._done < len(trace):
            start = self._done
            now = self._now(start)
            while hints and hints[0].time <= now:
                hint = hints.pop(0)
                length = (hint.end - hint.first) * page_size
                event = events.SetHint(1, 1, hint.first * page_size, length, hint.hint)
                self._simulation.do(event, now, ALL_PARTS)
            end = min(start + RUN, len(trace), self._end_before(hints, start))
            writes = trace.writes[start:end]
            times = trace.times[start:end] if self._exact and trace.times is not None else ()
            touches = Touches(1, 1, trace.pages[start:end], writes if 1 in writes else b"", times, start)
            begun = time.perf_counter()
            self._simulation.do(touches, now)
            self._simulation.do(events.Tick(), self.core.state.now)
            self.seconds += time.perf_counter() - begun
            self._done, self._counters = end, copy(self._simulation.process.counters)
            yield end

    def _now(self, index: int) -> float:
        times = self.trace.times
        return index * SECONDS_AN_ACCESS if times is None else max(times[index], self.core.state.now)

    def _end_before(self, hints: list[TimedHint], start: int) -> int:
        """The first access after `start` at or after the time of the next hint."""
        if not hints:
            return len(self.trace)
        times = self.trace.times
        if times is None:
            return max(int(hints[0].time / SECONDS_AN_ACCESS), start + 1)
        return next(
            (each for each in range(start + 1, min(start + RUN, len(times))) if times[each] >= hints[0].time), NEVER
        )

    def row(self) -> Row:
        """The result so far."""
        counters, accesses = self._counters, self._done
        misses = accesses - counters.accesses
        return Row(
            trace=self.trace.name,
            frames=self.setup.frames,
            evict=self.setup.evict,
            alloc=self.setup.alloc,
            accesses=accesses,
            hits=counters.accesses,
            misses=misses,
            miss_ratio=misses / accesses if accesses else 0.0,
            evictions=counters.evictions,
            writebacks=counters.swap_outs,
            faults_per_1000=1000 * counters.faults / accesses if accesses else 0.0,
            read_ahead=counters.read_ahead,
            refused=counters.oom_refusals,
            policy_errors=counters.policy_errors,
            policy_error=self._simulation.problem,
            seconds=self.seconds,
            accesses_per_s=accesses / self.seconds if self.seconds else 0.0,
            complete=accesses == len(self.trace),
        )


class _Future:
    """The next use of each page, which the trace tells."""

    def __init__(self, pages: array[int], core: InstantCore) -> None:
        self._core = core
        self._pages = pages
        self._next = array("q")
        """For each access, the number of the next access to the same page."""
        self._current: dict[int, int] = {}
        """Page → number of its first access, until it is used; then of its next one."""

    def _look(self) -> None:
        pages = self._pages
        self._next = array("q", [NEVER]) * len(pages)
        for index in range(len(pages) - 1, -1, -1):
            page = pages[index]
            self._next[index] = self._current.get(page, NEVER)
            self._current[page] = index

    def next_use(self, key: int) -> int:
        """Number of the first access after the current one to the page with this key."""
        if not self._next:
            self._look()
        page = key & PAGE_MASK
        touch = self._core.state.touch
        index = self._current.get(page, NEVER)
        while index <= touch:
            index = self._next[index]
            self._current[page] = index
        return index


def _is_foreign(setup: Setup) -> bool:
    """True if a policy is not part of usmd, so that it may look at the time of each access, or ahead."""
    return (
        registry.is_file(setup.evict)
        or registry.is_file(setup.alloc)
        or not all(
            registry.TABLES[kind].get(registry.parse(specification)[0], "").startswith("usmd.policies.")
            for kind, specification in (("evict", setup.evict), ("alloc", setup.alloc))
        )
    )
