"""The core without bytes does what the core with bytes does, only at once."""

from array import array
from bisect import bisect_right
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import access_traces
from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.instant import InstantCore
from usmd.core.policy import EvictPolicy
from usmd.core.region import PAGE_MASK
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.core.work import PAGES_AN_EVENT
from usmd.policies import registry

PAGES = 40
EVICT = sorted(registry.TABLES["evict"])
DATA = b"x" * PAGE
NEVER = 1 << 62


def instant_core(
    *, frames=8, slots=2 * PAGES, make_policy=registry.make, evict="lru", alloc="first_fit", regions=1, **more
):
    """A core with one process and its regions, which are numbered from 1 on."""
    more = {"deny_budget": frames, "deny_budget_total": frames, "eviction_records": 0, **more}
    core = InstantCore(CoreSettings(frames=frames, page_size=PAGE, **more), [DeviceInfo("swap0", slots)], make_policy)
    core.handle(events.Attach("app", alloc, evict, "refuse"), 0.0)
    for _ in range(regions):
        core.handle(events.Map(1, PAGES * PAGE, ""), 0.0)
    return core


def counters(core):
    return core.state.processes[1].counters


def resident(core, region=1):
    return sorted(page for page, _ in core.state.regions[region].table.resident())


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


def test_a_frame_that_is_unevictable_is_refused_and_not_waited_for():
    core = instant_core(frames=4)
    core.handle(events.SetHint(1, 1, 0, 4 * PAGE, parse_hint("EVICTION=DENY")), 0.0)
    core.handle(Touches(1, 1, range(4)), 0.0)
    core.handle(Touches(1, 1, [4, 0, 5, 4]), 0.0)
    counted = counters(core)
    assert (counted.oom_refusals, counted.accesses, counted.evictions, resident(core)) == (3, 1, 0, [0, 1, 2, 3])
    core.handle(events.SetHint(1, 1, 0, PAGE, None), 0.0)
    core.handle(Touches(1, 1, [4]), 0.0)
    assert resident(core) == [1, 2, 3, 4]
    assert violations(core) == []


def test_pages_never_written_to_take_no_slot_and_clean_ones_keep_theirs():
    core = instant_core(frames=2, slots=4)
    core.handle(Touches(1, 1, range(20)), 0.0)
    counted = counters(core)
    assert (counted.zero_drops, counted.swap_outs, core.state.swap.free) == (18, 0, 4)
    core.handle(Touches(1, 1, [0, 1], b"\1\1"), 0.0)
    core.handle(Touches(1, 1, [2, 3, 0, 1, 2, 3]), 0.0)
    assert (counted.swap_outs, counted.clean_drops, core.state.swap.free) == (2, 2, 2)
    core.handle(Touches(1, 1, [0, 1], b"\1\1"), 0.0)
    assert core.state.swap.free == 4
    assert violations(core) == []


@pytest.mark.parametrize("long", [False, True])
def test_a_hint_ends_at_its_time_between_two_touches_of_a_run(long):
    core = instant_core(frames=2, evict="fifo")
    core.handle(events.SetHint(1, 1, 0, PAGE, parse_hint("EVICTION=DENY; TTL=5")), 0.0)
    times = [1.0, 2.0, 3.0, 4.9, 5.0, 5.1] if long else [1.0, 2.0, 3.0, 4.0, 4.8, 4.9]
    core.handle(Touches(1, 1, range(6), b"", times), 0.0)
    assert resident(core) == ([4, 5] if long else [0, 5])


HOOKS = ("page_filled", "page_left", "page_evicted", "page_missed", "page_accessed", "choose_victims", "reason")


@pytest.mark.parametrize("records", [0, 4])
@pytest.mark.parametrize("times", [(), tuple(map(float, range(60)))], ids=["short path", "long path"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_policy_that_raises_is_counted_and_the_core_goes_on(hook, times, records):
    def fails(*args, **kwargs):
        raise ValueError("broken")

    broken = type("Broken", (registry.find("evict", "fifo")[0],), {hook: fails})

    def make(kind, specification, view):
        return broken(view) if specification == "broken" else registry.make(kind, specification, view)

    core = instant_core(frames=4, make_policy=make, evict="broken", eviction_records=records, policy_errors=0)
    trace = access_traces.sawtooth(10, 60).tolist()
    happened = core.handle(Touches(1, 1, trace, b"", times), 0.0)
    counted = counters(core)
    assert violations(core) == []
    assert counted.accesses + counted.faults == 60
    assert len(resident(core)) == 4
    asked = hook != "reason" or records > 0
    assert (counted.policy_errors > 0) == asked
    told = [each for each in happened if isinstance(each, commands.Notice) and each.kind == "policy_error"]
    assert any("raised ValueError('broken')" in each.message for each in told) == asked


@pytest.mark.parametrize("evict", ["fifo", "arc", "s3_fifo"])
def test_touches_go_on_while_pages_are_handed_over_to_another_policy(evict):
    frames = 2 * PAGES_AN_EVENT
    core = InstantCore(
        CoreSettings(frames=frames, page_size=PAGE, deny_budget=0, deny_budget_total=0, eviction_records=0),
        [DeviceInfo("swap0", 2 * frames)],
        registry.make,
    )
    core.handle(events.Attach("app", "first_fit", "lru", "refuse"), 0.0)
    core.handle(events.Map(1, 2 * frames * PAGE, ""), 0.0)
    core.handle(Touches(1, 1, range(frames), bytes(number % 2 for number in range(frames))), 0.0)
    assert commands.GoOn() in core.handle(events.SetPolicy(1, "evict", evict), 0.0)
    core.handle(Touches(1, 1, [*range(frames, frames + 20), *range(20)]), 0.0)
    assert violations(core) == []
    while commands.GoOn() in core.handle(events.GoOn(), 0.0):
        pass
    core.handle(Touches(1, 1, range(frames + 20, frames + 40)), 0.0)
    assert violations(core) == []
    counted = counters(core)
    assert (counted.evictions, counted.policy_errors, core.state.frames.free) == (counted.faults - frames, 0, 0)


def test_a_policy_that_makes_too_many_errors_is_replaced_after_the_run():
    class Nobody(EvictPolicy):
        def page_filled(self, pfn):
            raise KeyError(pfn)

        def page_left(self, pfn):
            """Nothing."""

        def choose_victims(self):
            return ()

    def make(kind, specification, view):
        return Nobody(view) if specification == "nobody" else registry.make(kind, specification, view)

    core = instant_core(frames=4, make_policy=make, evict="nobody", policy_errors=5)
    happened = core.handle(Touches(1, 1, access_traces.loop(9, 30).tolist()), 0.0)
    assert "policy_replaced" in [each.kind for each in happened if isinstance(each, commands.Notice)]
    assert core.state.processes[1].policies.specifications["evict"] == "hint_aware"
    errors = counters(core).policy_errors
    core.handle(Touches(1, 1, access_traces.loop(9, 30).tolist()), 0.0)
    assert counters(core).policy_errors == errors
    assert violations(core) == []


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


def test_a_process_that_ended_or_a_region_that_is_gone_is_an_error():
    core = instant_core()
    with pytest.raises(registry.UsmdError, match="no region 9"):
        core.handle(Touches(1, 9, [0]), 0.0)
    core.handle(Touches(1, 1, range(8)), 0.0)
    core.handle(events.Unmap(1, 1), 0.0)
    assert core.state.frames.free == 8
    with pytest.raises(registry.UsmdError):
        core.handle(Touches(1, 1, [0]), 0.0)
    assert violations(core) == []


def test_pages_come_along_however_long_the_run_is():
    frames = 4096
    core = InstantCore(
        CoreSettings(frames=frames, page_size=PAGE, deny_budget=0, deny_budget_total=0),
        [DeviceInfo("swap0", 1)],
        registry.make,
    )
    core.handle(events.Attach("app", "flexible_huge_pages(pages=8)", "lru", "refuse"), 0.0)
    core.handle(events.Map(1, frames * PAGE, ""), 0.0)
    core.handle(Touches(1, 1, range(frames)), 0.0)
    assert counters(core).faults == frames // 8


def test_a_policy_hears_nothing_of_touches_of_pinned_pages():
    core = instant_core(frames=4)
    core.handle(Touches(1, 1, range(4)), 0.0)
    core.handle(events.Pin(1, 1, 0, 2), 0.0)
    core.handle(Touches(1, 1, range(6)), 0.0)
    assert (counters(core).policy_errors, resident(core)) == (0, [0, 1, 4, 5])


def test_a_victim_in_another_region_is_the_first_that_the_policy_named():
    core = instant_core(frames=4, evict="sieve", regions=2)
    core.handle(Touches(1, 1, [0, 1]), 0.0)
    core.handle(Touches(1, 2, [0, 1, 2]), 0.0)
    assert (resident(core, 1), resident(core, 2)) == ([1], [0, 1, 2])


def test_reclaim_ends_at_the_high_watermark_until_memory_is_below_the_low_one():
    both = Both(evict="fifo", low=2, high=4)
    for page in range(9):
        both.touch(page, write=True)
    both.compare()


def test_a_page_that_is_all_zero_takes_no_slot_whatever_hints_come_and_go():
    core = instant_core(frames=2)
    core.handle(Touches(1, 1, [0, 1]), 0.0)
    core.handle(events.SetHint(1, 1, 0, PAGE, parse_hint("PRIORITY=LOW")), 0.0)
    core.handle(Touches(1, 1, [2, 3]), 0.0)
    assert (counters(core).zero_drops, counters(core).swap_outs) == (2, 0)
