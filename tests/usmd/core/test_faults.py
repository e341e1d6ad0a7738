"""Faults: what each is answered, in which order, and what it brings along."""

from array import array

import pytest

from tests.support.in_swap import complete_all, resident, swapped
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.commands import Allocated, PagesAllocated, Yielded
from usmd.core.region import page_key
from usmd.errors import DataLoss, NotFound

DATA = b"x" * PAGE


def swap_out(shell, process, region, pages, data=DATA):
    for page in range(pages):
        shell.put(process, region, page, data)
    shell.evict(process, region)
    while shell.pending:
        shell.complete_io()


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


def test_a_fault_on_several_pages_asks_for_those_alone_however_many_come_in_beside_them():
    shell = Shell(make_core(frames=64, devices=(("swap0", 256),)))
    process = shell.attach(alloc="readahead")
    region = shell.map(process, 200)
    shell.fault(process, region, 0, 16)
    assert shell.counters()["faults"] == 16


# Batches of pages


def batch(shell, process, region, pages, *, write=False, first_id=1):
    """Fault on single pages; returns the outcomes that come at once."""
    before = len(shell.outcomes.get(process, []))
    shell.do(events.PageBatch(process, region, first_id, pages, write))
    return shell.outcomes.get(process, [])[before:]


def test_pages_that_come_in_alone_are_one_outcome_and_one_zero_fill():
    shell = Shell(make_core(frames=8, hold_budget=8))
    process = shell.attach()
    region = shell.map(process, 600)
    todo = shell.core.handle(events.PageBatch(process, region, 5, [9, 3, 599], True), 0.0)
    zero_fill, outcomes = todo
    keys = [page_key(region, page) for page in (9, 3, 599)]
    assert (list(zero_fill.frames), list(zero_fill.pages)) == ([0, 1, 2], keys)
    assert outcomes.outcomes == [PagesAllocated(5, range(3))]
    assert list(shell.core.state.holds) == [0, 1, 2]
    counters = shell.counters()
    assert (counters["faults"], counters["minor_faults"], counters["zero_fills"]) == (3, 3, 3)
    found = shell.core.state.regions[region]
    assert (found.faults, found.resident, shell.core.state.frames.free) == (3, 3, 5)


def test_without_neighbouring_frames_pages_take_the_free_ones():
    shell = Shell(make_core())
    process = shell.attach()
    region, gone = shell.map(process, 8), [shell.map(process, 1) for _ in range(8)]
    for each in gone:
        shell.fault(process, each, 0)
    for each in gone[1::2]:
        shell.do(events.Unmap(process, each))
    assert batch(shell, process, region, [7, 2, 4], first_id=3) == [PagesAllocated(3, [1, 3, 5])]


@pytest.mark.parametrize(
    ("pages", "answers"),
    [
        ([4, 1, 6], [(1, 4), (2, 1), (3, 6)]),  # 1 is present already
        ([4, 5, 4], [(1, 4), (2, 5), (3, 4)]),
        ([1], [(1, 1)]),
        ([], []),
    ],
)
def test_a_page_that_is_present_or_comes_again_is_answered_like_any_other(pages, answers):
    shell = Shell(make_core(frames=8))
    process = shell.attach()
    region = shell.map(process, 8)
    shell.fault(process, region, 1)
    found = []
    for each in batch(shell, process, region, pages):
        if isinstance(each, PagesAllocated):
            found += [(each.first_id + index, pages[index]) for index in range(len(each.frames))]
        else:
            found.append((each.fault_id, each.runs[0][0]))
    assert found == answers
    assert shell.counters()["faults"] == 1 + len(pages)


def test_of_a_batch_what_is_wrong_fails_alone():
    shell = Shell(make_core(frames=8))
    process, other = shell.attach(), shell.attach()
    region = shell.map(process, 4)
    outcomes = batch(shell, process, region, [0, 4, 1 << 63, 2], first_id=7)
    assert [(each.fault_id, getattr(each, "error", None) and each.error.reason) for each in outcomes] == [
        (7, None), (8, "OUT_OF_RANGE"), (9, "OUT_OF_RANGE"), (10, None)
    ]  # fmt: skip
    (first, second) = batch(shell, other, region, [0, 1])
    assert (first.error.reason, second.error.reason) == ("NOT_FOUND", "NOT_FOUND")
    with pytest.raises(NotFound):
        shell.do(events.PageBatch(99, region, 1, [0], False))


def test_pages_that_a_policy_a_hint_or_a_recording_hears_of_come_one_by_one():
    for evict, hint, recorded in (("arc", "", False), ("fifo", "PRIORITY=HIGH", False), ("fifo", "", True)):
        shell = Shell(make_core(frames=8, hold_budget=8))
        process = shell.attach(evict=evict)
        region = shell.map(process, 4)
        if hint:
            shell.hint(process, region, hint, 2, 1)
        touches = array("q")
        if recorded:
            shell.core.state.processes[process].touches = touches
        outcomes = batch(shell, process, region, [0, 2])
        assert [type(each) for each in outcomes] == [Allocated, Allocated], evict
        assert len(touches) == 4 * recorded


def test_more_pages_than_there_are_frames_are_served_as_others_leave():
    shell = Shell(make_core(frames=4))
    process = shell.attach()
    region = shell.map(process, 8)
    first, *rest = batch(shell, process, region, list(range(7)))
    complete_all(shell)
    assert isinstance(first, PagesAllocated)
    answered = [each.fault_id for each in (*rest, *shell.outcomes[process][1 + len(rest) :])]
    assert sorted(answered) == list(range(1 + len(first.frames), 8))
