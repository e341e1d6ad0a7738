"""What a fault finds on its page; that all sources count alike is in test_one_ladder.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.shell import PAGE, Shell, make_core
from usmd.core.allocation import Allocation
from usmd.core.ladder import (
    ABSENT,
    FILLED,
    FILLING,
    NO_FRAME,
    PRESENT,
    RETAKEN,
    SWAPPED,
    Ladder,
    clip_stride,
    count_faults,
)
from usmd.core.placement import Placement


def ladder_at(state):
    """A ladder of its own over a core whose page 0 is in a state, and the region."""
    shell = Shell(make_core(frames=4), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 4)
    if state != "ABSENT":
        shell.put(process, region, 0, b"x" * PAGE)
    if state in ("SWAPPED", "EVICTING", "FILLING"):
        shell.evict(process, region)
    while state in ("SWAPPED", "FILLING") and shell.pending:
        shell.complete_io()
    if state == "FILLING":
        shell.hint(process, region, "WILLNEED")
    core = shell.core
    assert shell.state_of(region, 0) == state
    ladder = Ladder(core.state, core.life, Placement(core.state, core.life))
    return ladder, core.state.regions[region]


@pytest.mark.parametrize(
    ("state", "found", "counted"),
    [
        ("ABSENT", FILLED, (1, 0, 0)),
        ("PRESENT", PRESENT, (1, 0, 0)),
        ("EVICTING", RETAKEN, (1, 0, 0)),
        ("FILLING", FILLING, (0, 1, 1)),
        ("SWAPPED", SWAPPED, (0, 1, 0)),
    ],
)
def test_a_fault_finds_its_page_and_is_counted_once(state, found, counted):
    ladder, region = ladder_at(state)
    counters = region.process.counters
    before = counters.faults, counters.minor_faults, counters.major_faults, counters.parked_faults, region.faults
    outcome = ladder.resolve(region, 0, write=False)
    after = counters.faults, counters.minor_faults, counters.major_faults, counters.parked_faults, region.faults
    assert outcome[0] == found
    assert outcome[1] == (NO_FRAME if found == SWAPPED else region.table[0] - 1)
    assert tuple(new - old for new, old in zip(after, before, strict=True)) == (1, *counted, 1)


def test_the_last_frame_is_given_by_who_knows_what_else_waits():
    ladder, region = ladder_at("ABSENT")
    for page in range(3):
        assert ladder.resolve(region, page, write=True)[0] == FILLED
    found, pfn, plan, _ = ladder.resolve(region, 3, write=True)
    assert (found, pfn, plan.first, plan.count) == (ABSENT, NO_FRAME, 3, 1)
    assert region.table[3] == 0


def test_faults_of_a_run_are_counted_at_its_end_as_they_are_one_by_one():
    _, region = ladder_at("ABSENT")
    count_faults(region, minor=3, major=2)
    counters = region.process.counters
    assert (counters.faults, counters.minor_faults, counters.major_faults, counters.parked_faults) == (5, 3, 2, 0)
    assert (region.faults, region.major_faults) == (5, 2)


@given(
    st.integers(0, 300), st.integers(1, 400), st.integers(1, 400), st.integers(1, 90), st.integers(1, 40),
    st.integers(0, 300), st.integers(0, 300),
)  # fmt: skip
@examples(200)
def test_a_plan_with_a_stride_is_cut_to_the_pages_around_the_faulting_one_that_may_come_in(
    page, before, behind, stride, limit, below, above
):
    plan = Allocation(page - (before - 1) * stride, before + behind - 1, 5, stride)
    low, high = max(page - below, 0), page + 1 + above
    cut = clip_stride(plan, page, (low, high), limit)
    wanted = [each for each in range(plan.first, plan.first + plan.count * stride, stride) if low <= each < high]
    found = list(range(cut.first, cut.first + cut.count * stride, stride))
    assert page in found
    assert set(found) <= set(wanted)
    assert len(found) == min(len(wanted), limit)
    assert (cut.frame, cut.stride) == (5, stride)
