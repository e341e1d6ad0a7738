"""The fence around an evict policy: what it hears, and what it may name."""

import pytest

from tests.support.fake_view import fake_view
from tests.support.made_policies import Quiet, shell_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.policies import registry


def test_only_a_policy_that_listens_hears_of_accesses():
    shell = Shell(make_core())
    listening, deaf = (shell.core.state.processes[shell.attach(evict=name)].policies for name in ("lru", "fifo"))
    assert listening.on_access is not None
    assert deaf.on_access is None


def test_candidates_are_at_most_the_limit():
    shell = Shell(make_core())
    process = shell.attach()
    region = shell.map(process, 5)
    for page in range(5):
        shell.put(process, region, page, b"x" * PAGE)
    policies = shell.core.state.processes[process].policies
    assert list(policies.candidates(3)) == [0, 1, 2]


def test_a_long_reason_is_cut():
    class Talks(registry.find("evict", "fifo")[0]):
        def reason(self, pfn):
            return "because " * 100

    shell = shell_with({"talks": Talks})
    policies = shell.core.state.processes[shell.attach(evict="talks")].policies
    assert len(policies.reason(0)) == 201


def test_a_reason_that_is_no_text_is_shown_or_an_error():
    class Talks(registry.find("evict", "fifo")[0]):
        def reason(self, pfn):
            return [pfn]

    shell = shell_with({"talks": Talks})
    policies = shell.core.state.processes[shell.attach(evict="talks")].policies
    assert (policies.reason(7), policies.blame.errors["evict"]) == ("[7]", 0)


def test_the_generator_of_a_policy_is_closed_when_there_are_enough_victims():
    heard = []

    class Tells(registry.find("evict", "fifo")[0]):
        def choose_victims(self):
            try:
                for pfn in self.queue:
                    heard.append(pfn)
                    yield pfn
                    heard.append(f"{pfn} has gone" if pfn not in self.queue else f"{pfn} stays")
            finally:
                heard.append("closed")

    shell = shell_with({"tells": Tells}, hold_budget=2, hold_seconds=100.0)
    process = shell.attach(evict="tells")
    region = shell.map(process, 9)
    shell.fault(process, region, 0)  # held until it is touched
    for page in range(1, 4):
        shell.put(process, region, page, b"x" * PAGE)
    heard.clear()
    shell.fault(process, region, 4)
    assert heard == [0, "0 stays", 1, "closed"]
    policies = shell.core.state.processes[process].policies
    heard.clear()
    assert policies.first_victim() == 0
    assert heard[-1] == "closed"


@pytest.mark.parametrize("answer", [[], ["x"], [None], [True], [1.0], None, 5])
def test_a_first_victim_that_is_no_number_is_none(answer):
    class Odd(Quiet):
        def choose_victims(self):
            return answer

    shell = shell_with({"odd": Odd})
    policies = shell.core.state.processes[shell.attach(evict="odd")].policies
    assert policies.first_victim() == -1
    assert policies.blame.errors["evict"] == (0 if isinstance(answer, list) else 1)


def test_a_reason_is_text_whatever_it_was():
    class Says(Quiet):
        def reason(self, pfn):
            return None

    shell = shell_with({"says": Says})
    policies = shell.core.state.processes[shell.attach(evict="says")].policies
    assert policies.reason(0) == "None"
    assert Quiet(fake_view()).reason(3) == "chosen by the policy"
    assert Quiet(fake_view()).swap_device(3) is None


def filled_run(made, count=4):
    """A process with policy `made` whose fault brings in a run of pages, and the policy."""
    shell = shell_with({"made": made})
    process = shell.attach(alloc=f"flexible_huge_pages(pages={count})", evict="made")
    shell.fault(process, shell.map(process, count), 0)
    return shell, shell.core.state.processes[process].policies._evict


def test_a_run_of_pages_is_told_at_once_to_a_policy_that_hears_runs():
    class Listens(registry.find("evict", "lru")[0]):
        def pages_filled(self, frames):
            self.runs = [*getattr(self, "runs", []), frames]
            super().pages_filled(frames)

    shell, policy = filled_run(Listens)
    assert policy.runs == [range(4)]
    assert list(policy.recency) == list(range(4))
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("base", ["lru", "fifo", "hint_aware", "hint_aware(fallback=clock)", "clock"])
def test_a_run_is_what_its_pages_are_one_by_one(base):
    shell = Shell(make_core())
    process = shell.attach(alloc="flexible_huge_pages(pages=4)", evict=base)
    region = shell.map(process, 4)
    shell.hint(process, region, "PRIORITY=LOW")
    shell.fault(process, region, 3)
    policies = shell.core.state.processes[process].policies
    assert list(policies.candidates(10)) == list(range(4))
    assert shell.counters()["policy_errors"] == 0


def test_a_subclass_with_its_own_page_filled_hears_of_each_page():
    class Own(registry.find("evict", "fifo")[0]):
        def page_filled(self, pfn):
            self.heard = [*getattr(self, "heard", []), pfn]
            super().page_filled(pfn)

    assert filled_run(Own)[1].heard == list(range(4))
    assert not Own.hears_runs.__get__(filled_run(Own)[1])


def test_a_policy_that_cannot_take_a_run_hears_of_each_page_and_that_is_an_error():
    class Raises(registry.find("evict", "fifo")[0]):
        def pages_filled(self, frames):
            raise RuntimeError("no runs")

    shell, policy = filled_run(Raises)
    assert list(policy.queue) == list(range(4))
    assert shell.counters()["policy_errors"] == 1


def test_frames_that_a_policy_has_forgotten_in_a_list_are_taken_out_before_a_run_comes_in():
    class Forgets(registry.find("evict", "fifo")[0]):
        def page_left(self, pfn):
            if pfn != 2:
                super().page_left(pfn)

    shell = shell_with({"made": Forgets})
    process = shell.attach(alloc="flexible_huge_pages(pages=4)", evict="made")
    region = shell.map(process, 4)
    shell.fault(process, region, 0)
    shell.evict(process, region)
    shell.fault(process, region, 0)
    assert list(shell.core.state.processes[process].policies._evict.queue) == list(range(4))
    assert shell.counters()["policy_errors"] == 0


def test_the_base_class_tells_each_page():
    class Plain(registry.find("evict", "clock")[0]):
        pass

    policy = filled_run(Plain)[1]
    assert not policy.hears_runs
    assert len(list(policy.choose_victims())) >= 1
