"""Bytes that a process gives up become zeros, and their frames and slots free, whatever state their pages are in."""

import pytest

from tests.support.real_shell import RealShell
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events, work
from usmd.core.validate import violations
from usmd.errors import InvalidArgument, NotFound, OutOfRange

DATA = b"x" * PAGE
REPLY = 7


def shell_of(**options):
    return Shell(make_core(frames=12, low=0, high=0), **options)


def discard(shell, process, region, first=0, count=1):
    """Discard pages; returns whether that is done."""
    shell.do(events.Discard(process, region, first, count, REPLY))
    return shell.discarded == [REPLY]


def left(shell):
    """Free frames, and used slots."""
    state = shell.core.state
    return state.frames.free, state.swap.slots - state.swap.free


def test_pages_in_memory_and_in_swap_are_zeros_and_take_nothing():
    shell = shell_of()
    process = shell.attach(memory_max=12, swap_max=12)
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, DATA)
    shell.evict(process, region, 0, 2)
    assert shell.get(process, region, 1) == DATA  # clean, with its slot
    assert left(shell) == (9, 2)
    assert discard(shell, process, region, 0, 3)
    assert [shell.state_of(region, page) for page in range(4)] == ["ABSENT", "ABSENT", "ABSENT", "PRESENT"]
    assert left(shell) == (11, 0)
    assert shell.core.state.processes[process].stored == 0
    assert [shell.get(process, region, page) for page in range(4)] == [bytes(PAGE)] * 3 + [DATA]
    assert violations(shell.core) == []


def test_a_page_that_comes_in_holds_it_up_and_goes_once_it_is_there():
    shell = RealShell(make_core(frames=12, low=0, high=0), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 2)
    for page in range(2):
        shell.touch(process, region, page, DATA)
    shell.evict(process, region)
    while shell.pending:
        shell.complete_io()
    readers = [shell.touch(process, region, 0), shell.touch(process, region, 0)]
    assert shell.state_of(region, 0) == "FILLING"
    assert not discard(shell, process, region, 0, 2)
    shell.complete_io()
    assert not shell.discarded  # the event of its arrival wakes the second reader, which must find it
    shell.tick()
    assert shell.discarded == [REPLY]
    assert [reader.read for reader in readers] == [DATA, DATA]
    assert left(shell) == (12, 0)
    assert shell.touch(process, region, 0).read == bytes(PAGE)


def test_a_page_on_its_way_out_is_gone_and_its_slot_is_free_when_its_write_ends():
    shell = RealShell(make_core(frames=12, low=0, high=0), auto_io=False)
    process = shell.attach()
    region = shell.map(process, 1)
    shell.touch(process, region, 0, DATA)
    shell.evict(process, region)
    assert shell.state_of(region, 0) == "EVICTING"
    assert discard(shell, process, region)
    assert (shell.state_of(region, 0), left(shell)) == ("ABSENT", (12, 1))
    shell.complete_io()
    assert left(shell) == (12, 0)
    assert shell.touch(process, region, 0).read == bytes(PAGE)


def test_many_pages_go_in_parts_and_the_process_hears_of_the_last(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 2)
    shell = shell_of()
    shell.hold_go_on = True
    process = shell.attach()
    region = shell.map(process, 5)
    for page in range(5):
        shell.put(process, region, page, DATA)
    assert not discard(shell, process, region, 0, 5)
    assert shell.asked
    while shell.asked:
        assert not shell.discarded
        shell.do_work()
    assert (shell.discarded, left(shell)) == ([REPLY], (12, 0))


def test_a_region_that_goes_meanwhile_ends_it(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 2)
    shell = shell_of()
    shell.hold_go_on = True
    process = shell.attach()
    region = shell.map(process, 5)
    for page in range(5):
        shell.put(process, region, page, DATA)
    assert not discard(shell, process, region, 0, 5)
    shell.do(events.Unmap(process, region))
    while shell.asked:
        shell.do_work()
    assert (shell.discarded, left(shell)) == ([REPLY], (12, 0))


def test_hints_stay_and_hold_for_the_page_that_comes_next():
    shell = shell_of()
    process = shell.attach()
    region = shell.map(process, 1)
    shell.hint(process, region, "EVICTION=DENY")
    shell.put(process, region, 0, DATA)
    assert discard(shell, process, region)
    assert shell.core.state.processes[process].unevictable == 0
    shell.put(process, region, 0, DATA)
    assert shell.core.state.processes[process].unevictable == 1


def test_what_is_pinned_or_not_there_or_anothers_is_refused_and_nothing_changes():
    shell = shell_of()
    process, other = shell.attach(), shell.attach()
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, DATA)
    shell.do(events.Pin(process, region, 2, 1))
    for first, count in ((0, 0), (-1, 2), (3, 2), (0, -1)):
        with pytest.raises(OutOfRange, match="has pages 0 to 3"):
            discard(shell, process, region, first, count)
    with pytest.raises(InvalidArgument, match=r"1 of the pages 1 to 3 .* are pinned"):
        discard(shell, process, region, 1, 3)
    with pytest.raises(NotFound):
        discard(shell, other, region)
    assert [shell.get(process, region, page) for page in range(4)] == [DATA] * 4
    assert shell.discarded == []


def test_a_page_that_is_pinned_before_its_part_stays(monkeypatch):
    monkeypatch.setattr(work, "PAGES_AN_EVENT", 1)
    shell = shell_of()
    shell.hold_go_on = True
    process = shell.attach()
    region = shell.map(process, 3)
    for page in range(3):
        shell.put(process, region, page, DATA)
    shell.do(events.Discard(process, region, 0, 3, REPLY))
    shell.do(events.Pin(process, region, 2, 1))
    while shell.asked:
        shell.do_work()
    assert (shell.discarded, shell.get(process, region, 2)) == ([REPLY], DATA)
    shell.do(events.Unpin(process, region, 2, 1))
