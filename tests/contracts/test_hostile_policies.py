"""Policies that raise, answer nonsense, name the wrong frames or take their time: no byte is lost, nobody waits for
ever, the mistake is counted and reported, and the default answers.
"""

import itertools
from asyncio import CancelledError

import pytest

from tests.support.shell import PAGE, Shell, make_core
from usmd.core import commands, events
from usmd.core.fence import EndsRun
from usmd.core.frames import PRESENT
from usmd.core.policy import USM_YIELD, Allocation, AllocPolicy, EvictPolicy, OomPolicy
from usmd.core.running import PolicyHung
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.policies import registry

PAGES = 12
HOOKS = (
    "page_filled", "page_left", "page_evicted", "page_missed", "choose_victims", "page_accessed", "reason",
    "swap_device",
)  # fmt: skip


class Unshowable:
    """An object that cannot even be printed."""

    def __repr__(self):
        raise RuntimeError("no")


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


HUGE = 10**5000
"""An int that Python refuses to print."""


class Quiet(EvictPolicy):
    """Knows nothing and names nobody."""

    def page_filled(self, pfn):
        """Nothing."""

    def page_left(self, pfn):
        """Nothing."""

    def choose_victims(self):
        return ()


def shell_with(policies, **settings):
    """A shell whose specification `hostile` is one of `policies`, by kind."""

    def make(kind, specification, memory):
        if specification == "hostile":
            return policies[kind](memory)
        return registry.make(kind, specification, memory)

    return Shell(make_core(make_policy=make, **{"frames": 4, "hold_budget": 2, **settings}))


def name_of(error):
    return type(error).__name__


def work(shell, process):
    """Three times more pages than frames, all of them right."""
    region = shell.map(process, PAGES)
    for page in range(PAGES):
        shell.put(process, region, page, bytes([page + 1]) * PAGE)
    for page in range(PAGES):
        for _ in range(2):  # the second is a touch of a page that is there
            assert shell.get(process, region, page) == bytes([page + 1]) * PAGE


def assert_reported(shell, kind, *, notice="policy_error", counter="policy_errors"):
    assert shell.counters()[counter] > 0
    told = [each for each in shell.notices if each.kind == notice]
    assert told
    assert all(each.fields["policy_kind"] == kind for each in told)
    assert all(len(each.message) < 500 for each in told)


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


@pytest.mark.parametrize("max_errors", [0, 100])
@pytest.mark.parametrize(("kind", "hook"), [("alloc", "allocate"), *[("evict", hook) for hook in HOOKS]])
def test_a_hook_that_hangs_is_called_no_more_and_the_default_takes_the_place(kind, hook, max_errors):
    called = []

    def hangs(self, *args):
        called.append(hook)
        raise PolicyHung("it did not return")

    base = {"alloc": registry.find("alloc", "first_fit")[0], "evict": registry.find("evict", "lru")[0]}[kind]
    shell = shell_with({kind: type("Hung", (base,), {hook: hangs})}, policy_errors=max_errors)
    process = shell.attach(**{kind: "hostile"})
    work(shell, process)
    assert_reported(shell, kind)
    assert called == [hook]
    (told,) = [each for each in shell.notices if each.kind == "policy_replaced"]
    assert f"{kind} policy hostile did not return from a call; {told.fields['replaced_by']} took" in told.message
    in_force = shell.core.state.processes[process].policies.specifications[kind]
    assert in_force == told.fields["replaced_by"] != "hostile"


def test_one_that_hangs_while_pages_are_handed_over_to_it_makes_room_and_knows_of_none():
    class Hung(Quiet):
        def page_filled(self, pfn):
            raise PolicyHung("it did not return")

    shell = shell_with({"evict": Hung}, frames=8)
    process = shell.attach(evict="fifo")
    work(shell, process)
    shell.do(events.SetPolicy(process, "evict", "hostile"))
    work(shell, process)
    policies = shell.core.state.processes[process].policies
    assert policies.specifications["evict"] == "hint_aware"
    resident = {pfn for pfn in range(8) if shell.core.state.frames.state[pfn] == PRESENT}
    assert set(policies.candidates(8)) == resident
    assert len(resident) == 8


def test_the_others_of_a_process_that_is_refused_or_gone_are_not_replaced():
    class Hung(AllocPolicy):
        def __init__(self, memory):
            raise PolicyHung("it did not return")

        def allocate(self, fault, async_rq):
            """Never made."""

    class HungAtTheEnd(registry.find("evict", "fifo")[0]):
        def page_left(self, pfn):
            raise PolicyHung("it did not return")

    shell = shell_with({"alloc": Hung, "evict": HungAtTheEnd})
    with pytest.raises(UnknownPolicy):
        shell.attach(alloc="hostile", evict="mru")
    shell.tick()
    process = shell.attach(evict="hostile")
    shell.put(process, shell.map(process, 1), 0, b"x" * PAGE)
    shell.do(events.Detach(process, "over"))
    shell.tick()
    # Of the constructor: the policies of a process that is gone hear nothing more, also of its pages.
    assert [each.kind for each in shell.notices if each.kind.startswith("policy")] == ["policy_error"]
    work(shell, shell.attach())


def test_one_that_hangs_when_it_hears_of_its_victim_is_asked_for_no_other():
    asked = []

    class Hung(Quiet):
        def choose_victims(self):
            for pfn in range(4):
                asked.append(pfn)
                yield pfn

        def page_evicted(self, pfn):
            raise PolicyHung("it did not return")

    shell = shell_with({"evict": Hung})
    policies = shell.core.state.processes[shell.attach(evict="hostile")].policies
    for pfn in policies.candidates(4):
        policies.page_evicted(pfn)
    assert asked == [0]


def test_one_that_hangs_when_its_victims_are_closed_is_replaced():
    class Hung(registry.find("evict", "lru")[0]):
        def choose_victims(self):
            try:
                yield from super().choose_victims()
            finally:
                raise PolicyHung("it did not return")

    shell = shell_with({"evict": Hung})
    process = shell.attach(evict="hostile")
    work(shell, process)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "hint_aware"
    assert "when it was closed" in next(each.message for each in shell.notices if each.kind == "policy_error")


def test_one_that_hangs_and_raises_something_else_on_its_way_out_has_hung():
    class Hung(registry.find("evict", "lru")[0]):
        def page_filled(self, pfn):
            try:
                raise PolicyHung("it did not return")
            finally:
                self.missing.close()

    shell = shell_with({"evict": Hung})
    process = shell.attach(evict="hostile")
    work(shell, process)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "hint_aware"
    assert shell.counters()["policy_errors"] == 1


def test_one_that_hangs_when_it_is_asked_what_it_hears_does_not_take_the_place():
    class Hung(registry.find("evict", "lru")[0]):
        @property
        def hears_accesses(self):
            raise PolicyHung("it did not return")

    shell = shell_with({"evict": Hung})
    process = shell.attach(evict="fifo")
    work(shell, process)
    shell.do(events.SetPolicy(process, "evict", "hostile"))
    assert shell.core.state.processes[process].policies.specifications["evict"] == "hint_aware"
    assert shell.counters()["policy_errors"] == 1
    work(shell, process)


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


def test_one_that_hangs_when_it_hears_of_touches_hears_of_one():
    heard = []

    class Hung(registry.find("evict", "lru")[0]):
        armed = False

        def page_accessed(self, pfn, write):
            if self.armed:
                heard.append(pfn)
                raise PolicyHung("it did not return")

    shell = shell_with({"evict": Hung}, frames=8)
    process = shell.attach(evict="hostile")
    region = shell.map(process, 4)
    for page in range(4):
        shell.put(process, region, page, b"x" * PAGE)
    Hung.armed = True
    shell.do(events.Access(process, region, 0, 4, False))
    assert len(heard) == 1


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
    assert shell.core.state.processes[process].policies.errors["evict"] == 0


@pytest.mark.parametrize("pfn", ["x", None, [], 1.5, True])
def test_what_is_no_frame_cannot_be_given_up(pfn):
    class Wrong(registry.find("evict", "lru")[0]):
        def page_accessed(self, pfn_touched, write):
            self.memory.give_up(pfn)

    shell = shell_with({"evict": Wrong})
    work(shell, shell.attach(evict="hostile"))
    assert_reported(shell, "evict")
    assert "a frame is an int, not a" in next(each.message for each in shell.notices if each.kind == "policy_error")


def test_an_old_one_that_hangs_when_its_pages_are_handed_over_harms_not_the_new_one():
    class Hung(registry.find("evict", "lru")[0]):
        armed = False

        def choose_victims(self):
            if self.armed:
                raise PolicyHung("it did not return")
            return super().choose_victims()

    shell = shell_with({"evict": Hung})
    process = shell.attach(evict="hostile")
    work(shell, process)
    Hung.armed = True
    shell.do(events.SetPolicy(process, "evict", "arc"))
    work(shell, process)
    assert shell.core.state.processes[process].policies.specifications["evict"] == "arc"
    assert [each.kind for each in shell.notices if each.kind.startswith("policy")] == ["policy_set", "policy_error"]


def test_hint_changed_that_raises_is_survived():
    broken = type("Broken", (registry.find("evict", "fifo")[0],), {"hint_changed": raiser(ValueError("bad"))})
    shell = shell_with({"evict": broken})
    process = shell.attach(evict="hostile")
    region = shell.map(process, 2)
    shell.put(process, region, 0, b"x" * PAGE)
    assert shell.hint(process, region, "PRIORITY=LOW").hint_id == 1
    assert_reported(shell, "evict")


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
    assert policies.errors == {"alloc": 0, "evict": 0, "oom": 0, "cond": 0}


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


def test_frames_that_a_policy_forgot_in_its_list_harm_no_other_policy():
    class Forgets(registry.find("evict", "fifo")[0]):
        def page_left(self, pfn):
            raise ValueError("forgot it")

    shell = shell_with({"evict": Forgets})
    process = shell.attach(evict="hostile")
    work(shell, process)
    neighbour = shell.attach(evict="lru")
    work(shell, neighbour)
    assert shell.core.state.processes[neighbour].policies.errors["evict"] == 0


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
    assert shell.core.state.processes[neighbour].policies.errors["evict"] == 0
