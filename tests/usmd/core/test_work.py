import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.dont_need import MAX_EVICTING_FOR_HINTS
from usmd.core.hints import parse_hint
from usmd.core.work import END_COSTS, MAX_WORK, PAGES_AN_EVENT, Kind, Work, WorkQueue, one_by_one
from usmd.errors import LimitExceeded


def steps(log, name, *answers):
    for answer in answers:
        log.append(name)
        yield answer


def add(queue, steps):
    queue.add(Work(Kind.BACKGROUND, steps=iter(steps)))


def go_on(queue):
    return queue.go_on({Kind.BACKGROUND: one_by_one})


def test_a_part_is_bounded_and_the_rest_is_done_later():
    queue, log = WorkQueue(), []
    add(queue, steps(log, "a", *[True] * (PAGES_AN_EVENT + 10)))
    assert go_on(queue)
    assert len(log) == PAGES_AN_EVENT
    assert not go_on(queue)
    assert (len(log), len(queue.queue)) == (PAGES_AN_EVENT + 10, 0)


def test_a_chore_that_waits_lets_another_go_on_and_asks_for_nothing():
    queue, log = WorkQueue(), []
    add(queue, steps(log, "waits", False, False, True))
    add(queue, steps(log, "works", True, True))
    assert not go_on(queue)
    assert log == ["waits", "works", "works", "waits"]
    assert not go_on(queue)
    assert len(queue.queue) == 0


def test_long_work_takes_many_events_and_asks_for_each_once():
    pages = 3 * PAGES_AN_EVENT
    core = make_core(frames=pages + 10)
    shell = Shell(core)
    process = shell.attach()
    region = shell.map(process, pages)
    todo = core.handle(events.SetHint(process, region, 0, None, parse_hint("WILLNEED")), 0.0)
    parts = 0
    while asked := [command for command in todo if isinstance(command, commands.GoOn)]:
        assert len(asked) == 1
        assert not [each for each in core.handle(events.Tick(), 0.0) if isinstance(each, commands.GoOn)]
        todo = core.handle(events.GoOn(), 0.0)
        parts += 1
    assert parts >= 1
    assert core.state.regions[region].resident == pages


def test_slots_of_an_unmapped_region_are_freed_part_by_part_and_nothing_sees_it():
    pages = 3 * PAGES_AN_EVENT
    shell = Shell(make_core(frames=8, devices=(("swap0", pages),)), check=False)
    process = shell.attach()
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, b"x" * PAGE)
    core = shell.core
    core.handle(events.Unmap(process, region), 0.0)
    assert region not in core.state.regions
    assert 0 < core.state.swap.free < pages
    shell.do(events.Tick())
    while core.state.dying:
        shell.do(events.GoOn())
    assert core.state.swap.free == pages


def test_dontneed_waits_while_many_pages_are_on_their_way_out():
    pages = MAX_EVICTING_FOR_HINTS + 50
    shell = Shell(make_core(frames=pages, devices=(("swap0", pages),)), auto_io=False, check=False)
    process = shell.attach()
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, b"x" * PAGE)
    shell.do(events.SetHint(process, region, 0, None, parse_hint("DONTNEED")))
    while shell.core.state.work.queue and len(shell.core.life.evicting) < MAX_EVICTING_FOR_HINTS:
        shell.do(events.GoOn())
    assert len(shell.core.life.evicting) == MAX_EVICTING_FOR_HINTS
    while shell.pending:
        shell.complete_io()
    assert shell.core.state.regions[region].swapped == pages


def test_many_that_wait_ask_for_nothing():
    queue, log = WorkQueue(), []
    for _ in range(2 * PAGES_AN_EVENT):
        add(queue, steps(log, "waits", *[False] * 10))
    assert not go_on(queue)
    assert len(log) == 2 * PAGES_AN_EVENT


def test_an_end_counts_because_it_may_have_passed_over_much():
    queue = WorkQueue()
    for _ in range(100):
        add(queue, iter(()))
    assert go_on(queue)
    assert len(queue.queue) == 100 - PAGES_AN_EVENT // END_COSTS


def test_hints_may_not_pile_up_chores():
    shell = Shell(make_core(frames=MAX_EVICTING_FOR_HINTS + 8, devices=(("swap0", 4096),)), auto_io=False, check=False)
    process = shell.attach()
    region = shell.map(process, MAX_EVICTING_FOR_HINTS + 4)
    for page in range(MAX_EVICTING_FOR_HINTS + 4):
        shell.put(process, region, page, b"x" * PAGE)
    everything = events.SetHint(process, region, 0, None, parse_hint("DONTNEED"))
    while len(shell.core.state.work.queue) < MAX_WORK:
        shell.do(everything)
    with pytest.raises(LimitExceeded, match=f"{MAX_WORK} hints with WILLNEED or DONTNEED"):
        shell.do(everything)
    shell.do(events.SetHint(process, region, 0, None, parse_hint("PRIORITY=LOW")))
    other = shell.attach()
    theirs = shell.map(other, 1)
    shell.do(events.SetHint(other, theirs, 0, None, parse_hint("DONTNEED")))  # another's chores are not its own


def test_what_is_counted_for_a_process_ends_with_its_chores():
    shell = Shell(make_core(frames=8))
    process = shell.attach()
    region = shell.map(process, 4)
    for _ in range(3 * MAX_WORK):
        for text in ("WILLNEED", "DONTNEED"):
            shell.do(events.SetHint(process, region, 0, None, parse_hint(text)))
    assert shell.core.state.processes[process].work == 0


def test_nobody_is_killed_or_refused_while_slots_of_a_dead_region_are_being_freed():
    pages = 4 * PAGES_AN_EVENT
    shell = Shell(make_core(frames=4, devices=(("swap0", pages),)), check=False)
    large, small = shell.attach("large"), shell.attach("small", oom="kill_largest")
    region, mine = shell.map(large, pages + 3), shell.map(small, 7)
    for page in range(pages + 3):
        shell.put(large, region, page, b"x" * PAGE)
    assert shell.core.state.swap.free <= 1
    shell.do(events.Faults(small, [events.FaultRequest(n, mine, n, 1, True) for n in range(7)]))
    assert list(shell.ended) == [large]
    assert [type(each).__name__ for each in shell.outcomes[small]] == ["Allocated"] * 7
