"""What every policy of the registry keeps to, whichever it is. Policies that break the rules are in
test_hostile_policies.py; what one policy does that others do not is in its own test file.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.made_policies import attributes_of
from tests.support.policy_memory import FRAMES, STEPS, Memory, perform
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.frames import PRESENT, UNEVICTABLE
from usmd.core.hints import HintRange, parse_hint
from usmd.core.policy import USM_YIELD, Allocation, AsyncRequest, EvictPolicy, Fault
from usmd.core.region import Process
from usmd.core.settings import CoreSettings
from usmd.core.state import State
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument
from usmd.policies import registry

ALLOC, EVICT, OOM = (sorted(registry.TABLES[kind]) for kind in ("alloc", "evict", "oom"))
EVICT_SPECIFICATIONS = [*EVICT, *(f"hint_aware(fallback={name})" for name in EVICT)]
ALLOC_SPECIFICATIONS = [*ALLOC, *(f"async_aware(regular={name})" for name in ALLOC), "flexible_huge_pages(pages=7)"]
QUICK = examples(8)


def shell_with_a_future(**settings):
    """A shell in which `belady` works as well: it takes what it is told."""
    shell = Shell(make_core(**settings))
    shell.core.state.future = lambda page: page * 7919 % 97
    return shell


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
@examples(12)
@given(steps=st.lists(STEPS, max_size=50))
def test_evict_names_every_page_it_knows_once_and_no_other(evict, steps):
    memory = Memory(evict)
    for page in range(FRAMES):
        memory.touch(page, 1, 0, missed=True)
    for step in steps:
        perform(memory, step)
        memory.event_ends()
    memory.names_all()
    memory.evict(len(memory.known), ())
    assert not memory.known
    memory.names_all()


def sizes(policy):
    """How many things the containers of a policy, and of those it is built on, hold."""
    for each in attributes_of(policy).values():
        if isinstance(each, EvictPolicy):
            yield from sizes(each)
        elif isinstance(each, (dict, set, list)):
            yield len(each)
            yield from (size for part in each if isinstance(part, EvictPolicy) for size in sizes(part))


@pytest.mark.parametrize("priority", [None, 0, 1], ids=["never comes", "changes its class", "comes back"])
@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_evict_remembers_no_more_the_longer_it_runs(evict, priority):
    memory = Memory(evict)
    for page in range(FRAMES):
        memory.touch(page, 1, 0, missed=True)
    for page in range(FRAMES, 400):
        memory.touch(page, 1, 0, missed=True)
        for former in range(page - FRAMES, page - FRAMES - 4, -1):
            if former >= 0 and memory.frame_of(former) is None:
                if priority is None:
                    memory.policy.page_missed(former)
                else:
                    memory.touch(former, priority, 0, missed=True)
        memory.event_ends()
    assert max(sizes(memory.policy), default=0) <= 4 * FRAMES + 65
    memory.names_all()


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_evict_gives_a_reason_and_no_foreign_or_unevictable_victim(evict):
    shell = shell_with_a_future(frames=FRAMES)
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
    assert all(frames.state[pfn] == PRESENT and not frames.flags[pfn] & UNEVICTABLE for pfn in named)
    assert all(policies.reason(pfn) not in ("", "no reason given") for pfn in named)
    assert policies.blame.errors["evict"] == 0


@pytest.mark.parametrize("marks", [(0, 0), (1, 2)])
@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_eight_times_more_pages_than_frames_come_back_right(evict, marks):
    shell = shell_with_a_future(frames=4, low=marks[0], high=marks[1])
    process = shell.attach(evict=evict)
    region = shell.map(process, 32)
    shell.hint(process, region, "PRIORITY=HIGH", 0, 8)
    shell.hint(process, region, "PRIORITY=LOW", 8, 8)
    for page in range(32):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in range(32):
        for _ in range(3):
            assert shell.get(process, region, page) == bytes([page + 1]) * PAGE
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("evict", EVICT_SPECIFICATIONS)
def test_evict_goes_on_where_pages_are_pinned_and_where_swap_is_full(evict):
    shell = shell_with_a_future(frames=6, devices=(("swap0", 3),), hold_budget=3, hold_seconds=1e9)
    process = shell.attach(evict=evict)
    region = shell.map(process, 40)
    for page in range(8):  # three of them go to swap, and a frame is kept for them
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert isinstance(shell.fault(process, region, 20)[-1], commands.Failed), "all pages are dirty, and no slot is free"
    present = next(page for page in range(8) if shell.state_of(region, page) == "PRESENT")
    shell.do(events.Pin(process, region, present, 1))
    for _ in range(2):
        for page in range(8):
            assert shell.get(process, region, page) == bytes([page + 1]) * PAGE
    assert shell.state_of(region, present) == "PRESENT"
    shell.do(events.Unpin(process, region, present, 1))
    shell.do(events.Unmap(process, region))
    assert shell.core.state.frames.free == 6
    assert list(shell.core.state.processes[process].policies.candidates(100)) == []
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("evict", ["belady", "hint_aware(fallback=belady)"])
def test_a_policy_that_needs_the_future_is_refused_in_a_live_memory_and_nothing_has_changed(evict):
    shell = Shell(make_core())
    with pytest.raises(InvalidArgument, match=r"no known future: this policy is for `usmctl replay`"):
        shell.attach(evict=evict)
    process = shell.attach(evict="lru")
    region = shell.map(process, 2)
    shell.put(process, region, 0, b"x" * PAGE)
    with pytest.raises(InvalidArgument, match="no known future"):
        shell.do(events.SetPolicy(process, "evict", evict))
    policies = shell.core.state.processes[process].policies
    assert (policies.specifications["evict"], list(policies.candidates(9))) == ("lru", [0])
    assert policies.blame.errors["evict"] == 0


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
    assert policies.blame.errors["oom"] == 0


@pytest.mark.parametrize("oom", OOM)
@pytest.mark.parametrize("evict", EVICT)
@pytest.mark.parametrize("alloc", ALLOC)
def test_every_combination_ends_in_bounded_time_when_all_memory_is_unevictable(alloc, evict, oom):
    shell = shell_with_a_future(frames=4)
    first, second = (shell.attach(alloc=alloc, evict=evict, oom=oom) for _ in range(2))
    region, wanted = shell.map(first, 4), shell.map(second, 1)
    shell.hint(first, region, "EVICTION=DENY")
    shell.fault(first, region, 0, 4)
    assert bool(shell.fault(second, wanted, 0)) == (oom != "freeze")
    shell.tick(30.0)
    last = shell.outcomes[second][-1]
    if oom in ("refuse", "freeze"):
        assert last.error.reason == "OUT_OF_MEMORY"
        assert "4 unevictable" in str(last.error)
    else:
        assert isinstance(last, commands.Allocated)
        assert shell.ended[first].killed
    assert shell.counters()["policy_errors"] == 0
