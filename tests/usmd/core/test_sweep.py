"""The core's own choice of victims, above all of a process that has no slot for its dirty pages."""

import pytest

from tests.support.real_shell import DONE, RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.region import CLEAN_FRAMES, MOST_PATIENCE, PAGE_BITS
from usmd.core.sweep import Settled

MEMORY, SWAP = 200, 300
AT_BOTH = MEMORY + SWAP - 1
"""Pages of a process that is at its `memory_max` and its `swap_max`; a frame is left to those from swap."""


def of_page(number):
    return bytes([number % 251 + 1]) * PAGE


def at_both_limits(kind, evict, pages=AT_BOTH, **more):
    """A process at both limits, in memory with room for others, and its region."""
    shell = kind(
        make_core(frames=1024, devices=(("swap0", 4096),), low=8, high=16, hold_budget=64, **more), check=False
    )
    process = shell.attach("full", evict=evict, memory_max=MEMORY, swap_max=SWAP)
    region = shell.map(process, AT_BOTH)
    for page in range(pages):
        shell.put(process, region, page, of_page(page))
    return shell, shell.core.state.processes[process], region


def reads(shell, process, region, pages):
    """Read pages; returns how many victims were refused for each one that came from swap."""
    before, refused = process.counters.swap_ins, process.counters.refused_victims
    for page in pages:
        if isinstance(shell, RealShell):
            thread = shell.touch(process.process_id, region, page)
            assert (thread.state, thread.read) == (DONE, of_page(page))
        else:
            assert shell.get(process.process_id, region, page) == of_page(page)
    came = process.counters.swap_ins - before
    assert came > 100
    return (process.counters.refused_victims - refused) / came


@pytest.mark.parametrize("evict", ["lru", "hint_aware", "clock"])
@pytest.mark.parametrize("kind", [Shell, RealShell])
def test_a_fault_of_a_process_at_both_limits_costs_few_refused_victims(kind, evict):
    shell, process, region = at_both_limits(kind, evict)
    reads(shell, process, region, range(AT_BOTH))
    assert reads(shell, process, region, range(AT_BOTH)) <= 8
    # All the pages that can go are remembered, so no look at all frames is needed.
    hand = shell.core.reclaim._sweep._hand
    reads(shell, process, region, range(AT_BOTH))
    assert shell.core.reclaim._sweep._hand == hand


@pytest.mark.parametrize("kind", [Shell, RealShell])
def test_with_more_clean_pages_than_are_remembered_it_costs_few_as_well(kind):
    shell, process, region = at_both_limits(kind, "lru", AT_BOTH - 3 * CLEAN_FRAMES)
    for page in range(AT_BOTH - 3 * CLEAN_FRAMES, AT_BOTH):
        shell.get(process.process_id, region, page)
    assert reads(shell, process, region, range(AT_BOTH - 3 * CLEAN_FRAMES)) <= 40


def test_a_policy_names_as_many_as_before_once_there_are_slots_again():
    shell, process, region = at_both_limits(Shell, "lru")
    reads(shell, process, region, range(AT_BOTH))
    assert process.patience < MOST_PATIENCE
    shell.do(events.SetLimits(process.process_id, MEMORY, 2 * SWAP, 0, 100))
    reads(shell, process, region, range(AT_BOTH))
    assert process.patience == MOST_PATIENCE


def test_frames_that_are_remembered_as_clean_and_are_another_processes_by_now_stay():
    shell, process, region = at_both_limits(Shell, "lru")
    reads(shell, process, region, range(AT_BOTH))
    known = list(process.clean_frames)
    assert 0 < len(known) <= CLEAN_FRAMES
    other = shell.attach("other")
    theirs = shell.map(other, 600)
    for page in range(600):
        shell.put(other, theirs, page, of_page(page))
    shell.evict(other, theirs, 0, 600)
    for page in range(600):
        assert shell.get(other, theirs, page) == of_page(page)
    before = shell.core.state.processes[other].counters.evictions
    frames = shell.core.state.frames
    process.clean_frames = {pfn: None for pfn in range(frames.count) if frames.page[pfn] >> PAGE_BITS == theirs}
    reads(shell, process, region, range(AT_BOTH))
    assert shell.core.state.processes[other].counters.evictions == before


def test_a_page_whose_region_is_gone_is_settled_by_freeing_its_frame():
    shell, process, region = at_both_limits(Shell, "lru", MEMORY)
    sweep, frames = shell.core.reclaim._sweep, shell.core.state.frames
    last = shell.core.state.regions[region].table[MEMORY - 1] - 1
    assert (sweep.unsettled, sweep.settle(last), sweep.settle(-1), sweep.settle(frames.count)) == (False, *[None] * 3)
    shell.hold_go_on = True
    shell.do(events.Unmap(process.process_id, region))  # more pages than one event frees
    free = frames.free
    assert sweep.unsettled
    assert sweep.settle(last) is Settled.GONE
    assert frames.free == free + 1
    shell.hold_go_on = False
    shell.do_work()
    assert (sweep.unsettled, frames.free) == (False, frames.count)
