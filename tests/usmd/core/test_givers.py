"""Which process gives first, and how many pages."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.givers import LEAST, Givers

DATA = b"x" * PAGE


def fill(shell, pages, **more):
    process = shell.attach(**more)
    region = shell.map(process, max(pages, 1))
    for page in range(pages):
        shell.put(process, region, page, DATA)
    return shell.core.state.processes[process]


def in_turn(shell, wanted=64):
    return [(process.process_id, gives) for process, gives in Givers(shell.core.state).in_turn(wanted)]


def test_with_equal_weights_the_largest_gives_until_it_is_as_large_as_the_next():
    shell = Shell(make_core(frames=200))
    for pages in (30, 90, 50, 0):
        fill(shell, pages)
    assert in_turn(shell) == [(2, 40), (3, 20), (1, 64)]


def test_one_that_is_hardly_larger_gives_some_pages_in_one_go():
    shell = Shell(make_core(frames=200))
    for pages in (50, 51):
        fill(shell, pages)
    assert in_turn(shell) == [(2, LEAST), (1, 64)]


def test_the_one_furthest_above_its_weight_gives_first():
    shell = Shell(make_core(frames=200))
    fill(shell, 60, memory_weight=300)
    fill(shell, 40)
    assert in_turn(shell) == [(2, 20), (1, 64)]


def test_one_gives_nothing_of_its_guarantee_and_counts_as_what_it_has_above():
    shell = Shell(make_core(frames=200))
    fill(shell, 80, memory_min=70)
    fill(shell, 30)
    fill(shell, 20, memory_min=20)
    fill(shell, 5, memory_min=20)
    assert in_turn(shell) == [(2, 20), (1, 10)]


def test_pages_that_cannot_go_or_go_already_do_not_count():
    shell = Shell(make_core(frames=200), auto_io=False)
    largest, leaving, plain = (fill(shell, pages) for pages in (90, 60, 30))
    shell.do(events.Pin(largest.process_id, 1, 0, 70))
    shell.evict(leaving.process_id, 2, 0, 50)
    assert in_turn(shell) == [(plain.process_id, LEAST), (largest.process_id, LEAST), (leaving.process_id, 64)]
    assert Givers(shell.core.state).most(leaving) == 10


def test_a_page_in_memory_only_to_move_to_another_device_is_none_to_give():
    shell = Shell(make_core(frames=200, devices=(("fast", 64), ("slow", 64))))
    process = fill(shell, 20, memory_min=10)
    shell.evict(process.process_id, 1, 0, 5)
    shell.auto_io = False
    shell.core._migration.begin(shell.core.state.regions[1], 0, 1)
    assert (process.resident, Givers(shell.core.state).most(process)) == (16, 5)
    assert in_turn(shell) == [(1, 5)]


@pytest.mark.parametrize(("weights", "ratio"), [((100, 100), 1.0), ((200, 100), 2.0), ((300, 100), 3.0)])
def test_under_pressure_memory_is_divided_by_weight(weights, ratio):
    shell = Shell(make_core(frames=240, devices=(("swap0", 1000),), low=4, high=8), check=False)
    processes = [shell.attach(memory_weight=weight, evict="lru") for weight in weights]
    regions = [shell.map(process, 300) for process in processes]
    for turn in range(2):
        for page in range(300):
            for process, region in zip(processes, regions, strict=True):
                shell.put(process, region, (page + turn) % 300, DATA)
    first, second = (shell.core.state.processes[process].resident for process in processes)
    assert first / second == pytest.approx(ratio, rel=0.25)


def test_processes_of_a_user_with_a_weight_stand_as_one_and_give_in_their_own_order():
    shell = Shell(make_core(frames=400))
    for pages in (30, 60, 20):
        fill(shell, pages, uid=7)
    fill(shell, 80)
    assert [process for process, _ in in_turn(shell)] == [4, 2, 1, 3]
    shell.do(events.SetUserLimits(7, memory_weight=100))
    assert in_turn(shell) == [(2, 30), (4, 64)]
    shell.do(events.SetUserLimits(7, memory_weight=400))
    assert in_turn(shell) == [(4, 52), (2, 30), (1, 16), (3, 18)]
    shell.do(events.SetUserLimits(7))
    assert [process for process, _ in in_turn(shell)] == [4, 2, 1, 3]


def test_within_a_user_a_guarantee_of_a_process_is_kept():
    shell = Shell(make_core(frames=400))
    fill(shell, 50, uid=7, memory_min=45)
    fill(shell, 20, uid=7)
    shell.do(events.SetUserLimits(7, memory_weight=100))
    assert in_turn(shell) == [(2, 16), (1, 5)]


@pytest.mark.parametrize(("weights", "ratio"), [((100, 100), 1.0), ((300, 100), 3.0)])
def test_under_pressure_memory_is_divided_by_weight_of_users_however_many_processes_they_have(weights, ratio):
    shell = Shell(make_core(frames=160, devices=(("swap0", 1000),), low=4, high=8), check=False)
    for uid, weight in enumerate(weights):
        shell.do(events.SetUserLimits(uid, memory_weight=weight))
    processes = [shell.attach(uid=uid, evict="lru") for uid in (0, 1, 1, 1)]
    regions = [shell.map(process, 200) for process in processes]
    for page in range(200):
        for process, region in zip(processes, regions, strict=True):
            shell.put(process, region, page, DATA)
    first, *others = (shell.core.state.processes[process].resident for process in processes)
    assert first / sum(others) == pytest.approx(ratio, rel=0.25)
