"""Policies that raise, answer nonsense or take their time: no byte is lost, nobody waits for ever, the mistake is
counted and reported, and the default answers.

Hooks that hang are in test_hung_policies.py, wrong victims in test_hostile_victims.py.
"""

from asyncio import CancelledError

import pytest

from tests.support.hostile_policies import HOOKS, HUGE, Unshowable, assert_reported, shell_with, work
from tests.support.shell import PAGE
from usmd.core import commands, events
from usmd.core.policy import USM_YIELD, Allocation, AllocPolicy, OomPolicy
from usmd.core.running import PolicyHung
from usmd.errors import EndsRun, InvalidArgument
from usmd.policies import registry


class Boom(Exception):
    """An error that cannot be printed either."""

    def __repr__(self):
        raise RuntimeError("no")


class Odd(int):
    """A number that breaks who compares it."""

    def __eq__(self, other):
        raise RuntimeError("no")

    __le__ = __lt__ = __ge__ = __gt__ = __eq__
    __hash__ = int.__hash__


class OddPlan(Allocation):
    """A plan that breaks who looks at it."""

    count = property(lambda self: 1 // 0)


def name_of(error):
    return type(error).__name__


ANSWERS = {
    "None": lambda fault: None,
    "text": lambda fault: "four pages, please",
    "unshowable": lambda fault: Unshowable(),
    "yield of nothing": lambda fault: USM_YIELD,
    "negative first": lambda fault: Allocation(-5, 2),
    "not the page": lambda fault: Allocation(fault.page + 1, 3),
    "no pages": lambda fault: Allocation(fault.page, 0),
    "negative count": lambda fault: Allocation(fault.page, -3),
    "text for a count": lambda fault: Allocation(fault.page, "3"),
    "a truth for a count": lambda fault: Allocation(fault.page, True),
    "a fraction for a count": lambda fault: Allocation(fault.page, 1.0),
    "text for a frame": lambda fault: Allocation(fault.page, 1, "first"),
    "far away": lambda fault: Allocation(HUGE, HUGE),
    "a truth for a page": lambda fault: Allocation(fault.page == 1 or fault.page),
    "a page that cannot be compared": lambda fault: Allocation(Odd(fault.page)),
    "no stride": lambda fault: Allocation(fault.page, 3, None, 0),
    "a stride that cannot be compared": lambda fault: Allocation(fault.page, 1, None, Odd(1)),
    "a truth for a stride": lambda fault: Allocation(fault.page, 3, None, True),
    "negative stride": lambda fault: Allocation(fault.page, 3, None, -1),
    "a stride that leaves the page out": lambda fault: Allocation(fault.page - 1, 3, None, 2),
    "a plan of its own": lambda fault: OddPlan(fault.page),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_nonsense_of_an_alloc_policy_is_one_page(answer):
    class Nonsense(AllocPolicy):
        def allocate(self, fault, async_rq):
            return answer(fault)

    shell = shell_with({"alloc": Nonsense})
    work(shell, shell.attach(alloc="hostile"))
    assert_reported(shell, "alloc")
    assert shell.counters()["read_ahead"] == 0


@pytest.mark.parametrize(
    "plan",
    [
        lambda fault: Allocation(0, HUGE),
        lambda fault: Allocation(-HUGE, 2 * HUGE),
        lambda fault: Allocation(fault.page, 1, HUGE),
        lambda fault: Allocation(fault.page, 1, -1),
        lambda fault: Allocation(fault.page, 3, 0),
        lambda fault: Allocation(fault.page, HUGE, None, HUGE),
        lambda fault: Allocation(fault.page - 2 * HUGE, 2 * HUGE, None, 2),
        lambda fault: Allocation(fault.page, 1, None, HUGE),
    ],
)
def test_too_much_of_an_alloc_policy_is_cut_to_what_there_is(plan):
    class Greedy(AllocPolicy):
        def allocate(self, fault, async_rq):
            return plan(fault)

    shell = shell_with({"alloc": Greedy})
    work(shell, shell.attach(alloc="hostile"))
    assert shell.counters()["policy_errors"] == 0


def raiser(error):
    def hook(*args, **kwargs):
        raise error.with_traceback(None)

    return hook


class Own(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"), Boom(), RecursionError(), InvalidArgument("mine"), StopIteration(), SystemExit(0),
        GeneratorExit(), CancelledError(), Own(), KeyboardInterrupt(),
    ],
    ids=name_of,
)  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        ("alloc", "allocate"),
        *[("evict", hook) for hook in HOOKS],
    ],
)
def test_a_hook_that_raises_is_survived(kind, hook, error):
    base = {"alloc": registry.find("alloc", "first_fit")[0], "evict": registry.find("evict", "fifo")[0]}[kind]
    broken = type("Broken", (base,), {hook: raiser(error)})
    shell = shell_with({kind: broken}, interruptible=False)
    work(shell, shell.attach(**{kind: "hostile"}))
    assert_reported(shell, kind)


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), CancelledError(), Own(), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["in the middle", "at the end", "when it is closed"])
def test_a_generator_of_victims_that_raises_is_survived(at, error):
    class Broken(registry.find("evict", "fifo")[0]):
        def choose_victims(self):
            try:
                for pfn in super().choose_victims():
                    yield pfn
                    if at == "in the middle":
                        raise error.with_traceback(None)
                if at == "at the end":
                    raise error.with_traceback(None)
            finally:
                if at == "when it is closed":
                    raise error.with_traceback(None)

    shell = shell_with({"evict": Broken}, interruptible=False, frames=6)
    process = shell.attach(evict="hostile")
    work(shell, process)
    list(shell.core.state.processes[process].policies.candidates(100))
    # To be closed by GeneratorExit is no error.
    assert shell.counters()["policy_errors"] > 0 or (at, type(error)) == ("when it is closed", GeneratorExit)
    shell.do(events.SetPolicy(process, "evict", "arc"))
    work(shell, process)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EndsRun()])
@pytest.mark.parametrize(("kind", "hook"), [("alloc", "allocate"), *[("evict", hook) for hook in HOOKS]])
def test_who_runs_the_core_may_end_it_within_a_policy(kind, hook, error):
    base = {"alloc": registry.find("alloc", "first_fit")[0], "evict": registry.find("evict", "lru")[0]}[kind]
    shell = shell_with({kind: type("Long", (base,), {hook: raiser(error)})})
    with pytest.raises(type(error)):
        work(shell, shell.attach(**{kind: "hostile"}))
    assert shell.counters()["policy_errors"] == 0


@pytest.mark.parametrize("name", ["page_filled", "page_evicted", "page_left", "page_accessed", "page_missed"])
def test_a_hook_that_cannot_even_be_got_is_survived(name):
    def broken(self):
        raise ValueError("no")

    shell = shell_with({"evict": type("Broken", (registry.find("evict", "lru")[0],), {name: property(broken)})})
    work(shell, shell.attach(evict="hostile"))
    assert_reported(shell, "evict")
    process = shell.attach(evict="fifo")
    work(shell, process)
    shell.do(events.SetPolicy(process, "evict", "hostile"))
    work(shell, process)


class Stopped(EndsRun):
    """What a program raises that runs the core may be of a class of its own."""


@pytest.mark.parametrize("hook", ["page_filled", "choose_victims", "page_missed"])
def test_what_ends_a_run_is_no_error_of_the_policy(hook):
    def stops(self, *arguments):
        raise Stopped

    lru = registry.find("evict", "lru")[0]
    shell = shell_with({"evict": type("Stops", (lru,), {hook: stops})})
    process = shell.attach(evict="hostile")
    with pytest.raises(Stopped):
        work(shell, process)
    assert shell.core.state.processes[process].policies.blame.errors["evict"] == 0


def test_hint_changed_that_raises_is_survived():
    broken = type("Broken", (registry.find("evict", "fifo")[0],), {"hint_changed": raiser(ValueError("bad"))})
    shell = shell_with({"evict": broken})
    process = shell.attach(evict="hostile")
    region = shell.map(process, 2)
    shell.put(process, region, 0, b"x" * PAGE)
    assert shell.hint(process, region, "PRIORITY=LOW").hint_id == 1
    assert_reported(shell, "evict")


def test_errors_are_reported_at_powers_of_two_only():
    shell = shell_with({"alloc": type("Broken", (AllocPolicy,), {"allocate": raiser(ValueError("bad"))})}, frames=16)
    process = shell.attach(alloc="hostile")
    region = shell.map(process, 9)
    for page in range(9):
        shell.fault(process, region, page)
    told = [each.fields["count"] for each in shell.notices if each.kind == "policy_error"]
    assert told == ["1", "2", "4", "8"]
    assert shell.counters()["policy_errors"] == 9


@pytest.mark.parametrize("device", [99, -1, HUGE, "fast", Unshowable()], ids=["99", "-1", "huge", "text", "unshowable"])
def test_a_device_that_does_not_exist_is_ignored(device):
    broken = type("Broken", (registry.find("evict", "fifo")[0],), {"swap_device": lambda self, pfn: device})
    shell = shell_with({"evict": broken})
    work(shell, shell.attach(evict="hostile"))
    assert_reported(shell, "evict")


@pytest.mark.parametrize("kind", ["alloc", "evict", "oom"])
@pytest.mark.parametrize(
    "made",
    [
        raiser(ValueError("no")),
        raiser(Boom()),
        raiser(PolicyHung("no")),
        lambda memory: None,
        lambda memory: Unshowable(),
    ],
)
def test_a_constructor_that_fails_leaves_the_default_policy(kind, made):
    shell = shell_with({kind: made})
    work(shell, shell.attach(**{kind: "hostile"}))
    assert_reported(shell, kind)


@pytest.mark.parametrize(
    "answer", [0, 99, -1, HUGE, "app", Unshowable()], ids=["0", "99", "-1", "huge", "text", "unshowable"]
)
def test_an_oom_victim_that_does_not_exist_is_a_refusal(answer):
    shell = shell_with({"oom": type("Wrong", (OomPolicy,), {"choose": lambda self, fault: answer})}, devices=())
    process = shell.attach(oom="hostile")
    region = shell.map(process, 5)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    assert shell.fault(process, region, 4)[-1].error.reason == "OUT_OF_MEMORY"
    assert_reported(shell, "oom")


@pytest.mark.parametrize(
    "patience",
    [
        *(lambda _self, _fault, answer=answer: answer for answer in (-1, HUGE, float("nan"), True, None, Unshowable())),
        raiser(Boom()),
    ],
)  # fmt: skip
def test_patience_that_is_none_is_a_refusal_at_once(patience):
    policy = type("Wrong", (OomPolicy,), {"choose": lambda _self, _fault: None, "patience": patience})
    shell = shell_with({"oom": policy}, devices=(), frames=1)
    process = shell.attach(oom="hostile")
    region = shell.map(process, 2)
    shell.put(process, region, 0, b"x" * PAGE)
    assert shell.fault(process, region, 1)[-1].error.reason == "OUT_OF_MEMORY"
    assert shell.core.frozen == {}
    assert_reported(shell, "oom")


def test_an_oom_policy_that_raises_or_kills_the_empty_is_a_refusal():
    class KillsTheEmpty(OomPolicy):
        def choose(self, fault):
            return 2

    for policy in (KillsTheEmpty, type("Broken", (OomPolicy,), {"choose": raiser(Boom())})):
        shell = shell_with({"oom": policy}, devices=(), frames=1)
        process, empty = shell.attach(oom="hostile"), shell.attach()
        region = shell.map(process, 2)
        shell.put(process, region, 0, b"x" * PAGE)
        assert isinstance(shell.fault(process, region, 1)[-1], commands.Failed)
        assert empty not in shell.ended
        assert_reported(shell, "oom")


@pytest.mark.parametrize(
    ("kind", "name", "hook"),
    [("alloc", "first_fit", "allocate"), ("evict", "fifo", "choose_victims"), ("oom", "refuse", "choose")],
)
def test_a_slow_call_is_reported_and_its_answer_used(kind, name, hook):
    clock = [0.0]
    base = registry.find(kind, name)[0]

    def slow(self, *args):
        clock[0] += 0.2
        return getattr(base, hook)(self, *args)

    shell = shell_with(
        {kind: type("Slow", (base,), {hook: slow})}, frames=1, devices=(("tiny", 1),), stopwatch=lambda: clock[0]
    )
    process = shell.attach(**{kind: "hostile"})
    region = shell.map(process, 3)
    shell.put(process, region, 0, b"x" * PAGE)
    shell.put(process, region, 1, b"y" * PAGE)
    assert isinstance(shell.fault(process, region, 2)[-1], commands.Failed)
    assert_reported(shell, kind, notice="policy_slow", counter="policy_slow_calls")
    assert shell.counters()["policy_errors"] == 0
    assert "200 ms" in next(each.message for each in shell.notices if each.kind == "policy_slow")
