"""What touches of the core without bytes do where swap is full, a hint ends, a policy raises or is replaced."""

import pytest

from tests.support import access_traces
from tests.support.instant_cores import counters, instant_core, resident
from tests.support.shell import PAGE
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.instant import InstantCore
from usmd.core.policy import EvictPolicy
from usmd.core.running import PolicyHung
from usmd.core.settings import CoreSettings, DeviceInfo
from usmd.core.touches import Touches
from usmd.core.validate import violations
from usmd.core.work import PAGES_AN_EVENT
from usmd.policies import registry


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


def test_a_page_that_is_all_zero_takes_no_slot_whatever_hints_come_and_go():
    core = instant_core(frames=2)
    core.handle(Touches(1, 1, [0, 1]), 0.0)
    core.handle(events.SetHint(1, 1, 0, PAGE, parse_hint("PRIORITY=LOW")), 0.0)
    core.handle(Touches(1, 1, [2, 3]), 0.0)
    assert (counters(core).zero_drops, counters(core).swap_outs) == (2, 0)


def core_with(made, **settings):
    """A core in which the process has this evict policy."""

    def make(kind, specification, view):
        return made(view) if specification == "made" else registry.make(kind, specification, view)

    return instant_core(make_policy=make, evict="made", policy_errors=0, **settings)


LRU = registry.find("evict", "lru")[0]


def test_touches_between_two_misses_are_told_at_once_and_before_the_next_choice():
    told = []

    class Listens(LRU):
        def pages_accessed(self, frames):
            told.append(frames[:])
            super().pages_accessed(frames)

        def first_victim(self):
            told.append("victim")
            return super().first_victim()

    core = core_with(Listens, frames=3)
    core.handle(Touches(1, 1, [0, 1, 0, 0, 2, 1, 3, 4, 0, 4]), 0.0)
    assert told == [[0, 0], [1], "victim", "victim", "victim", [2]]
    assert resident(core) == [0, 3, 4]
    assert violations(core) == []


@pytest.mark.parametrize(
    ("changed", "hears_runs", "names_first"),
    [
        (set(), True, True),
        ({"page_accessed"}, False, True),
        ({"choose_victims"}, True, False),
        ({"page_accessed", "pages_accessed", "choose_victims", "first_victim"}, True, True),
        ({"pages_accessed", "first_victim"}, True, True),
    ],
)
def test_a_subclass_that_changes_one_call_is_not_passed_over_by_what_stands_for_it(changed, hears_runs, names_first):
    made = type("Changed", (LRU,), {name: lambda self, *args, **kwargs: -1 for name in changed})
    policy = core_with(made).state.processes[1].policies._evict
    assert (policy.hears_access_runs, policy.names_first_victim) == (hears_runs, names_first)


@pytest.mark.parametrize("hook", ["pages_accessed", "first_victim"])
def test_a_policy_that_raises_in_what_stands_for_another_call_is_counted_and_the_core_goes_on(hook):
    def fails(*args):
        raise ValueError("broken")

    core = core_with(type("Broken", (LRU,), {hook: fails}), frames=4)
    trace = access_traces.sawtooth(10, 60).tolist()
    happened = core.handle(Touches(1, 1, trace), 0.0)
    counted = counters(core)
    assert violations(core) == []
    assert (counted.accesses + counted.faults, len(resident(core))) == (60, 4)
    assert counted.policy_errors > 1
    told = [each.message for each in happened if isinstance(each, commands.Notice) and each.kind == "policy_error"]
    assert f"{hook} raised ValueError('broken')" in told[0]


def test_a_policy_that_hangs_in_a_run_of_touches_hears_of_no_more():
    heard = []

    class Hangs(LRU):
        def pages_accessed(self, frames):
            heard.append(len(frames))
            raise PolicyHung("it did not return")

        def page_filled(self, pfn):
            assert not heard
            super().page_filled(pfn)

    core = core_with(Hangs, frames=3)
    core.handle(Touches(1, 1, [0, 1, 1, 2, 0, 3, 4, 4, 5]), 0.0)
    assert (heard, len(resident(core))) == ([1], 3)
    assert counters(core).policy_errors == 1
    assert violations(core) == []


@pytest.mark.parametrize("answer", [None, True, 1.0, "0", -1, 99, 1 << 70])
def test_a_first_victim_that_is_no_frame_is_an_error_or_none_and_another_page_goes(answer):
    core = core_with(type("Odd", (LRU,), {"first_victim": lambda self: answer}), frames=2)
    core.handle(Touches(1, 1, [0, 1, 2, 3]), 0.0)
    assert len(resident(core)) == 2
    assert counters(core).evictions == 2
    assert violations(core) == []
