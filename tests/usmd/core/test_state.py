"""Lookups, and the order in which commands go out."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.errors import NotFound


def test_a_region_of_another_session_does_not_exist():
    shell = Shell(make_core())
    owner, stranger = shell.attach(), shell.attach()
    region = shell.map(owner, 1)
    state = shell.core.state
    assert state.region(owner, region).region_id == region
    with pytest.raises(NotFound) as not_mine:
        state.region(stranger, region)
    with pytest.raises(NotFound) as not_there:
        state.region(stranger, 99)
    assert str(not_mine.value).replace(str(region), "N") == str(not_there.value).replace("99", "N")
    with pytest.raises(NotFound, match="no process 77"):
        state.process(77)


def test_commands_go_out_in_the_order_in_which_they_are_safe():
    core = make_core()
    shell = Shell(core)
    process = shell.attach()
    state = core.state
    state.notice("note", 0, "hello")
    state.outcome(process, commands.Yielded(1, 1))
    page = commands.SlotPage(0, 0, process, 0, 0)
    state.reads.append(page)
    state.writes.append(page)
    state.protects.append(3)
    state.protect_pages.append(103)
    state.poisons[107] = "DATA_LOSS"
    state.zero_fills.append(2)
    state.zero_pages.append(102)
    state.zero_runs += [(range(4, 6), range(202, 204)), (range(8, 9), range(300, 301))]
    state.wakes.append(106)
    state.restores[105] = True
    state.releases.append(104)
    state.discards.append(1)
    state.first.append(commands.Attached(9))
    assert state.take_commands() == [
        commands.Attached(9),
        commands.DiscardSlots([1]),
        commands.Release([104]),
        commands.ZeroFill([2], [102]),
        commands.ZeroFill(range(4, 6), range(202, 204)),
        commands.ZeroFill(range(8, 9), range(300, 301)),
        commands.Restore([105], [True]),
        commands.Wake([106]),
        commands.Poison([107], ["DATA_LOSS"]),
        commands.Protect(1, [3], [103]),
        commands.WriteSlots([page]),
        commands.ReadSlots([page]),
        commands.Outcomes(process, [commands.Yielded(1, 1)]),
        commands.Notice("note", 0, "hello", {}),
    ]
    assert state.take_commands() == []


def test_the_frames_and_pages_of_a_command_go_with_it():
    """Lists that were handed out do not grow later."""
    state = make_core().state
    state.protects.append(3)
    state.protect_pages.append(103)
    (first,) = state.take_commands()
    state.protects.append(4)
    state.protect_pages.append(104)
    (second,) = state.take_commands()
    assert (first, second) == (commands.Protect(1, [3], [103]), commands.Protect(2, [4], [104]))


def test_a_process_that_has_ended_hears_nothing():
    core = make_core()
    process = Shell(core).attach()
    core.state.outcome(process, commands.Yielded(1, 1))
    del core.state.processes[process]
    core.state.outcome(process, commands.Yielded(2, 2))
    assert core.state.take_commands() == []


def test_totals_keep_the_counts_of_ended_sessions():
    shell = Shell(make_core())
    one, two = shell.attach(), shell.attach()
    for process in (one, two):
        shell.put(process, shell.map(process, 1), 0, b"x" * PAGE)
    shell.do(events.Detach(one, "bye"))
    assert shell.counters()["zero_fills"] == 2
