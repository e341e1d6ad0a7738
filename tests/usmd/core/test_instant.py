"""The core without bytes does what the core with bytes does, for the same touches, writes and hints."""

from array import array
from bisect import bisect_right
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import access_traces
from tests.support.examples import examples
from tests.support.instant_cores import PAGES, counters, instant_core, resident
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.region import PAGE_MASK
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.policies import registry

EVICT = sorted(registry.TABLES["evict"])
DATA = b"x" * PAGE
NEVER = 1 << 62


class Both:
    """The same touches and hints for a core without bytes and one with: each miss there is a fault and an access."""

    COMPARED = (
        "faults", "minor_faults", "major_faults", "zero_fills", "swap_ins", "swap_outs", "zero_drops", "clean_drops",
        "evictions", "read_ahead", "oom_refusals", "deny_over_budget", "policy_errors",
    )  # fmt: skip

    def __init__(self, trace=(), *, frames=8, slots=2 * PAGES, evict="lru", alloc="first_fit", times=False, **more):
        self.instant = instant_core(frames=frames, slots=slots, evict="lru", alloc=alloc, **more)
        # A page that was faulted in stays until its touch, which the policy does not hear of a second time.
        self.shell = Shell(
            make_core(frames=frames, devices=(("swap0", slots),), hold_budget=frames, hold_seconds=NEVER, **more),
            check=False,
        )
        self.shell.attach(alloc=alloc, evict="lru")
        self.shell.map(1, PAGES)
        self.with_times = times
        self.touched = 0
        self.waiting: list[tuple[int, bool, float]] = []
        if evict == "belady":
            self.foretell([page for page, _ in trace])
        self.set_policy(evict)

    def foretell(self, pages):
        positions = defaultdict(list)
        for number, page in enumerate(pages):
            positions[page].append(number)

        def future(now):
            def next_use(key):
                later = positions[key & PAGE_MASK]
                at = bisect_right(later, now())
                return later[at] if at < len(later) else NEVER

            return next_use

        self.instant.state.future = future(lambda: self.instant.state.touch)
        self.shell.core.state.future = future(lambda: self.touched)

    def do(self, event):
        """An event for both, after the touches before it."""
        self.flush()
        self.instant.handle(events.Tick(), self.shell.now)
        waiting = [event]
        while waiting:
            happened = self.instant.handle(waiting.pop(), self.shell.now)
            waiting.extend(events.GoOn() for each in happened if isinstance(each, commands.GoOn))
        self.shell.do(event)

    def set_policy(self, evict):
        self.do(events.SetPolicy(1, "evict", evict))

    def hint(self, text, first, count):
        self.do(events.SetHint(1, 1, first * PAGE, count * PAGE, parse_hint(text)))

    def touch(self, page, write):
        self.waiting.append((page, write, self.shell.now))
        shell = self.shell
        if write:
            done = shell.store(1, 1, page, DATA)
        else:
            done = shell.load(1, 1, page) is not None
        if not done:
            came = shell.fault(1, 1, page, write=write)[-1]
            if isinstance(came, commands.Allocated):
                done = shell.store(1, 1, page, DATA) if write else shell.load(1, 1, page) is not None
                assert done
        self.touched += 1

    def wait(self, seconds):
        if self.with_times:
            self.shell.tick(seconds)
        else:
            self.flush()
            self.shell.now += seconds
            self.do(events.Tick())

    def flush(self):
        if self.waiting:
            pages, writes, times = zip(*self.waiting, strict=True)
            first = self.touched - len(pages)
            self.waiting.clear()
            self.instant.handle(
                Touches(1, 1, array("I", pages), bytes(writes), times if self.with_times else (), first), times[0]
            )
            assert violations(self.instant) == []

    def compare(self):
        """Both have counted and kept the same."""
        self.flush()
        self.instant.handle(events.Tick(), self.shell.now)
        ours, theirs = (core.state.processes[1].counters for core in (self.instant, self.shell.core))
        assert {name: getattr(ours, name) for name in self.COMPARED} == {
            name: getattr(theirs, name) for name in self.COMPARED
        }
        assert resident(self.instant) == resident(self.shell.core)
        assert self.instant.state.unevictable == self.shell.core.state.unevictable
        assert self.instant.state.swap.free == self.shell.core.state.swap.free


RUNS = st.tuples(
    st.integers(0, PAGES - 1),
    st.integers(1, 20),
    st.sampled_from([1, 0, -1, 7]),
    st.booleans() | st.just(False),
)


def touches_of(run):
    first, count, step, write = run
    return [((first + step * number) % PAGES, write) for number in range(count)]


@pytest.mark.parametrize("times", [False, True], ids=["short path", "long path"])
@pytest.mark.parametrize("evict", EVICT)
@examples(8)
@given(runs=st.lists(RUNS, max_size=20), frames=st.integers(3, 12))
def test_every_policy_does_the_same_on_touches_and_writes(evict, times, runs, frames):
    trace = [touch for run in runs for touch in touches_of(run)]
    both = Both(trace, frames=frames, evict=evict, times=times)
    for page, write in trace:
        both.touch(page, write)
    both.compare()
    counted = counters(both.instant)
    assert counted.accesses + counted.faults == len(trace)
    assert counted.policy_errors == counted.oom_refusals == 0


HINTS = st.sampled_from(
    ["PRIORITY=LOW", "PRIORITY=HIGH", "EVICTION=DENY", "EVICTION=DENY; TTL=4", "PRIORITY=HIGH; TTL=2", "DONTNEED",
     "WILLNEED", "FHP=48B", "ACCESS=RANDOM", ""]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("run"), RUNS),
    st.tuples(st.just("run"), RUNS),
    st.tuples(st.just("hint"), HINTS, st.integers(0, PAGES - 1), st.integers(1, 15)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 3.0])),
)
ALL_WRITTEN = ("run", (0, PAGES, 1, True))


def perform(both, steps):
    for kind, *rest in steps:
        match kind:
            case "run":
                for page, write in touches_of(rest[0]):
                    both.touch(page, write)
            case "hint":
                text, first, count = rest
                both.hint(text, first, min(count, PAGES - first))
            case "wait":
                both.wait(*rest)
    both.compare()


@pytest.mark.parametrize("times", [False, True], ids=["without times", "with times"])
@pytest.mark.parametrize(
    "evict", ["fifo", "hint_aware", "hint_aware(fallback=arc)", "hint_aware(fallback=w_tinylfu)", "lirs", "s3_fifo"]
)
@examples(8)
@given(steps=st.lists(STEPS, max_size=20), deny_budget=st.integers(0, 5))
def test_hints_mean_the_same(evict, times, steps, deny_budget):
    both = Both(evict=evict, times=times, deny_budget=deny_budget)
    perform(both, steps)


@pytest.mark.parametrize(
    "alloc", ["flexible_huge_pages(pages=4)", "flexible_huge_pages(pages=3, budget=0.5)", "prealloc(pages=5)",
              "pte_magnet", "async_aware(regular=flexible_huge_pages(pages=4))"]
)  # fmt: skip
@examples(8)
@given(steps=st.lists(STEPS, max_size=15), frames=st.sampled_from([8, 16]))
def test_pages_that_come_along_are_the_same(alloc, steps, frames):
    """Of pages that were all written once: beside a page from swap, one that is ABSENT is there first where I/O takes
    time, and after it where it takes none.
    """
    perform(Both(evict="hint_aware", alloc=alloc, frames=frames), [ALL_WRITTEN, *steps])


@pytest.mark.parametrize("evict", ["fifo", "lru"])
@examples(8)
@given(steps=st.lists(STEPS, max_size=15), marks=st.sampled_from([(1, 1), (2, 2), (0, 3), (1, 3), (2, 4)]))
def test_watermarks_are_the_same(evict, steps, marks):
    """Not of policies that would have the page go which has just come: with bytes it is pinned until it is touched."""
    alloc = "flexible_huge_pages(pages=2)"
    perform(Both(evict=evict, alloc=alloc, low=marks[0], high=marks[1], deny_budget=2), [ALL_WRITTEN, *steps])


@examples(20)
@given(
    steps=st.lists(STEPS, max_size=20), slots=st.integers(0, 6), evict=st.sampled_from(["fifo", "lru", "hint_aware"])
)
def test_touches_end_where_swap_is_full(steps, slots, evict):
    core = instant_core(slots=slots, evict=evict, frames=5, deny_budget=3)
    for kind, *rest in steps:
        if kind == "run":
            pages, writes = zip(*touches_of(rest[0]), strict=True)
            core.handle(Touches(1, 1, pages, bytes(writes)), core.state.now)
        elif kind == "hint":
            text, first, count = rest
            core.handle(events.SetHint(1, 1, first * PAGE, min(count, PAGES - first) * PAGE, parse_hint(text)), 0.0)
        assert violations(core) == []
    counted = counters(core)
    assert counted.policy_errors == 0
    assert counted.faults == counted.zero_fills + counted.swap_ins + counted.oom_refusals - counted.read_ahead


@pytest.mark.parametrize("evict", EVICT)
def test_the_short_path_and_the_long_one_agree_on_a_long_trace(evict):
    trace = access_traces.scans_and_hot_set(PAGES, 3000, hot=8, scan=12)
    writes = (access_traces.uniform(4, 3000, seed=3) == 0).astype("u1").tobytes()
    seen = []
    for times in ((), [0.0] * 3000):
        core = instant_core(frames=11)
        if evict == "belady":
            core.state.future = lambda key, core=core: core.state.touch + 1 + (key & PAGE_MASK) * 7 % 40
        core.handle(events.SetPolicy(1, "evict", evict), 0.0)
        core.handle(Touches(1, 1, array("I", trace.tolist()), writes, times), 0.0)
        assert violations(core) == []
        seen.append((counters(core).as_dict(), resident(core)))
    assert seen[0] == seen[1]


def test_reclaim_ends_at_the_high_watermark_until_memory_is_below_the_low_one():
    both = Both(evict="fifo", low=2, high=4)
    for page in range(9):
        both.touch(page, write=True)
    both.compare()
