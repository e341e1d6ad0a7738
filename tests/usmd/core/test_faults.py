"""Faults: what each is answered, in which order, and what it brings along."""

from array import array

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.commands import Allocated, Yielded
from usmd.core.faults import MAX_GUESSES
from usmd.core.region import page_key
from usmd.errors import DataLoss

DATA = b"x" * PAGE


def swap_out(shell, process, region, pages, data=DATA):
    for page in range(pages):
        shell.put(process, region, page, data)
    shell.evict(process, region)
    while shell.pending:
        shell.complete_io()


def resident(shell, process, pages, data=DATA):
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, data)
    return region


def complete_all(shell):
    while shell.pending:
        shell.complete_io()


def swapped(pages, *, frames=8, alloc="first_fit", **settings):
    """A shell without auto_io, with a process whose `pages` pages are all in swap."""
    shell = Shell(make_core(frames=frames, **settings), auto_io=False)
    process = shell.attach(alloc=alloc)
    region = shell.map(process, pages)
    for first in range(0, pages, frames):
        last = min(first + frames, pages)
        for page in range(first, last):
            shell.put(process, region, page, bytes([page + 1]) * PAGE)
        shell.evict(process, region, first, last - first)
        complete_all(shell)
    shell.outcomes.clear()
    return shell, process, region


def test_a_fault_on_a_present_page_is_minor_and_done():
    shell = Shell(make_core())
    process = shell.attach()
    region = resident(shell, process, 1)
    assert shell.fault(process, region, 0, fault_id=9) == [Allocated(9, ((0, 0, 1),))]
    assert shell.counters()["minor_faults"] == 2


def test_pages_on_neighbouring_frames_are_one_run_and_a_gap_begins_another():
    shell = Shell(make_core())
    process = shell.attach()
    region, other = shell.map(process, 4), shell.map(process, 1)
    shell.fault(process, region, 0, 2)
    shell.fault(process, other, 0)
    assert shell.fault(process, region, 0, 4) == [Allocated(1, ((0, 0, 2), (2, 3, 2)))]


def test_several_waiters_on_one_page_share_one_read():
    shell, process, region = swapped(1)
    for fault in (1, 2, 3):
        assert shell.fault(process, region, 0, fault_id=fault) == []
    assert len(shell.pending) == 1
    shell.complete_io()
    assert [each.fault_id for each in shell.outcomes[process]] == [1, 2, 3]
    counters = shell.counters()
    assert (counters["swap_ins"], counters["parked_faults"], counters["major_faults"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("first", "count", "reason", "says"),
    [
        (0, 0, "INVALID_ARGUMENT", "0 pages; allowed are 1 to 4"),
        (0, 5, "INVALID_ARGUMENT", "5 pages; allowed are 1 to 4"),
        (0, -1, "INVALID_ARGUMENT", "-1 pages"),
        (-1, 1, "OUT_OF_RANGE", "pages 0 to 5"),
        (6, 1, "OUT_OF_RANGE", "pages 6 to 6"),
        (4, 3, "OUT_OF_RANGE", "pages 4 to 6"),
        (1 << 70, 1, "OUT_OF_RANGE", "pages 0 to 5"),
    ],
)
def test_a_fault_outside_what_is_allowed_fails_alone(first, count, reason, says):
    shell = Shell(make_core(max_fault_pages=4))
    process = shell.attach()
    region = shell.map(process, 6)
    shell.do(
        events.Faults(
            process, [events.FaultRequest(1, region, first, count, False), events.FaultRequest(2, region, 0, 1, False)]
        )
    )
    failed, fine = shell.outcomes[process]
    assert (failed.fault_id, failed.error.reason, fine.fault_id) == (1, reason, 2)
    assert says in str(failed.error)
    assert isinstance(fine, Allocated)


def test_a_fault_on_the_region_of_another_is_not_found():
    shell = Shell(make_core())
    owner, stranger = shell.attach(), shell.attach()
    region = shell.map(owner, 1)
    failed = shell.fault(stranger, region, 0)[0]
    assert (failed.error.reason, shell.core.state.regions[region].resident) == ("NOT_FOUND", 0)


def test_async_aware_yields_on_a_swap_fault_and_completes_with_the_token():
    shell, process, region = swapped(2, alloc="async_aware")
    yielded = shell.fault(process, region, 0, fault_id=4)
    assert yielded == [Yielded(4, 1)]
    assert shell.fault(process, region, 1, fault_id=5) == [Yielded(5, 2)]
    shell.complete_io(1)
    shell.complete_io(0)
    assert shell.outcomes[process][2:] == [Allocated(5, ((1, 1, 1),), 2), Allocated(4, ((0, 0, 1),), 1)]
    assert shell.counters()["yields"] == 2


def test_async_aware_does_at_once_what_needs_no_io():
    shell = Shell(make_core(), auto_io=False)
    process = shell.attach(alloc="async_aware")
    assert isinstance(shell.fault(process, shell.map(process, 1), 0)[0], Allocated)


def test_a_yielded_fault_that_fails_carries_its_token():
    shell, process, region = swapped(1, alloc="async_aware")
    shell.fault(process, region, 0)
    shell.do(events.Unmap(process, region))
    assert shell.outcomes[process][-1].yield_token == 1
    assert shell.outcomes[process][-1].error.reason == "UNMAPPED"


def test_a_fault_on_many_pages_is_answered_once_when_the_last_is_there():
    shell, process, region = swapped(3)
    assert shell.fault(process, region, 0, 3) == []
    for _ in range(2):
        shell.complete_io()
        assert process not in shell.outcomes
    shell.complete_io()
    assert shell.outcomes[process] == [Allocated(1, ((0, 0, 3),))]


def test_fhp_brings_neighbours_on_neighbouring_frames():
    shell, process, region = swapped(8, alloc="flexible_huge_pages(pages=4)")
    before = shell.counters()["read_ahead"]
    shell.fault(process, region, 5)
    complete_all(shell)
    assert [shell.state_of(region, page) for page in range(8)] == ["SWAPPED"] * 4 + ["PRESENT"] * 4
    assert shell.core.faults.runs(shell.core.state.regions[region], 0, 8) == ((4, 0, 4),)
    assert shell.counters()["read_ahead"] == before + 3


def test_fhp_ends_at_the_region_the_hint_and_the_limit():
    shell = Shell(make_core(frames=32, max_fault_pages=6))
    process = shell.attach(alloc="flexible_huge_pages(pages=4)")
    region = shell.map(process, 6)
    assert shell.fault(process, region, 5) == [Allocated(1, ((4, 0, 2),))]
    shell.hint(process, region, f"FHP={4 * PAGE}B", 1, 2)
    assert shell.fault(process, region, 2) == [Allocated(1, ((1, 2, 2),))]
    wide = shell.map(process, 40)
    shell.hint(process, wide, f"FHP={32 * PAGE}B")
    ((first, _, count),) = shell.fault(process, wide, 20)[0].runs
    assert count == 6
    assert first <= 20 < first + 6


def test_guesses_take_frames_above_the_low_mark_only_and_evict_nothing():
    shell = Shell(make_core(frames=8, low=2, high=2))
    process = shell.attach(alloc="flexible_huge_pages(pages=8)")
    resident(shell, process, 3)
    region = shell.map(process, 8)
    shell.fault(process, region, 0)
    assert shell.core.state.frames.free == 2
    assert shell.counters()["evictions"] == 0
    assert shell.core.state.regions[region].resident == 3


def test_faults_wait_for_memory_in_order_of_arrival():
    shell, process, region = swapped(6, frames=2)
    for page in range(4):
        shell.fault(process, region, page, fault_id=page)
    complete_all(shell)
    assert [each.fault_id for each in shell.outcomes[process]] == [0, 1, 2, 3]


def test_a_faulted_page_is_held_for_its_first_touch_within_the_budget():
    shell = Shell(make_core(frames=8, hold_budget=2, hold_seconds=1.0))
    process = shell.attach()
    region = shell.map(process, 4)
    for page in range(3):
        shell.fault(process, region, page)
    assert list(shell.core.state.pins) == [1, 2], "the oldest gave way"
    shell.load(process, region, 1)
    assert list(shell.core.state.pins) == [2]
    shell.tick(1.0)
    assert not shell.core.state.pins


def test_refuse_fails_the_fault_alone_and_others_go_on():
    shell = Shell(make_core(frames=3, devices=()))
    process, other = shell.attach(), shell.attach()
    region, mine = resident(shell, process, 2), resident(shell, other, 1)
    last = shell.map(other, 1)
    failed = shell.fault(other, last, 0, fault_id=8)[0]
    assert (failed.fault_id, failed.page, failed.error.code) == (8, 0, "RESOURCE_EXHAUSTED")
    assert "all 3 are in use" in str(failed.error)
    assert shell.get(process, region, 1) == shell.get(other, mine, 0) == DATA
    shell.do(events.Unmap(process, region))
    assert isinstance(shell.fault(other, last, 0)[0], Allocated)
    assert shell.counters()["oom_refusals"] == 1


def test_kill_largest_ends_the_largest_tells_it_why_and_serves_the_fault():
    shell = Shell(make_core(frames=4, devices=()))
    large, small = shell.attach("large"), shell.attach("small", oom="kill_largest")
    resident(shell, large, 3)
    region = shell.map(small, 3)
    shell.put(small, region, 0, DATA)
    assert shell.fault(small, region, 1) == [Allocated(1, ((1, 0, 1),))]
    assert shell.ended[large] == commands.Ended(
        large, "out of memory: it held 3 of 4 frames and none was left", killed=True
    )
    assert [each.kind for each in shell.notices][-1] == "process_killed"
    assert (shell.core.state.frames.free, shell.counters()["oom_kills"]) == (2, 1)
    assert shell.get(small, region, 0) == DATA


def test_kill_largest_may_end_the_process_that_faults():
    shell = Shell(make_core(frames=2, devices=()))
    process = shell.attach(oom="kill_largest")
    region = shell.map(process, 3)
    shell.do(events.Faults(process, [events.FaultRequest(1, region, 0, 3, True)]))
    assert shell.ended[process].killed
    assert process not in shell.outcomes
    assert shell.core.state.frames.free == 2
    assert not shell.core.faults.waiting


def test_unmapping_ends_faults_that_wait_for_memory():
    shell, process, region = swapped(3, frames=1)
    for page in range(3):
        shell.fault(process, region, page, fault_id=page)
    shell.do(events.Unmap(process, region))
    assert [(each.fault_id, each.error.reason) for each in shell.outcomes[process]] == [
        (0, "UNMAPPED"), (1, "UNMAPPED"), (2, "UNMAPPED"),
    ]  # fmt: skip


def test_a_fault_that_failed_on_one_page_is_told_once():
    shell = Shell(make_core(frames=1, devices=()))
    process = shell.attach()
    region = shell.map(process, 4)
    shell.put(process, region, 0, DATA)
    outcomes = shell.fault(process, region, 0, 4)
    assert [(each.fault_id, each.page) for each in outcomes] == [(1, 1)]


def test_the_pages_that_a_process_waits_for_are_counted_until_they_are_there_or_failed():
    shell = Shell(make_core(frames=4), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 8)
    swap_out(shell, process, region, 3)
    shell.fault(process, region, 0, 3)
    assert shell.core.state.processes[process].missing == 3
    shell.complete_io()
    assert shell.core.state.processes[process].missing == 2
    shell.do(events.Unmap(process, region))
    assert shell.core.state.processes[process].missing == 0


def test_guesses_of_one_batch_are_bounded():
    shell = Shell(make_core(frames=3 * MAX_GUESSES, page_size=1), check=False)
    process = shell.attach(alloc="flexible_huge_pages(pages=256)")
    region = shell.map(process, 3 * MAX_GUESSES)
    shell.do(events.Faults(process, [events.FaultRequest(n, region, n * 256, 1, False) for n in range(10)]))
    assert shell.core.state.regions[region].resident == 10 + MAX_GUESSES


def test_a_fault_that_failed_waits_for_none_of_its_other_pages():
    shell = Shell(make_core(frames=4), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 3)
    swap_out(shell, process, region, 3)
    shell.fault(process, region, 0, 3)
    shell.fail_read = DataLoss("flipped")
    shell.complete_io()
    assert shell.core.state.processes[process].missing == 0
    shell.fail_read = None
    while shell.pending:
        shell.complete_io()
    assert shell.core.state.processes[process].missing == 0


def _in_state(state):
    """A shell whose page 0 is in a state, with what is recorded and heard of its touches from now on."""
    shell = Shell(make_core(hold_budget=4, hold_seconds=60.0), auto_io=False)
    process = shell.attach(evict="lfu")
    region = shell.map(process, 4)
    if state != "ABSENT":
        shell.put(process, region, 0, DATA)
        shell.put(process, region, 0, DATA)  # the access that the hold is for ends it
    if state in ("SWAPPED", "EVICTING", "FILLING"):
        shell.evict(process, region, 0, 1)
    if state in ("SWAPPED", "FILLING"):
        complete_all(shell)
    touches = shell.core.state.processes[process].touches = array("q")
    if state == "FILLING":
        shell.fault(process, region, 0)
    assert shell.state_of(region, 0) == state
    return shell, process, region, touches


@pytest.mark.parametrize("state", ["ABSENT", "SWAPPED", "PRESENT", "EVICTING"])
@pytest.mark.parametrize("write", [False, True])
def test_a_fault_and_the_access_after_it_are_one_touch_whatever_the_page_was(state, write):
    shell, process, region, touches = _in_state(state)
    policy = shell.core.state.processes[process].policies.on_access.__self__
    before = sum(len(pages) * times for times, pages in policy.lists.items())
    shell.fault(process, region, 0, write=write)
    complete_all(shell)
    assert not shell.access(process, region, 0, write=write).absent
    assert list(touches) == [page_key(region, 0), 3 if write else 2]
    after = sum(len(pages) * times for times, pages in policy.lists.items())
    assert after - before == 1 if state == "PRESENT" else after == 1, "lfu counts the touches since the page came"
    shell.access(process, region, 0)
    assert list(touches)[2:] == [page_key(region, 0), 0]


def test_two_faults_on_a_page_that_is_filled_and_two_accesses_are_two_touches():
    shell, process, region, touches = _in_state("FILLING")
    shell.fault(process, region, 0, fault_id=2)
    complete_all(shell)
    shell.access(process, region, 0)
    shell.access(process, region, 0)
    assert list(touches) == [page_key(region, 0), 2, page_key(region, 0), 0]


def test_outcomes_carry_the_stream_of_their_faults_now_and_later():
    shell, process, region = swapped(2, alloc="async_aware")

    def told(todo):
        return [
            (each.reply_to, [type(outcome) for outcome in each.outcomes])
            for each in todo
            if isinstance(each, commands.Outcomes)
        ]

    faults = [events.FaultRequest(7, region, page, 1, False) for page in (0, 5)]
    first = shell.core.handle(events.Faults(process, faults, reply_to=3), 0.0)
    assert told(first) == [(3, [Yielded, commands.Failed])]
    assert told(shell.core.handle(events.Faults(process, faults[:1]), 0.0)) == [(0, [Yielded])]
    (read,) = [each for each in first if isinstance(each, commands.ReadSlots)]
    done = shell.core.handle(events.SwapInDone([page.pfn for page in read.pages], [None]), 0.0)
    assert told(done) == [(3, [Allocated]), (0, [Allocated])]
