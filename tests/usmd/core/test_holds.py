"""Holds: a page that was faulted in stays until it is touched, and counts as touched once."""

from array import array

import pytest

from tests.support.shell import Shell, make_core
from usmd.core.holds import MAX_MET, Holds, Spared, end_all, end_those_of
from usmd.core.region import page_key


def test_a_faulted_page_is_held_for_its_first_touch_within_the_budget():
    shell = Shell(make_core(frames=8, hold_budget=2, hold_seconds=1.0))
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(3):
        shell.fault(process, region, page)
    assert list(shell.core.state.holds) == [1, 2], "the oldest gave way"
    shell.load(process, region, 1)
    assert list(shell.core.state.holds) == [2]
    shell.tick(1.0)
    assert not shell.core.state.holds


def test_a_hold_that_begins_again_counts_no_touch_and_lasts_longer():
    shell = Shell(make_core(frames=8, hold_budget=2, hold_seconds=1.0))
    process = shell.attach()
    region = shell.map(process, 4)
    touches = shell.core.state.processes[process].touches = array("q")
    shell.fault(process, region, 0)
    shell.tick(0.5)
    shell.fault(process, region, 0, write=True)
    shell.tick(0.75)
    assert list(touches) == [page_key(region, 0), 2]
    assert list(shell.core.state.holds) == [0]
    shell.tick(0.25)
    assert not shell.core.state.holds


def test_without_a_budget_nothing_is_held_and_the_access_is_the_touch():
    shell = Shell(make_core(frames=8, hold_budget=0))
    process = shell.attach()
    region = shell.map(process, 4)
    touches = shell.core.state.processes[process].touches = array("q")
    shell.fault(process, region, 0)
    assert not shell.core.state.holds
    shell.load(process, region, 0)
    assert list(touches) == [page_key(region, 0), 0]


def held():
    """Two processes, each with a held page."""
    shell = Shell(make_core(frames=8, hold_budget=4, hold_seconds=1.0, reclaim_rest=0.1))
    processes = [shell.attach() for _ in range(2)]
    for process in processes:
        shell.fault(process, shell.map(process, 2), 0)
    return shell, shell.core.state, processes


def test_the_holds_of_one_process_end_and_those_of_others_go_on():
    shell, state, processes = held()
    state.recent.append(0)
    assert end_those_of(state.processes[processes[0]], state, shell.core.life)
    assert list(state.holds) == [1]
    assert not state.recent
    assert not end_those_of(state.processes[processes[0]], state, shell.core.life), "there are none left"


def test_all_holds_end():
    shell, state, _ = held()
    state.recent.append(1)
    end_all(state, shell.core.life)
    assert not state.holds
    assert not state.recent


def test_a_held_page_is_spared_for_a_moment_from_when_reclaim_first_meets_it():
    shell, state, _ = held()
    spared = Spared(state)
    shell.tick(0.5)
    assert spared.spares(0)
    shell.tick(0.125)
    assert not spared.spares(0)
    spared.forget(state.frames.page[0])
    assert spared.spares(0), "it was evicted, and has come again"


def test_little_is_remembered_of_spared_pages():
    state = make_core(frames=MAX_MET + 1, reclaim_rest=0.125).state
    spared = Spared(state)
    for pfn in range(MAX_MET + 1):
        state.frames.page[pfn] = pfn
        assert spared.spares(pfn)
    state.now = 0.125
    assert [spared.spares(pfn) for pfn in (MAX_MET, 0)] == [False, True]


@pytest.mark.parametrize("frames", [range(2, 5), [4, 2, 3], range(1, 6), [5, 1, 4, 3, 2]])
def test_new_pages_are_held_as_if_each_came_by_itself(frames):
    """Also if there are more than the budget has room for."""
    found = []
    for at_once in (True, False):
        shell = Shell(make_core(frames=8, hold_budget=4, hold_seconds=1.0))
        process, other = shell.attach(), shell.attach()
        shell.fault(other, shell.map(other, 1), 0)
        shell.fault(process, shell.map(process, 7), 0, 7)
        state = shell.core.state
        end_those_of(state.processes[process], state, shell.core.life)
        holds = Holds(state)
        shell.tick(0.5)
        if at_once:
            holds.begin_new(state.processes[process], frames)
        else:
            for pfn in frames:
                holds.begin(state.processes[process], pfn, False, True)
        found.append((list(state.holds.items()), bytes(state.frames.flags)))
    assert found[0] == found[1]
