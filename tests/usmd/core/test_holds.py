"""Holds: a page that was faulted in stays until it is touched, and counts as touched once."""

from array import array

from tests.support.shell import Shell, make_core
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
