"""What every policy of the registry keeps to, whichever it is. Policies that break the rules are in
test_hostile_policies.py; what one policy does that others do not is in its own test file.
"""

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands
from usmd.core.frames import DENIED, PRESENT
from usmd.core.hint_ranges import HintRange
from usmd.core.hints import parse_hint
from usmd.core.policy import USM_YIELD, Allocation, AsyncRequest, Fault
from usmd.core.region import Process
from usmd.core.state import CoreSettings, State
from usmd.core.view import MemoryView
from usmd.policies import registry

ALLOC, EVICT, OOM = (sorted(registry.TABLES[kind]) for kind in ("alloc", "evict", "oom"))
EVICT_SPECIFICATIONS = [*EVICT, *(f"hint_aware(fallback={name})" for name in EVICT)]
ALLOC_SPECIFICATIONS = [*ALLOC, *(f"async_aware(regular={name})" for name in ALLOC), "flexible_huge_pages(pages=7)"]
QUICK = settings(max_examples=25, deadline=None)
FRAMES = 8


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
@QUICK
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["fill", "leave", "touch", "hint"]), st.integers(0, FRAMES - 1), st.integers(0, 2))
    )
)
def test_evict_names_every_page_it_heard_of_and_no_other(evict, steps):
    state = State(
        CoreSettings(frames=FRAMES, page_size=PAGE, deny_budget=8, deny_budget_total=8), (), registry.make, float
    )
    policy = registry.make("evict", evict, MemoryView(state, Process(1, "app", None, None, None)))
    known: OrderedDict[int, None] = OrderedDict()
    for step, pfn, priority in steps:
        if step == "fill" and pfn not in known:
            state.frames.flags[pfn] = priority << 3
            policy.page_filled(pfn)
            known[pfn] = None
        elif step == "leave" and pfn in known:
            policy.reason(pfn)
            policy.page_left(pfn)
            del known[pfn]
        elif step == "touch" and pfn in known:
            policy.page_accessed(pfn, write=bool(priority))
        elif step == "hint" and pfn in known:
            before = state.frames.flags[pfn] >> 3
            state.frames.flags[pfn] = priority << 3
            policy.hint_changed(pfn, before)
        named = list(policy.choose_victims())
        assert sorted(named) == sorted(known)
        assert list(policy.choose_victims()) == named, "asking changes nothing"


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_evict_gives_a_reason_and_no_foreign_or_denied_victim(evict):
    shell = Shell(make_core(frames=FRAMES))
    mine, other = shell.attach(evict=evict), shell.attach(evict=evict)
    region, foreign = shell.map(mine, 5), shell.map(other, 3)
    shell.hint(mine, region, "EVICTION=DENY; PRIORITY=LOW", 0, 2)
    for page in range(5):
        shell.put(mine, region, page, b"m" * PAGE)
    for page in range(3):
        shell.put(other, foreign, page, b"f" * PAGE)
    policies = shell.core.state.processes[mine].policies
    named = list(policies.candidates(100))
    table = shell.core.state.regions[region].table
    assert sorted(named) == sorted(table[page] - 1 for page in range(2, 5))
    frames = shell.core.state.frames
    assert all(frames.state[pfn] == PRESENT and not frames.flags[pfn] & DENIED for pfn in named)
    assert all(policies.reason(pfn) not in ("", "no reason given") for pfn in named)
    assert policies.errors["evict"] == 0


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_eight_times_more_pages_than_frames_come_back_right(evict):
    shell = Shell(make_core(frames=4))
    process = shell.attach(evict=evict)
    region = shell.map(process, 32)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 8)
    shell.hint(process, region, "PRIORITY=LOW", 8, 8)
    for page in range(32):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert all(shell.get(process, region, page) == bytes([page + 1]) * PAGE for page in range(32))
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("alloc", ALLOC_SPECIFICATIONS)
@QUICK
@given(
    pages=st.integers(1, 40),
    page=st.integers(0, 39),
    swap=st.booleans(),
    hint=st.none()
    | st.sampled_from(["FHP=32B", "FHP=1KiB", "FHP=AUTO", "ACCESS=SEQUENTIAL", "ACCESS=RANDOM; FHP=64B"]),
    cut=st.tuples(st.integers(0, 39), st.integers(1, 40)),
)
def test_alloc_includes_the_faulting_page(alloc, pages, page, swap, hint, cut):
    page %= pages
    state = State(
        CoreSettings(frames=FRAMES, page_size=PAGE, deny_budget=8, deny_budget_total=8), (), registry.make, float
    )
    policy = registry.make("alloc", alloc, MemoryView(state, Process(1, "app", None, None, None)))
    found = None
    if hint is not None:
        found = HintRange(min(cut[0], page), max(cut[1], page + 1), 1, parse_hint(hint), None)
    request = AsyncRequest()
    answer = policy.allocate(Fault(1, page, pages, False, swap, found), request)
    plan = request.plan if answer is USM_YIELD else answer
    assert isinstance(plan, Allocation)
    assert plan.first <= page < plan.first + plan.count
    low, high = (0, pages) if found is None else (found.first, min(pages, found.end))
    assert low <= plan.first
    assert plan.first + plan.count <= high


@pytest.mark.parametrize("alloc", ALLOC_SPECIFICATIONS)
@QUICK
@given(faults=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 4)), max_size=25))
def test_alloc_brings_every_fault_to_its_end(alloc, faults):
    shell = Shell(make_core(frames=FRAMES, low=1, high=2, hold_budget=4))
    process = shell.attach(alloc=alloc)
    region = shell.map(process, 20)
    shell.hint(process, region, "FHP=48B", 3, 9)
    model = {}
    for number, (page, count) in enumerate(faults):
        count = min(count, 20 - page)
        last = shell.fault(process, region, page, count, fault_id=number)[-1]
        assert isinstance(last, commands.Allocated)
        assert last.fault_id == number
        assert all(first >= 0 and first + length <= 20 for first, _, length in last.runs)
        shell.put(process, region, page, bytes([number + 1]) * PAGE)
        model[page] = bytes([number + 1]) * PAGE
    assert all(shell.get(process, region, page) == data for page, data in model.items())
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("oom", OOM)
def test_oom_names_a_process_with_memory_or_nobody(oom):
    shell = Shell(make_core(frames=4, devices=()))
    processes = [shell.attach(oom=oom) for _ in range(3)]
    region = shell.map(processes[1], 2)
    policies = shell.core.state.processes[processes[0]].policies
    fault = Fault(region, 0, 2, False, False, None)
    assert policies.out_of_memory(fault) is None, "nobody has memory"
    shell.put(processes[1], region, 0, b"x" * PAGE)
    assert policies.out_of_memory(fault) in (None, processes[1])
    assert policies.errors["oom"] == 0


@pytest.mark.parametrize("oom", OOM)
@pytest.mark.parametrize("evict", EVICT)
@pytest.mark.parametrize("alloc", ALLOC)
def test_every_combination_ends_in_bounded_time_when_all_memory_is_denied(alloc, evict, oom):
    shell = Shell(make_core(frames=4))
    first, second = (shell.attach(alloc=alloc, evict=evict, oom=oom) for _ in range(2))
    region, wanted = shell.map(first, 4), shell.map(second, 1)
    shell.hint(first, region, "EVICTION=DENY")
    shell.fault(first, region, 0, 4)
    last = shell.fault(second, wanted, 0)[-1]
    if oom == "refuse":
        assert last.error.reason == "OUT_OF_MEMORY"
        assert "4 denied" in str(last.error)
    else:
        assert isinstance(last, commands.Allocated)
        assert shell.ended[first].killed
    assert shell.counters()["policy_errors"] == 0
