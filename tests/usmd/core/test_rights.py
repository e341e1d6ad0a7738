"""What keeps a page in memory, and how much of it there may be; pins as clients know them are in test_pins.py."""

import pytest

from tests.support.shell import Shell, make_core
from usmd.core import events
from usmd.core.frames import HELD, KEPT, PINNED, UNEVICTABLE


def app(**settings):
    shell = Shell(make_core(frames=8, **{"deny_budget": 2, "deny_budget_total": 3, **settings}))
    process = shell.attach()
    region = shell.map(process, 4)
    shell.fault(process, region, 0, 4)
    return shell, shell.core.state.processes[process], region


def test_unevictable_and_pinned_pages_share_one_budget_of_the_process():
    shell, process, region = app()
    life = shell.core.life
    assert life.kept_room(process) == 2
    shell.hint(process.process_id, region, "EVICTION=DENY", 0, 1)
    shell.do(events.Pin(process.process_id, region, 1, 1))
    assert (life.kept_room(process), process.unevictable, process.pinned) == (0, 1, 1)
    shell.hint(process.process_id, region, "EVICTION=DENY", 2, 1)
    assert process.counters.deny_over_budget == 1
    assert shell.core.state.frames.flags[2] & KEPT == 0


def test_the_budget_of_all_processes_bounds_each():
    shell, process, region = app(deny_budget_total=1)
    assert shell.core.life.kept_room(process) == 1
    shell.hint(process.process_id, region, "EVICTION=DENY", 0, 4)
    assert (process.unevictable, shell.core.life.kept_room(process)) == (1, 0)


def test_a_budget_of_its_own_bounds_a_process_and_no_other():
    shell, process, region = app()
    process.deny_budget = 1
    assert (shell.core.life.budget(process), shell.core.life.kept_room(process)) == (1, 1)
    shell.hint(process.process_id, region, "EVICTION=DENY", 0, 4)
    assert (process.unevictable, process.counters.deny_over_budget) == (1, 3)
    other = shell.core.state.processes[shell.attach()]
    assert (shell.core.life.budget(other), shell.core.life.kept_room(other)) == (2, 2)


@pytest.mark.parametrize("times", [1, 3])
def test_a_page_that_is_pinned_several_times_stays_until_the_last_pin_ends(times):
    shell, process, number = app()
    region = shell.core.state.regions[number]
    life, flags = shell.core.life, shell.core.state.frames.flags
    for _ in range(times):
        life.pin(0)
    for _ in range(times):
        assert flags[0] & PINNED
        assert process.pinned == 1
        life.unpin(region, 0)
    assert (flags[0] & PINNED, process.pinned, len(region.pins)) == (0, 0, 0)


def test_a_page_that_goes_gives_back_what_it_kept():
    shell, process, region = app(hold_budget=1)
    shell.hint(process.process_id, region, "EVICTION=DENY", 0, 1)
    shell.do(events.Pin(process.process_id, region, 1, 1))
    shell.fault(process.process_id, region, 2)
    assert [shell.core.state.frames.flags[pfn] & (UNEVICTABLE | PINNED | HELD) for pfn in range(3)] == [
        UNEVICTABLE, PINNED, HELD,
    ]  # fmt: skip
    shell.do(events.Unmap(process.process_id, region))
    assert (process.unevictable, process.pinned, len(shell.core.state.holds)) == (0, 0, 0)
    assert shell.core.life.kept_room(process) == 2


def test_a_policy_may_name_frames_of_its_process_that_are_present_and_may_go():
    shell, process, region = app()
    other = shell.attach()
    shell.fault(other, shell.map(other, 1), 0)
    shell.do(events.Pin(process.process_id, region, 1, 1))
    expected = [None, "unevictable or pinned by its process", None, None, "not the process's", "not present"]
    assert [shell.core.life.objection(process, pfn) for pfn in range(6)] == expected
    for pfn in (-1, 8):
        assert shell.core.life.objection(process, pfn) == "not a frame (there are 0 to 7)"
