"""A region that goes is found by nothing at once, and what it had becomes free in parts."""

import pytest

from tests.support.in_swap import resident
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events, work
from usmd.core.region import page_key
from usmd.core.release import REGION_COSTS
from usmd.core.validate import violations
from usmd.errors import NotFound

DATA = b"x" * PAGE


@pytest.fixture
def shell(monkeypatch):
    """Two pages an event, the next of which comes when the test says so."""
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 2)
    shell = Shell(make_core(frames=12, low=0, high=0))
    shell.hold_go_on = True
    return shell


def test_nothing_finds_a_region_whose_frames_are_not_free_yet(shell):
    process = shell.attach()
    region = resident(shell, process, 8)
    shell.do(events.Unmap(process, region))
    state = shell.core.state
    assert (state.frames.free, state.dying_frames, state.processes[process].resident) == (6, 6, 0)
    for event in (
        events.Access(process, region, 5, 1, False),
        events.Pin(process, region, 5, 1),
        events.SetHint(process, region, 0, None, None),
        events.Unmap(process, region),
    ):
        with pytest.raises(NotFound):
            shell.do(event)
    assert violations(shell.core) == []
    while shell.asked:
        shell.do_work()
    assert (state.frames.free, state.dying_frames, state.dying) == (12, 0, {})


def test_what_a_process_keeps_is_less_at_once(shell):
    process = shell.attach()
    region = resident(shell, process, 8)
    shell.hint(process, region, "EVICTION=DENY", 0, 3)
    while shell.asked:
        shell.do_work()
    shell.do(events.Pin(process, region, 3, 5))
    state = shell.core.state
    assert (state.unevictable, state.pinned) == (3, 5)
    shell.do(events.Unmap(process, region))
    owner = state.processes[process]
    assert (state.unevictable, state.pinned, owner.unevictable, owner.pinned, owner.mapped) == (0, 0, 0, 0, 0)
    assert shell.core.life.kept_room(owner) == 12


def test_a_fault_takes_a_frame_of_a_region_that_is_gone_and_evicts_nothing(shell):
    process, other = shell.attach(), shell.attach()
    gone, kept = resident(shell, process, 8), resident(shell, other, 4)
    shell.do(events.Unmap(process, gone))
    more = shell.map(other, 8)
    for page in range(8):
        shell.do(events.Faults(other, [events.FaultRequest(page, more, page, 1, True)]))
    while shell.asked:
        shell.do_work()
    assert shell.counters()["evictions"] == 0
    assert [shell.state_of(kept, page) for page in range(4)] == ["PRESENT"] * 4
    assert [shell.state_of(more, page) for page in range(8)] == ["PRESENT"] * 8


def test_a_victim_that_a_policy_names_of_a_region_that_is_gone_is_free_and_no_error(shell):
    process = shell.attach()
    gone, kept = resident(shell, process, 8), resident(shell, process, 4)
    shell.do(events.Unmap(process, gone))
    assert shell.core.reclaim.evict(3) == 3
    assert (shell.core.state.frames.free, shell.counters()["policy_errors"]) == (5, 0)
    assert [shell.state_of(kept, page) for page in range(4)] == ["PRESENT"] * 4
    assert violations(shell.core) == []


def test_io_that_is_under_way_for_a_region_that_is_gone_ends_with_its_release(shell):
    shell.auto_io = False
    process = shell.attach()
    region = resident(shell, process, 8)
    shell.evict(process, region, 4, 4)
    while shell.asked:
        shell.do_work()
    shell.complete_io()
    shell.complete_io()
    shell.fault(process, region, 4)
    assert [kind for kind, _ in shell.pending] == ["write", "write", "read"]
    shell.do(events.Unmap(process, region))
    while shell.pending:
        shell.complete_io()
    while shell.asked:
        shell.do_work()
    state = shell.core.state
    assert (state.frames.free, state.swap.free) == (12, 64)
    assert [type(each).__name__ for each in shell.outcomes[process]][-1] == "Failed"


def test_the_policies_of_a_process_that_ended_hear_nothing_of_its_pages(shell):
    process = shell.attach(evict="lru")
    resident(shell, process, 8)
    policies = shell.core.state.processes[process].policies
    shell.do(events.Detach(process, "bye"))
    assert list(policies.candidates(20)) == []
    while shell.asked:
        shell.do_work()
    assert shell.core.state.frames.free == 12


def told_gone(todo):
    """Regions that commands name as gone with their session, by command."""
    return [command.region_ids for command in todo if isinstance(command, commands.RegionsGone) and command.ended]


@pytest.mark.parametrize("pages", [0, 1])
def test_the_regions_of_a_session_are_gone_at_once_and_leave_the_tables_in_parts(shell, monkeypatch, pages):
    """Each event takes no more of them out than it may, however many there are."""
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 3 * REGION_COSTS)
    process = shell.attach()
    regions = [resident(shell, process, pages) if pages else shell.map(process, 1) for _ in range(11)]
    state = shell.core.state
    told = told_gone(shell.core.handle(events.Detach(process, "over"), 1.0))
    assert told == [regions[:3]]
    assert (state.region_count, state.processes) == (0, {})
    for region in regions:
        with pytest.raises(NotFound):
            state.region(process, region)
        with pytest.raises(NotFound):
            shell.core.handle(events.Access(process, region, 0, 1, False), 1.0)
    while state.releasing:
        assert violations(shell.core) == []
        told.append(told_gone(shell.core.handle(events.GoOn(), 1.0)))
        assert len(state.regions) + len(state.dying) >= 11 - 3 * len(told)
    assert [each for part in told[1:] for each in part] == [regions[3:6], regions[6:9], regions[9:]]
    assert (state.regions, state.frames.free) == ({}, 12)


def test_a_thread_that_waits_gets_its_error_at_once_though_its_region_leaves_the_tables_later(shell, monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", REGION_COSTS)
    process = shell.attach()
    regions = [shell.map(process, 12) for _ in range(3)]
    for region, page in [*((regions[2], page) for page in range(12)), (regions[1], 0)]:
        shell.core.handle(events.PageFaults(process, [events.PageFault(region, page, write=True)]), 1.0)
    todo = shell.core.handle(events.Detach(process, "over"), 1.0)
    assert told_gone(todo) == [regions[:1]]
    poisoned = [command.pages for command in todo if isinstance(command, commands.Poison)]
    assert poisoned == [[page_key(regions[1], 0)]]


def test_the_end_of_a_session_counts_what_its_regions_kept_by_what_its_process_did(shell):
    process, other = shell.attach(), shell.attach()
    regions = [resident(shell, process, 2), resident(shell, process, 2)]
    kept = resident(shell, other, 2)
    for region in (regions[0], kept):
        shell.hint(shell.core.state.regions[region].process.process_id, region, "EVICTION=DENY", 0, 1)
        shell.do(events.Pin(shell.core.state.regions[region].process.process_id, region, 1, 1))
    state, owner = shell.core.state, shell.core.state.processes[process]
    shell.do(events.Detach(process, "over"))
    assert (owner.mapped, owner.resident, owner.unevictable, owner.pinned, owner.regions) == (0, 0, 0, 0, {})
    assert (state.unevictable, state.pinned, state.region_count) == (1, 1, 1)
    while shell.asked:
        assert violations(shell.core) == []
        shell.do_work()
    assert (state.frames.free, state.dying, list(state.regions)) == (10, {}, [kept])
