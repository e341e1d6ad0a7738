"""Looks, made by the policies themselves; the timer's own are in tests/e2e/test_hung_policies.py."""

import signal
import sys

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core.policy import EvictPolicy
from usmd.core.running import Call, PolicyHung, Running
from usmd.policies import registry
from usmd.server import shadow_simulation
from usmd.server.cpu_clock import Spent
from usmd.server.policy_watch import LOOK_SECONDS, WAITS, PolicyWatch

LOOKS = 8
SECONDS = LOOKS * LOOK_SECONDS


class Thread:
    """Where a thread's time goes between two looks: `share` of them to computing, to waiting for a CPU."""

    def __init__(self, passes=LOOK_SECONDS, runs=LOOK_SECONDS, waits=0.0):
        self.passes, self.runs, self.waits = passes, runs, waits
        self.spent = Spent(0.0, 0.0, 0.0)

    def __call__(self):
        passed, ran, waited = self.spent
        self.spent = Spent(passed + self.passes, ran + self.runs, waited + self.waits)
        return self.spent


class Looks(EvictPolicy):
    """Looks in its calls, as often as it is told to; in no test for ever."""

    running: Running
    watch: PolicyWatch
    often = 1

    def look(self):
        for _ in range(self.often):
            self.watch.look(signal.SIGALRM, sys._getframe())

    def page_filled(self, pfn):
        self.look()

    def page_left(self, pfn):
        pass

    def choose_victims(self):
        self.look()
        yield from range(4)


def run(policy, touches=(1, 2, 3, 4, 5, 6)):
    """A core of 4 frames with that policy; returns the notices."""

    def make(kind, name, view):
        return policy(view) if name == "watched" else registry.make(kind, name, view)

    shell = Shell(make_core(frames=4, make_policy=make, running=policy.running))
    process = shell.attach(evict="watched")
    region = shell.map(process, 100)
    for page in touches:
        shell.fault(process, region, page, write=True)
        assert shell.store(process, region, page, b"x" * PAGE)
    assert policy.running.call is None
    return [each for each in shell.notices if each.kind.startswith("policy")]


def code_of(module, policy):
    """A function of a module, in which the watch looks."""
    code = {"__name__": module, "look": policy.watch.look, "getframe": sys._getframe}
    exec("def run(): look(14, getframe())", code)
    return code["run"]


@pytest.fixture
def policy():
    class Policy(Looks):
        running = Running()
        watch = PolicyWatch(SECONDS, running, Thread())

    return Policy


def test_a_call_that_is_seen_too_often_is_ended_where_it_is(policy):
    policy.often = 1000
    error, replaced = run(policy)
    assert error.message.startswith(
        "evict policy watched: page_filled raised PolicyHung('it did not return for 2 s of CPU time, at "
    )
    assert f"{__file__}:" in error.message
    assert "policy watched did not return from a call; hint_aware took its place" in replaced.message


HOUR = 3600.0


@pytest.mark.parametrize(
    ("thread", "looks", "hangs"),
    [
        (Thread(), LOOKS, False),
        (Thread(), LOOKS + 1, True),
        (Thread(passes=10 * LOOK_SECONDS, waits=9 * LOOK_SECONDS), LOOKS, False),  # a tenth of a CPU
        (Thread(passes=10 * LOOK_SECONDS, waits=9 * LOOK_SECONDS), LOOKS + 1, True),
        (Thread(passes=HOUR, runs=0.0, waits=HOUR), 1000, False),  # no CPU at all
        (Thread(passes=HOUR, runs=0.0), 2 * WAITS, False),  # stopped for an hour between two looks
        (Thread(runs=0.0), WAITS * LOOKS, False),  # asleep
        (Thread(runs=0.0), WAITS * LOOKS + 1, True),
        (Thread(runs=LOOK_SECONDS / 2), 2 * LOOKS, False),  # half of the time asleep
        (Thread(runs=LOOK_SECONDS / 2), 2 * LOOKS + 1, True),
    ],
)
def test_blame_is_for_computing_and_for_long_sleep_and_not_for_a_machine_that_is_busy_or_stopped(
    policy, thread, looks, hangs
):
    policy.watch = PolicyWatch(SECONDS, policy.running, thread)
    policy.often = looks + 1  # the first one sees the call
    told = run(policy, [1])
    assert bool(told) == hangs, told
    if hangs:
        why = "2 s of CPU time" if thread.runs else f"{WAITS * 2} s, in which it slept or waited"
        assert f"PolicyHung('it did not return for {why}, at " in told[0].message


def test_a_signal_from_elsewhere_ends_no_call_where_no_call_is_to_be_ended(policy):
    policy.watch = PolicyWatch(0, policy.running, Thread(passes=HOUR, runs=HOUR))
    policy.often = 1000
    assert run(policy) == []


def test_a_call_that_ends_in_time_is_none_that_hangs(policy):
    policy.often = LOOKS
    assert run(policy) == []


def test_calls_one_after_the_other_are_not_one(policy):
    policy.often = 1
    assert run(policy, range(50)) == []


def test_it_is_raised_again_when_it_was_caught(policy):
    class Catches(policy):
        raised = 0

        def look(self):
            for _ in range(LOOKS + 1):
                super().look()
            for _ in range(3):
                try:
                    super().look()
                except PolicyHung:
                    type(self).raised += 1

    assert run(Catches, [1]) == []
    assert Catches.raised == 3


def test_what_a_policy_is_in_when_it_loads_a_module_takes_as_long_as_it_takes(policy, tmp_path, monkeypatch):
    (tmp_path / "slow_module.py").write_text(
        "import sys\n"
        "from tests.usmd.server import test_policy_watch as tests\n"
        "for _ in range(100):\n"
        "    tests.Looks.watch.look(14, sys._getframe())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Looks, "watch", policy.watch, raising=False)

    class Imports(policy):
        def look(self):
            import slow_module  # noqa: F401

    assert run(Imports, [1]) == []
    assert sys.modules.pop("slow_module")


def test_code_of_the_core_is_never_ended_halfway(policy, monkeypatch):
    timers = []
    monkeypatch.setattr(signal, "setitimer", lambda *timer: timers.append(timer))

    looks = code_of("usmd.core.frame_list", policy)

    class InCore(policy):
        def look(self):
            for _ in range(LOOKS + 2):
                looks()
            assert timers
            super().look()

    error, _ = run(InCore, [1])
    assert "PolicyHung" in error.message
    assert {kind for kind, *_ in timers} == {signal.ITIMER_REAL}


@pytest.mark.parametrize(
    ("module", "ended"),
    [("usmd.safe_repr", False), ("usmd.server.event_log", False), ("usmd.policies.evict.lru", True), ("mine", True)],
)
def test_only_code_of_policies_is_ended(policy, monkeypatch, module, ended):
    """The mark of a call that has ended may still be there while the core goes on with the event."""
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    looks = code_of(module, policy)
    policy.running.call = Call(1, "evict")
    for _ in range(LOOKS + 1):
        looks()
    if ended:
        with pytest.raises(PolicyHung):
            looks()
    else:
        looks()


def test_a_generator_that_is_asked_many_times_does_not_hang(policy):
    class Names(policy):
        asked = 0

        def look(self):
            pass

        def choose_victims(self):
            for number in range(5 * LOOKS):
                self.watch.look(signal.SIGALRM, sys._getframe())
                type(self).asked += 1
                yield number % 4

    with_holes = iter(range(1, 50))
    assert run(Names, with_holes) == []
    assert Names.asked > 0


def test_it_does_not_look_while_it_looks(policy, monkeypatch):
    inner = []

    looks = code_of("usmd.core.frame_list", policy)

    def at_once(*timer):
        policy.watch.look(signal.SIGALRM, sys._getframe().f_back)
        inner.append(timer)

    class InCore(policy):
        def look(self):
            for _ in range(LOOKS + 5):
                looks()

    monkeypatch.setattr(signal, "setitimer", at_once)
    assert run(InCore, [1]) == []
    assert inner


def test_a_module_that_takes_long_to_load_is_waited_for(policy, monkeypatch, tmp_path):
    path = tmp_path / "slow.py"
    path.write_text(
        "import sys\n"
        "from tests.usmd.server import test_policy_watch as tests\n"
        "for _ in range(100):\n"
        "    tests.Looks.watch.look(14, sys._getframe())\n"
        "from usmd.policies.evict.fifo import Fifo as Slow\n"
    )
    path.chmod(0o644)
    monkeypatch.setattr(Looks, "watch", policy.watch, raising=False)
    assert registry.find("evict", f"{path}:Slow")


def test_in_a_simulation_it_is_an_error_of_its_own(policy, monkeypatch):
    policy.often = 1000
    make = registry.make
    monkeypatch.setattr(
        "usmd.lab.simulation.registry.make",
        lambda kind, name, view: policy(view) if kind == "evict" else make(kind, name, view),
    )
    one = shadow_simulation.ShadowSimulation(
        "watched", frames=4, pages=100, page_size=4096, deny_budget=1, running=policy.running
    )
    one.touch([1, 2], b"", 2, 0.0)
    assert one.stopped
    assert "a call of its policy hung: it did not return for 2 s of CPU time, at " in one.problem
    assert f"{__file__}:" in one.problem


def test_outside_of_policies_nothing_is_ended():
    watch = PolicyWatch(SECONDS, Running(), Thread())
    for _ in range(100):
        watch.look(signal.SIGALRM, sys._getframe())
        watch.look(signal.SIGALRM, None)


def test_a_call_is_known_by_its_mark_alone_without_a_frame_of_the_policy():
    running = Running()
    watch = PolicyWatch(SECONDS, running, Thread())
    mark = Call(7, "alloc")
    for _ in range(5 * LOOKS):  # one call after the other, with the same mark
        running.call = mark
        watch.look(signal.SIGALRM, sys._getframe())
    for _ in range(LOOKS):
        watch.look(signal.SIGALRM, sys._getframe())
        assert running.call == mark
    with pytest.raises(PolicyHung, match="did not return for 2 s of CPU time"):
        watch.look(signal.SIGALRM, sys._getframe())
    running.call = None
    watch.look(signal.SIGALRM, sys._getframe())
