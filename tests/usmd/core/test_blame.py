"""Errors that count less with time, and the waits of policies that come back."""

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.blame import FIRST_WAIT, HALF_LIFE, LONGEST_WAIT, Blame
from usmd.core.policy import ConditionalPolicy
from usmd.core.running import PolicyHung
from usmd.core.state import CPU_CLOCK_SECONDS
from usmd.policies import registry

KINDS = {"alloc": "first_fit", "evict": "lru"}


def test_errors_count_half_after_a_while_and_all_are_counted():
    blame = Blame(KINDS)
    for number in range(1000):
        blame.count_error("evict", number * HALF_LIFE)
        assert not blame.errs_too_often("evict", 2, number * HALF_LIFE)
    assert blame.errors == {"alloc": 0, "evict": 1000}
    for _ in range(2):
        blame.count_error("evict", 999 * HALF_LIFE)
    assert blame.errs_too_often("evict", 2, 999 * HALF_LIFE)
    assert not blame.errs_too_often("evict", 2, 1001 * HALF_LIFE)
    assert not blame.errs_too_often("evict", 0, 999 * HALF_LIFE)


def test_at_once_it_is_one_error_more_than_the_limit():
    blame = Blame(KINDS)
    for count in range(1, 102):
        blame.count_error("evict", 5.0)
        assert blame.errs_too_often("evict", 100, 5.0) == (count > 100)


def test_the_wait_doubles_to_a_bound_and_begins_again_after_a_long_time_in_force():
    blame, now = Blame(KINDS), 0.0
    waits = []
    for _ in range(9):
        waits.append(blame.replaced("evict", now))
        blame.began("evict")
        assert blame.returns == {"evict": now + waits[-1]}
        now += waits[-1]
        blame.came_back("evict", now)
        assert blame.returns == {}
        now += LONGEST_WAIT - 1
    assert waits == [FIRST_WAIT * 2**number for number in range(6)] + [LONGEST_WAIT] * 3
    assert blame.replaced("evict", now + 1) == FIRST_WAIT


def test_what_stands_in_changes_no_wait_and_one_that_cannot_come_back_waits_longer():
    blame = Blame(KINDS)
    assert blame.replaced("evict", 0.0) == FIRST_WAIT
    assert blame.replaced("evict", 20.0) == FIRST_WAIT - 20
    assert blame.postponed("evict", FIRST_WAIT) == 2 * FIRST_WAIT
    assert blame.returns == {"evict": 3 * FIRST_WAIT}


def test_one_that_hung_does_not_come_back_and_one_that_an_operator_sets_has_a_new_record():
    blame = Blame(KINDS)
    blame.hung.add("evict")
    assert blame.replaced("evict", 0.0) is None
    blame.began("evict")
    assert blame.replaced("evict", 0.0) == FIRST_WAIT
    blame.want("evict", "clock")
    assert (blame.returns, blame.wanted) == ({}, {"alloc": "first_fit", "evict": "clock"})
    assert blame.replaced("evict", 0.0) == FIRST_WAIT


# In the core


class Moody(registry.find("evict", "fifo")[0]):
    """Errs as long as `bad`."""

    bad = True
    error: BaseException = ValueError("bad")

    def page_filled(self, pfn):
        super().page_filled(pfn)
        if type(self).bad:
            raise self.error


def moody_shell(policy, **settings):
    def make(kind, specification, view):
        return policy(view) if specification == "moody" else registry.make(kind, specification, view)

    return Shell(make_core(make_policy=make, frames=4, **settings))


def work(shell, process, pages=10):
    region = shell.map(process, pages)
    for page in range(pages):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    assert all(shell.get(process, region, page) == bytes([page + 1]) * PAGE for page in range(pages))
    shell.do(events.Unmap(process, region))


def told(shell, kind):
    return [each for each in shell.notices if each.kind == kind]


@pytest.mark.parametrize("default", ["lru", "moody"])
def test_a_policy_that_was_replaced_comes_back_with_the_pages_there_are(default):
    class Policy(Moody):
        pass

    shell = moody_shell(Policy, policy_errors=3, default_policies=("first_fit", default, "refuse"))
    process = shell.attach(evict="moody")
    policies = shell.core.state.processes[process].policies
    work(shell, process)
    (replaced,) = told(shell, "policy_replaced")
    assert replaced.fields["returns_in"] == "60"
    assert replaced.message.endswith("; moody comes back in 60 s")
    instead = {"lru": "lru", "moody": "none"}[default]
    assert policies.specifications["evict"] == instead
    shell.tick(FIRST_WAIT - 1)
    assert policies.specifications["evict"] == instead
    shell.tick(1)  # it errs again
    work(shell, process)
    assert policies.specifications["evict"] == instead
    assert told(shell, "policy_replaced")[1].fields["returns_in"] == "120"
    Policy.bad = False
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    shell.tick(2 * FIRST_WAIT)
    restored = told(shell, "policy_restored")
    assert [each.fields for each in restored] == [{"policy_kind": "evict", "policy": "moody", "before": instead}] * 2
    assert restored[0].message.endswith(f"evict policy moody came back in the place of {instead}")
    assert policies.specifications["evict"] == "moody"
    assert len(list(policies.candidates(9))) == 4
    work(shell, process)
    assert (policies.blame.errors["evict"], len(told(shell, "policy_replaced"))) == (0, 2)
    assert shell.core.state.policy_returns == float("inf")


def test_an_operators_choice_is_not_undone():
    shell = moody_shell(Moody, policy_errors=3, default_policies=("first_fit", "lru", "refuse"))
    process = shell.attach(evict="moody")
    work(shell, process)
    shell.do(events.SetPolicy(process, "evict", "clock"))
    shell.tick(2 * LONGEST_WAIT)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "clock"
    assert told(shell, "policy_restored") == []


def test_one_that_hung_stays_away():
    class Hangs(Moody):
        error = PolicyHung("it did not return")

    shell = moody_shell(Hangs, default_policies=("first_fit", "lru", "refuse"))
    process = shell.attach(evict="moody")
    work(shell, process)
    (replaced,) = told(shell, "policy_replaced")
    assert "returns_in" not in replaced.fields
    shell.tick(10 * LONGEST_WAIT)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "lru"


def test_one_that_cannot_be_made_any_more_is_tried_again():
    made = []

    def policy(view):
        made.append(view)
        if len(made) == 2:
            raise OSError("its file is gone for a moment")
        return Moody(view)

    shell = moody_shell(policy, policy_errors=3, default_policies=("first_fit", "lru", "refuse"))
    process = shell.attach(evict="moody")
    work(shell, process)
    shell.tick(FIRST_WAIT)
    assert (
        "moody cannot come back: evict policy moody: its constructor raised OSError"
        in told(shell, "policy_error")[-1].message
    )
    assert told(shell, "policy_restored") == []
    shell.tick(2 * FIRST_WAIT)
    assert len(told(shell, "policy_restored")) == 1


def test_a_conditional_policy_comes_back_and_hears_what_is_in_swap():
    heard = []

    class Turns(ConditionalPolicy):
        def page_swapped(self, page, device):
            heard.append(page)

        def turn(self):
            if not heard or len(heard) < 8:
                raise ValueError("bad")

    shell = moody_shell(Turns, policy_errors=3)
    process = shell.attach(cond="moody")
    region = shell.map(process, 8)
    for page in range(8):
        shell.put(process, region, page, b"x" * PAGE)
    for _ in range(5):
        shell.tick(0.2)
    assert shell.core.state.processes[process].policies.specifications["cond"] == "none"
    shell.evict(process, region)
    heard.clear()
    shell.tick(FIRST_WAIT)
    shell.tick(0.2)
    assert shell.core.state.processes[process].policies.specifications["cond"] == "moody"
    assert len(heard) == 8


# Slowness


class Clocks:
    """A wall clock and a CPU clock; `pass_(wall, cpu)` lets time go by."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def pass_(self, wall, cpu):
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def clocks():
    return Clocks()


def slow_shell(clocks, cpu, **settings):
    """A shell whose evict policy takes 0.2 s, of which `cpu` of CPU time, for each choice of victims."""

    class Slow(Moody):
        bad = False

        def choose_victims(self):
            clocks.pass_(0.2, cpu())
            yield from super().choose_victims()

    def make(kind, specification, view):
        return Slow(view) if specification == "slow" else registry.make(kind, specification, view)

    core = make_core(
        make_policy=make, frames=4, stopwatch=lambda: clocks.wall, cpu_clock=lambda: clocks.cpu, **settings
    )
    shell = Shell(core)
    return shell, shell.attach(evict="slow")


def test_a_policy_that_waits_for_a_cpu_is_not_slow(clocks):
    shell, process = slow_shell(clocks, lambda: 0.001)
    for _ in range(20):
        work(shell, process)
        shell.tick(CPU_CLOCK_SECONDS)
    assert told(shell, "policy_slow") == []
    assert shell.counters()["policy_slow_calls"] == 0


def test_one_that_computes_long_is_and_that_is_no_error_and_nothing_replaces_it(clocks):
    shell, process = slow_shell(clocks, lambda: 0.1, policy_errors=3)
    work(shell, process, pages=60)
    counters = shell.counters()
    assert counters["policy_slow_calls"] > 10
    assert counters["policy_errors"] == 0
    policies = shell.core.state.processes[process].policies
    assert policies.blame.slow["evict"] == counters["policy_slow_calls"]
    assert (policies.blame.errors["evict"], policies.specifications["evict"]) == (0, "slow")
    slow = told(shell, "policy_slow")
    assert [each.fields["count"] for each in slow[:3]] == ["1", "2", "4"]
    assert "evict policy slow: a call took 100 ms (1 so far)" in slow[0].message


def test_calls_are_timed_cheaply_again_when_none_was_long_for_a_while(clocks):
    shell, process = slow_shell(clocks, lambda: 0.1)
    state = shell.core.state
    cheap = state.stopwatch
    work(shell, process, pages=5)
    assert state.stopwatch is not cheap
    shell.tick(CPU_CLOCK_SECONDS - 1)
    assert state.stopwatch is not cheap
    shell.tick(1)
    assert state.stopwatch is cheap
