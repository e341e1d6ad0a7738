"""kill_lowest_priority: the process of the least share that has memory above its guarantee."""

import pytest

from tests.support.fake_view import fake_view
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.policy import Fault
from usmd.core.region import Process
from usmd.core.view import MemoryView, ProcessView
from usmd.policies.oom.kill_lowest_priority import KillLowestPriority


@pytest.mark.parametrize(
    ("processes", "victim"),
    [
        ({}, None),
        ({1: (100, 0, 0)}, None),
        ({1: (100, 9, 0), 2: (50, 1, 0), 3: (200, 9, 0)}, 2),
        ({1: (100, 9, 0), 2: (50, 0, 0)}, 1),
        ({1: (100, 9, 0), 2: (50, 4, 4)}, 1),
        ({1: (50, 9, 8), 2: (50, 4, 0), 3: (100, 9, 0)}, 2),
        ({1: (50, 4, 0), 2: (50, 4, 0)}, 2),
    ],
)
def test_the_least_weight_goes_first_then_the_most_memory_then_the_youngest(processes, victim):
    views = []
    for number, (weight, resident, guaranteed) in processes.items():
        process = Process(number, "app", None, None, None)
        process.weight, process.resident, process.memory_min = weight, resident, guaranteed
        views.append(ProcessView(process))
    memory = fake_view(processes=lambda: views)
    assert KillLowestPriority(memory).choose(Fault(1, 0, 1, True, False, None)) == victim


@pytest.mark.parametrize(
    ("of_user", "weights", "victim"),
    [
        (None, (100, 100, 90), 2),
        (200, (100, 100, 90), 2),
        (100, (100, 100, 90), 1),
        (400, (100, 300, 120), 0),
        (400, (100, 300, 100), 2),
    ],
    ids=("no weight", "100 each, more than 90", "50 each", "100 and 300", "100 each, of which one has more memory"),
)
def test_the_weight_of_a_user_is_divided_among_its_processes_by_their_weights(of_user, weights, victim):
    shell = Shell(make_core(frames=64))
    processes = [shell.attach(f"p{number}", uid=1 if number < 2 else 2) for number in range(3)]
    for number, process in enumerate(processes):
        shell.do(events.SetLimits(process, None, None, 0, weights[number]))
        region = shell.map(process, 8)
        for page in range(4 + number):
            shell.put(process, region, page, b"x" * PAGE)
    shell.do(events.SetUserLimits(1, memory_weight=of_user))
    memory = MemoryView(shell.core.state, shell.core.state.processes[processes[0]])
    assert KillLowestPriority(memory).choose(Fault(1, 0, 1, True, False, None)) == processes[victim]
