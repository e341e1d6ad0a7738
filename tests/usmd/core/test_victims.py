"""Victims are counted by the policy that chose them, and by why one was wanted."""

from tests.support.made_policies import Quiet, shell_with
from tests.support.requests import Requester, make_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core.policy import Requests
from usmd.core.victims import Victims
from usmd.core.view import MemoryView

DATA = b"x" * PAGE


def filled(frames, pages, *, attach=None, **settings):
    shell = Shell(make_core(frames=frames, **settings))
    process = shell.attach(**{"evict": "lru"} | (attach or {}))
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, DATA)
    return shell, process, region


def counts(shell):
    return shell.core.state.victims.counts


def test_a_policy_with_parameters_is_counted_by_its_name_and_no_victim_makes_no_entry():
    victims = Victims()
    victims.add("hint_aware(fallback=arc)", "trim", 2)
    victims.add("hint_aware", "trim", 3)
    victims.add("lru", "trim", 0)
    assert victims.counts == {("hint_aware", "trim"): 5}


def test_victims_below_the_watermark_are_told_from_those_of_waiting_faults():
    shell, _, _ = filled(8, 7, low=2, high=4)
    assert counts(shell) == {("lru", "low_watermark"): 3}
    shell, _, _ = filled(4, 6)
    assert set(counts(shell)) == {("lru", "waiting_fault")}
    assert sum(counts(shell).values()) == shell.counters()["evictions"]


def test_victims_of_a_process_at_its_own_budget():
    shell, _, _ = filled(16, 6, attach={"memory_max": 4})
    assert counts(shell) == {("lru", "memory_max"): 2}


def test_victims_of_a_hint():
    shell, process, region = filled(8, 4)
    shell.hint(process, region, "DONTNEED", 0, 3)
    assert counts(shell) == {("hint", "dontneed"): 3}


def test_the_sweep_is_counted_where_a_policy_names_nothing():
    shell = shell_with({"quiet": Quiet})
    process = shell.attach(evict="quiet")
    region = shell.map(process, 5)
    for page in range(5):
        shell.put(process, region, page, DATA)
    assert counts(shell) == {("default", "waiting_fault"): 1}


def test_victims_that_a_conditional_policy_asks_for_and_those_that_an_evict_policy_gives_up():
    made = []
    shell = Shell(make_core(make_policy=make_with(made, Requester)))
    process = shell.attach(evict="lru", cond="requester")
    region = shell.map(process, 3)
    for page in range(3):
        shell.put(process, region, page, DATA)
    made[0].requests = Requests(trim=2)
    shell.tick(1.0)
    assert counts(shell) == {("lru", "trim"): 2}
    view = MemoryView(shell.core.state, shell.core.state.processes[process])
    view.give_up(next(pfn for page in range(3) if (pfn := view.frame(region, page)) is not None))
    shell.tick()
    assert counts(shell) == {("lru", "trim"): 2, ("lru", "given_up"): 1}
