"""Windows larger than one event may bring in: what comes at once, what later, and what does not come."""

import pytest

from tests.support.in_swap import swapped
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.hints import parse_hint
from usmd.core.page_table import CHUNK
from usmd.core.windows import MAX_WINDOWS
from usmd.core.work import Kind, Work


def world(pages=64, window=32, *, frames=128, alloc="flexible_huge_pages(pages={})", **settings):
    """A shell whose deferred work waits, a process whose windows come in by parts of 8 pages, and its region."""
    shell = Shell(make_core(frames=frames, max_fault_pages=8, **settings))
    shell.hold_go_on = True
    process = shell.attach(alloc=alloc.format(window))
    return shell, process, shell.map(process, pages)


def present(shell, region):
    pages = range(shell.core.state.regions[region].page_count)
    return [page for page in pages if shell.state_of(region, page) == "PRESENT"]


def finish(shell):
    while shell.asked:
        shell.do_work()


def windows(shell, process):
    return shell.core.windows.under_way.get(process, [])


def test_the_fault_waits_for_the_part_around_its_page_and_the_rest_comes_later():
    shell, process, region = world()
    shell.fault(process, region, 41)
    assert present(shell, region) == list(range(40, 48))
    assert shell.asked
    finish(shell)
    assert present(shell, region) == list(range(32, 64))
    assert windows(shell, process) == []
    assert shell.counters()["read_ahead"] == 31


def test_what_is_above_the_part_comes_before_what_is_below():
    pages = 4 * CHUNK
    shell, process, region = world(pages, pages, frames=2 * pages)
    shell.fault(process, region, 2 * CHUNK)
    shell.do_work()
    found = present(shell, region)
    assert found[-1] + 1 - found[0] == len(found), "one run"
    assert found[0] == 2 * CHUNK
    finish(shell)
    assert present(shell, region) == list(range(pages))


def test_the_next_part_is_all_absent_pages_up_to_a_multiple_of_a_chunk_as_one_run():
    pages = 2 * CHUNK
    shell, process, region = world(pages, pages, frames=2 * pages)
    shell.fault(process, region, 0)
    shell.asked = False
    todo = shell.core.handle(events.GoOn(), 0.0)
    (filled,) = [each for each in todo if isinstance(each, commands.ZeroFill)]
    first = shell.core.state.regions[region].first_key
    assert filled.pages == range(first + 8, first + CHUNK)


def test_pages_there_are_skipped_as_fewer_pages():
    pages = 4 * CHUNK
    shell, process, region = world(pages, pages, frames=2 * pages)
    shell.fault(process, region, 0)
    finish(shell)
    task = Work(Kind.WINDOW, None, shell.core.state.regions[region], 7, pages)
    done = [shell.core.windows._step(shell.core.state.regions[region], task)]
    assert task.next_page == CHUNK
    while task.next_page < task.end:
        done.append(shell.core.windows._step(shell.core.state.regions[region], task))
    assert done == [32, 32, 32, 32]


def test_a_second_fault_in_the_same_window_begins_no_second_rest():
    shell, process, region = world()
    shell.fault(process, region, 0)
    shell.fault(process, region, 20)
    assert len(windows(shell, process)) == 1
    finish(shell)
    assert present(shell, region) == list(range(32))


def test_the_rests_of_windows_under_way_are_bounded():
    pages = 16 * (MAX_WINDOWS + 4)
    shell, process, region = world(pages, 16, frames=2 * pages)
    for first in range(0, pages, 16):
        shell.fault(process, region, first)
    assert len(windows(shell, process)) == MAX_WINDOWS
    finish(shell)
    assert len(present(shell, region)) == 16 * MAX_WINDOWS + 8 * 4


def test_the_rest_takes_frames_above_the_high_mark_alone_and_evicts_nothing():
    shell, process, region = world(64, 64, frames=64, low=4, high=20)
    shell.fault(process, region, 0)
    finish(shell)
    assert shell.core.state.frames.free == 20
    assert shell.counters()["evictions"] == 0
    shell.fault(process, region, 60)
    assert not windows(shell, process), "there is no frame to spare"


def test_the_rest_stays_within_the_budget_of_its_process():
    shell = Shell(make_core(frames=128, max_fault_pages=8))
    process = shell.attach(alloc="flexible_huge_pages(pages=64)", memory_max=20)
    region = shell.map(process, 64)
    shell.fault(process, region, 0)
    assert len(present(shell, region)) == 20
    assert shell.counters()["evictions"] == 0


def test_a_window_of_present_absent_and_swapped_pages_and_of_pages_in_flight_comes_in_whole():
    shell, process, region = swapped(24, frames=32, max_fault_pages=8, alloc="flexible_huge_pages(pages=24)")
    shell.hint(process, region, "WILLNEED", 10, 2)
    assert shell.state_of(region, 10) == "FILLING"
    shell.fault(process, region, 1)
    while shell.pending:
        shell.complete_io()
    assert [shell.load(process, region, page) for page in range(24)] == [bytes([page + 1]) * PAGE for page in range(24)]
    assert shell.counters()["swap_ins"] == 24


def test_a_window_ends_at_the_borders_of_its_hint_and_of_the_region():
    shell, process, region = world(61, alloc="flexible_huge_pages")
    shell.hint(process, region, f"FHP={64 * PAGE}B", 5, 30)
    shell.hint(process, region, f"FHP={64 * PAGE}B", 40)
    shell.fault(process, region, 11)
    finish(shell)
    assert present(shell, region) == list(range(5, 35))
    shell.fault(process, region, 60)
    finish(shell)
    assert present(shell, region) == [*range(5, 35), *range(40, 61)]


def test_a_denied_page_in_the_rest_gets_its_right():
    shell, process, region = world()
    shell.hint(process, region, "EVICTION=DENY", 24, 2)
    shell.fault(process, region, 0)  # without a hint, so its window covers all
    finish(shell)
    assert present(shell, region) == list(range(32))
    assert shell.core.state.regions[region].unevictable == 2


@pytest.mark.parametrize("end", [events.Unmap, events.Detach])
def test_the_rest_ends_with_its_region(end):
    shell, process, region = world()
    shell.fault(process, region, 0)
    shell.do(end(process, region) if end is events.Unmap else end(process, "bye"))
    finish(shell)
    assert not shell.core.state.work.queue
    assert shell.core.state.frames.free == 128


def test_other_work_has_its_turn_between_two_parts():
    pages = 8 * CHUNK
    shell, process, region = world(pages, pages, frames=2 * pages)
    shell.fault(process, region, 0)
    shell.do(events.SetHint(process, region, 7 * CHUNK * PAGE, CHUNK * PAGE, parse_hint("WILLNEED")))
    shell.do_work()
    shell.do_work()
    found = present(shell, region)
    assert CHUNK - 1 in found
    assert 7 * CHUNK in found
    assert 3 * CHUNK not in found


def test_the_rest_waits_while_many_pages_are_on_their_way_in(monkeypatch):
    monkeypatch.setattr("usmd.core.windows.MAX_FILLING", 10)
    shell, process, region = swapped(24, frames=32, max_fault_pages=8, alloc="flexible_huge_pages(pages=24)")
    shell.fault(process, region, 0)
    assert len(shell.pending) == 10
    while shell.pending:
        shell.complete_io()
    assert len(present(shell, region)) == 24


def test_work_without_a_region_is_a_defect():
    core = make_core()
    with pytest.raises(TypeError, match="has no region"):
        core._parts[Kind.WINDOW](Work(Kind.WINDOW), 1)


def along(shell, region):
    found = shell.core.state.regions[region]
    counters = shell.counters()
    names = ("read_ahead", "read_ahead_used", "read_ahead_unused")
    assert (found.along, found.along_used, found.along_unused) == tuple(counters[name] for name in names)
    return found.along, found.along_used, found.along_unused


def test_what_came_along_is_used_once_it_is_touched_and_unused_if_it_is_evicted_before():
    shell, process, region = world(32, 16)
    shell.fault(process, region, 3)
    finish(shell)
    assert along(shell, region) == (15, 0, 0)
    for page in (3, 4, 4, 12):
        shell.load(process, region, page)
    shell.store(process, region, 5, b"x" * PAGE)
    assert along(shell, region) == (15, 3, 0)
    shell.evict(process, region)
    finish(shell)
    assert along(shell, region) == (15, 3, 12)


def test_pages_from_swap_that_came_along_are_used_or_unused_too_and_a_fault_on_one_in_flight_is_a_use():
    shell, process, region = swapped(8, alloc="flexible_huge_pages(pages=8)")
    assert along(shell, region) == (7, 7, 0), "as they were stored to"
    shell.fault(process, region, 0)
    assert along(shell, region) == (14, 7, 0)
    shell.fault(process, region, 2, fault_id=2)
    shell.fault(process, region, 2, fault_id=3)
    assert along(shell, region) == (14, 8, 0)
    while shell.pending:
        shell.complete_io()
    shell.fault(process, region, 5, fault_id=4)
    assert along(shell, region) == (14, 9, 0)
    shell.evict(process, region)
    assert along(shell, region) == (14, 9, 5)


def test_pages_on_scattered_frames_that_came_along_are_noted_as_well():
    shell = Shell(make_core(frames=16))
    process = shell.attach(alloc="flexible_huge_pages(pages=8)")
    other = shell.map(process, 16)
    for page in range(16):
        shell.hint(process, other, "ACCESS=RANDOM")
        shell.fault(process, other, page)
    for page in range(0, 16, 2):
        shell.evict(process, other, page, 1)
    region = shell.map(process, 8)
    shell.fault(process, region, 7)
    assert along(shell, region)[0] == 7
    assert not shell.core.state.frames.flags[shell.core.state.regions[region].table[7] - 1] & 128
