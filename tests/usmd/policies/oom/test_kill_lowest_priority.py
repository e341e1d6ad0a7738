"""kill_lowest_priority: the process of the least weight that has memory above its guarantee."""

import pytest

from tests.support.fake_view import fake_view
from usmd.core.policy import Fault
from usmd.core.region import Process
from usmd.core.view import ProcessView
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
