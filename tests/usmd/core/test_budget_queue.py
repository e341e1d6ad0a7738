"""A process at its memory_max: its neighbours lose no page and wait for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.budgeted import DATA, evictions, shell_of
from tests.support.examples import examples
from tests.support.real_shell import DONE, SIGBUS, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import budget_queue, commands, events, work
from usmd.core.hints import parse_hint
from usmd.core.validate import violations
from usmd.errors import InvalidArgument, OutOfMemory


def test_a_process_at_its_end_gives_pages_of_its_own():
    shell, process, region, other, kept = shell_of()
    for page in range(16):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
        assert shell.core.state.processes[process].resident <= 4
    assert (evictions(shell, process), evictions(shell, other)) == (12, 0)
    assert [shell.get(process, region, page) for page in range(16)] == [bytes([page + 1]) * PAGE for page in range(16)]
    assert [shell.state_of(kept, page) for page in range(4)] == ["PRESENT"] * 4
    assert shell.core.state.frames.free == 8


def test_a_neighbours_fault_does_not_wait_behind_those_of_a_process_at_its_end():
    shell, process, region, other, kept = shell_of(auto_io=False)
    for page in range(8):
        shell.do(events.Faults(process, [events.FaultRequest(page, region, page, 1, True)]))
        shell.store(process, region, page, DATA)
    assert shell.pending
    assert len(shell.outcomes[process]) == 4
    assert isinstance(shell.fault(other, kept, 5)[-1], commands.Allocated)
    while shell.pending:
        shell.complete_io()
    assert [type(each) for each in shell.outcomes[process]] == [commands.Allocated] * 8
    assert evictions(shell, other) == 0


def test_when_nothing_of_its_own_can_go_the_error_names_the_budget_and_others_feel_nothing():
    shell, process, region, other, kept = shell_of(slots=0)
    for page in range(4):
        shell.put(process, region, page, DATA)
    (failed,) = shell.fault(process, region, 4)
    assert isinstance(failed.error, OutOfMemory)
    assert "hog has 4 pages in memory, its memory_max is 4 (64 B), and none of them can be evicted" in str(failed.error)
    shell.put(other, kept, 6, DATA)
    assert shell.core.state.processes[process].counters.oom_refusals == 1


def test_pages_beside_a_fault_and_hints_take_no_more_than_there_is_room_for():
    shell, _, _, _, _ = shell_of()
    wide = shell.attach("wide", alloc="flexible_huge_pages(pages=8)", memory_max=3)
    region = shell.map(wide, 16)
    shell.fault(wide, region, 0)
    assert shell.core.state.processes[wide].resident == 3
    shell.do(events.SetHint(wide, region, 0, None, parse_hint("WILLNEED")))
    assert shell.core.state.processes[wide].resident == 3


def test_held_pages_go_when_nothing_else_can():
    shell, process, region, _, _ = shell_of(2, hold_budget=8)
    for page in range(4):
        assert isinstance(shell.fault(process, region, page, fault_id=page)[-1], commands.Allocated)
    assert shell.core.state.processes[process].resident == 2


def test_unmapping_ends_the_faults_that_wait_for_room():
    shell, process, region, _, _ = shell_of(auto_io=False)
    for page in range(6):
        shell.do(events.Faults(process, [events.FaultRequest(page, region, page, 1, True)]))
        shell.store(process, region, page, DATA)
    shell.do(events.Unmap(process, region))
    assert [type(each) for each in shell.outcomes[process]] == [commands.Allocated] * 4 + [commands.Failed] * 2
    while shell.pending:
        shell.complete_io()
    assert violations(shell.core) == []


def test_a_page_whose_process_is_at_its_end_when_memory_is_free_at_last_does_not_wait_for_another_event(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 1)
    monkeypatch.setattr(work, "END_COSTS", 1)
    shell = Shell(make_core(frames=2, devices=()))
    process, other = shell.attach("hog", memory_max=2), shell.attach("neighbour")
    region, kept = shell.map(process, 4), shell.map(other, 2)
    for page in range(2):
        shell.put(other, kept, page, DATA)
    shell.hold_go_on = True
    shell.do(events.Unmap(other, kept))
    assert shell.core.state.dying_frames == 1
    shell.do(events.Faults(process, [events.FaultRequest(page, region, page, 1, True) for page in range(3)]))
    assert len(shell.core.waiting) == 2
    shell.do_work()
    assert [type(each) for each in shell.outcomes[process]] == [commands.Allocated] * 2 + [commands.Failed]


def searching(monkeypatch, *, pin=False):
    """A hog at its end whose clean page is behind those of a neighbour and its own dirty ones; a fault on page 1."""
    monkeypatch.setattr(budget_queue, "FRAMES_A_STEP", 1)
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 8)
    shell = Shell(make_core(frames=64, devices=(("swap0", 34),), scan_limit=1))
    process, other = shell.attach("hog", memory_max=8), shell.attach("neighbour")
    region, kept = shell.map(process, 16), shell.map(other, 32)
    for page in range(32):
        shell.put(other, kept, page, DATA)
    shell.evict(other, kept, 0, 32)
    assert all(shell.get(other, kept, page) == DATA for page in range(32))
    for page in range(10):
        shell.put(process, region, page, DATA)
    assert shell.core.state.swap.free == 0
    assert shell.get(process, region, 0) == DATA
    for page in range(2, 10):
        shell.load(process, region, page)
    if pin:
        shell.do(events.Pin(process, region, 0, 1))
    shell.hold_go_on = True
    shell.outcomes[process].clear()
    shell.do(events.Faults(process, [events.FaultRequest(1, region, 1, 1, False)]))
    return shell, process, region


def test_a_page_that_needs_no_slot_is_looked_for_in_parts_and_goes(monkeypatch):
    shell, process, region = searching(monkeypatch)
    for _ in range(4):
        assert not shell.outcomes[process]
        shell.do_work()
        assert violations(shell.core) == []
    assert [type(each) for each in shell.outcomes[process]] == [commands.Allocated]
    assert shell.state_of(region, 0) == "SWAPPED"
    shell.hold_go_on = False
    assert [shell.get(process, region, page) for page in range(10)] == [DATA] * 10


def test_when_none_can_go_the_fault_fails_and_the_next_one_looks_again(monkeypatch):
    shell, process, region = searching(monkeypatch, pin=True)
    shell.hold_go_on = False
    shell.do_work()
    (failed,) = shell.outcomes[process]
    assert isinstance(failed.error, OutOfMemory)
    shell.do(events.Unpin(process, region, 0, 1))
    assert shell.get(process, region, 1) == DATA
    assert violations(shell.core) == []


@pytest.mark.parametrize("end", [events.Detach(1, ""), events.Unmap(1, 1)])
def test_a_search_for_faults_that_are_gone_ends_and_evicts_nothing(monkeypatch, end):
    shell, process, region = searching(monkeypatch)
    counters = shell.core.state.processes[process].counters
    before = counters.evictions
    assert (process, region) == (1, 1)
    shell.do(end)
    shell.hold_go_on = False
    shell.do_work()
    assert not shell.core.state.work.queue
    assert counters.evictions == before
    assert violations(shell.core) == []


def test_threads_of_a_process_at_its_end_go_on_or_are_told():
    shell, process, region, _, _ = shell_of(kind=RealShell)
    threads = [shell.touch(process, region, page, bytes([page + 1]) * PAGE) for page in range(16)]
    assert {thread.state for thread in threads} == {DONE}
    assert [shell.touch(process, region, page).read for page in range(16)] == [
        bytes([page + 1]) * PAGE for page in range(16)
    ]
    shell, process, region, _, _ = shell_of(kind=RealShell, slots=0)
    assert [shell.touch(process, region, page, DATA).state for page in range(5)] == [DONE] * 4 + [SIGBUS]


def test_a_policy_sees_the_budget_as_the_size_of_its_cache():
    shell, process, _, _, _ = shell_of(hog=2)
    assert shell.core.state.processes[process].policies._evict.memory.capacity <= 2


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        ({"memory_max": 0}, "memory_max of 0 pages; allowed is 1 and more"),
        ({"memory_max": 1, "swap_max": -1}, "swap_max of -1 pages; allowed is 0 and more"),
        ({"swap_max": 1}, "swap_max of 1 pages without memory_max: .*; give memory_max as well"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(budgets, said):
    shell = Shell(make_core())
    with pytest.raises(InvalidArgument, match=said):
        shell.attach(**budgets)
    assert (shell.core.state.processes, shell.core.state.budgets.limited) == ({}, 0)


STEP = st.tuples(st.sampled_from(["hog", "hog", "hog", "neighbour", "io", "hint", "tick"]), st.integers(0, 15))


@examples(60)
@given(
    st.lists(STEP, max_size=60),
    st.integers(1, 6),
    st.sampled_from([0, 2, 64]),
    st.sampled_from([0, 3]),
    st.booleans(),
    st.sampled_from([None, 0, 1, 3]),
)
def test_a_hog_never_causes_an_eviction_of_a_neighbour(todo, most, slots, hold_budget, late_io, swap_max):
    """As long as there are frames for what both may have, whatever the hog does."""
    shell, process, region, other, kept = shell_of(
        most, swap_max=swap_max, slots=slots, auto_io=not late_io, hold_budget=hold_budget
    )
    for number, (what, page) in enumerate(todo):
        if what == "hog":
            shell.do(events.Faults(process, [events.FaultRequest(number, region, page, 1, True)]))
            shell.store(process, region, page, DATA)
        elif what == "neighbour":
            assert isinstance(shell.fault(other, kept, page % 8, fault_id=number)[-1], commands.Allocated)
        elif what == "io" and shell.pending:
            shell.complete_io()
        elif what == "hint":
            shell.hint(process, region, ["DONTNEED", "WILLNEED", "PRIORITY=HIGH"][page % 3], page, 1)
        elif what == "tick":
            shell.tick(0.2)
        assert shell.core.state.processes[process].resident <= most + shell.core.state.processes[process].lent
        assert swap_max is None or shell.core.state.processes[process].stored <= swap_max
        assert violations(shell.core) == []
    while shell.pending:
        shell.complete_io()
    shell.tick(1)
    while shell.pending:
        shell.complete_io()
    assert evictions(shell, other) == 0
    assert shell.core.state.processes[process].missing == 0
