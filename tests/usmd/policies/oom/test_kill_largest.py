"""kill_largest: the process with most memory above its guarantee, the youngest of equals."""

import pytest

from tests.support.fake_view import fake_view
from usmd.core.policy import Fault
from usmd.core.region import Process
from usmd.core.view import ProcessView
from usmd.policies.oom.kill_largest import KillLargest


@pytest.mark.parametrize(
    ("resident", "guaranteed", "victim"),
    [
        ({}, {}, None),
        ({1: 0, 2: 0}, {}, None),
        ({1: 5, 2: 9, 3: 1}, {}, 2),
        ({1: 5, 2: 5, 3: 4}, {}, 2),
        ({1: 5, 2: 9, 3: 1}, {2: 6}, 1),
        ({1: 5, 2: 9}, {1: 5, 2: 10}, None),
    ],
)
def test_the_largest_is_chosen_if_it_has_memory_that_is_not_guaranteed(resident, guaranteed, victim):
    processes = []
    for each, pages in resident.items():
        process = Process(each, "app", None, None, None)
        process.resident = pages
        process.memory_min = guaranteed.get(each, 0)
        processes.append(ProcessView(process))
    memory = fake_view(processes=lambda: processes)
    assert KillLargest(memory).choose(Fault(1, 0, 1, True, False, None)) == victim
