"""Evict policies that name the wrong frames, or none: they are passed over, counted and reported."""

import itertools

import pytest

from tests.support.hostile_policies import HUGE, Unshowable, assert_reported, shell_with, work
from tests.support.made_policies import Quiet
from tests.support.shell import PAGE
from usmd.policies import registry


@pytest.mark.parametrize("pfn", ["x", None, [], 1.5, True])
def test_what_is_no_frame_cannot_be_given_up(pfn):
    class Wrong(registry.find("evict", "lru")[0]):
        def page_accessed(self, pfn_touched, write):
            self.memory.give_up(pfn)

    shell = shell_with({"evict": Wrong})
    work(shell, shell.attach(evict="hostile"))
    assert_reported(shell, "evict")
    assert "a frame is an int, not a" in next(each.message for each in shell.notices if each.kind == "policy_error")


VICTIMS = {
    "nobody": lambda self: (),
    "None": lambda self: None,
    "out of range": lambda self: [-1, 99, HUGE, -HUGE],
    "no numbers": lambda self: ["a", None, 1.5, Unshowable()],
    "every frame, twice": lambda self: [0, 1, 2, 3, 0, 1, 2, 3],
    "for ever the same": lambda self: itertools.repeat(0),
    "for ever nonsense": lambda self: itertools.repeat("x"),
    "for ever more": lambda self: itertools.count(),
    "one, then an error": lambda self: (0 if n == 0 else 1 // 0 for n in range(2)),
    "true": lambda self: [True],
}


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS)
def test_wrong_victims_are_passed_over(victims):
    shell = shell_with({"evict": type("Wrong", (Quiet,), {"choose_victims": victims})}, scan_limit=64)
    neighbour = shell.attach()
    region = shell.map(neighbour, 2)
    shell.hint(neighbour, region, "EVICTION=DENY", 0, 1)
    shell.put(neighbour, region, 0, b"d" * PAGE)
    shell.put(neighbour, region, 1, b"n" * PAGE)
    work(shell, shell.attach(evict="hostile"))
    assert shell.state_of(region, 0) == "PRESENT"
    assert shell.get(neighbour, region, 1) == b"n" * PAGE
    policies = shell.core.state.processes[neighbour].policies
    assert policies.blame.errors == {"alloc": 0, "evict": 0, "oom": 0, "cond": 0}


def test_foreign_and_unevictable_victims_are_errors_and_pinned_ones_are_not():
    class NamesAll(Quiet):
        def choose_victims(self):
            return range(self.memory.frame_count)

    shell = shell_with({"evict": NamesAll}, hold_seconds=100.0)
    other = shell.attach()
    foreign = shell.map(other, 1)
    shell.put(other, foreign, 0, b"f" * PAGE)  # frame 0
    process = shell.attach(evict="hostile")
    region = shell.map(process, 4)
    shell.hint(process, region, "EVICTION=DENY", 0, 1)
    shell.put(process, region, 0, b"d" * PAGE)  # frame 1
    shell.fault(process, region, 1)  # frame 2, pinned
    shell.put(process, region, 2, b"x" * PAGE)  # frame 3
    shell.put(process, region, 3, b"y" * PAGE)
    counters = shell.core.state.processes[process].counters
    assert (counters.policy_errors, counters.refused_victims, counters.evictions) == (2, 1, 1)
    assert [shell.state_of(region, page) for page in range(3)] == ["PRESENT", "PRESENT", "SWAPPED"]
    assert shell.state_of(foreign, 0) == "PRESENT"
    assert "not the process's" in next(each for each in shell.notices if each.kind == "policy_error").message


def test_frames_that_a_policy_forgot_in_its_list_harm_no_other_policy():
    class Forgets(registry.find("evict", "fifo")[0]):
        def page_left(self, pfn):
            raise ValueError("forgot it")

    shell = shell_with({"evict": Forgets})
    process = shell.attach(evict="hostile")
    work(shell, process)
    neighbour = shell.attach(evict="lru")
    work(shell, neighbour)
    assert shell.core.state.processes[neighbour].policies.blame.errors["evict"] == 0


def test_frames_that_a_policy_seized_harm_no_other_policy():
    class Seizes(Quiet):
        def __init__(self, memory):
            super().__init__(memory)
            self.mine = memory.new_list()
            for pfn in range(memory.frame_count):
                self.mine.append(pfn)

        def choose_victims(self):
            return self.mine

    shell = shell_with({"evict": Seizes})
    shell.attach(evict="hostile")
    neighbour = shell.attach(evict="hint_aware")
    work(shell, neighbour)
    assert shell.core.state.processes[neighbour].policies.blame.errors["evict"] == 0
