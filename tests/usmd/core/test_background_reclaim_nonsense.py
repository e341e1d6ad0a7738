"""Conditional policies that request nonsense, raise, are slow, or cannot be made."""

import itertools

import pytest

from tests.support.conditional_app import App
from tests.support.hostile_policies import HUGE, Unshowable
from tests.support.requests import Requester, make_with
from tests.support.shell import PAGE, Shell, make_core
from usmd.core import events
from usmd.core.policy import ConditionalPolicy, Requests
from usmd.core.region import page_key


class Raises:
    def __iter__(self):
        raise ValueError("no pages today")


NONSENSE = {
    "no requests": lambda app: 7,
    "unshowable": lambda app: Unshowable(),
    "trim nothing": lambda app: Requests(trim=None),
    "trim less": lambda app: Requests(trim=-1),
    "trim true": lambda app: Requests(trim=True),
    "trim a bit": lambda app: Requests(trim=0.5),
    "no pages": lambda app: Requests(swap_in=None),
    "raising pages": lambda app: Requests(swap_in=Raises(), demote=Raises()),
    "text": lambda app: Requests(swap_in="all"),
    "pages of nobody": lambda app: Requests(swap_in=[0, -1, HUGE, -HUGE, page_key(99, 0)]),
    "a page beyond the region": lambda app: Requests(swap_in=[app.key(4)]),
    "for ever": lambda app: Requests(swap_in=itertools.count(), demote=itertools.repeat(None)),
    "for ever the same": lambda app: Requests(swap_in=itertools.repeat(app.key(1))),
    "in memory": lambda app: Requests(swap_in=[app.key(1)]),
    "in memory, demoted": lambda app: Requests(demote=[(app.key(1), 1)]),
    "no pairs": lambda app: Requests(demote=[app.key(0), (), (app.key(0),), [app.key(0), 1], (app.key(0), 1, 2)]),
    "no device": lambda app: Requests(demote=[(app.key(0), each) for each in (-1, 2, HUGE, None, "slow", True)]),
    "the device it is on": lambda app: Requests(demote=[(app.key(0), 0)]),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_counted_reported_and_not_done(nonsense):
    app = App(4, [0])
    other = app.shell.attach()
    region = app.shell.map(other, 1)
    app.shell.put(other, region, 0, b"o" * PAGE)
    app.shell.evict(other, region)
    app.turn(nonsense(app))
    assert app.errors > 0
    assert app.counted("policy_errors") == [app.errors]
    told = [each for each in app.shell.notices if each.kind == "policy_error"]
    assert told
    assert all(each.fields["policy_kind"] == "cond" and len(each.message) < 500 for each in told)
    assert app.states() == ["SWAPPED", "PRESENT", "PRESENT", "PRESENT"]
    assert app.device(0) == 0
    app.is_right()
    app.turn()
    assert len(app.policy.turns) == (1 if app.state.processes[app.process].policies.conditional is False else 2)


def test_a_page_of_another_process_is_left_alone():
    app = App(4)
    other = app.shell.attach()
    region = app.shell.map(other, 1)
    app.shell.put(other, region, 0, b"o" * PAGE)
    app.shell.evict(other, region)
    app.turn(Requests(swap_in=[page_key(region, 0)], demote=[(page_key(region, 0), 0)]))
    assert app.shell.state_of(region, 0) == "SWAPPED"
    assert app.errors == 2
    assert "which is not the process's" in app.shell.notices[-1].message


def test_pages_of_a_region_that_is_going_are_no_error_before_the_policy_has_heard():
    app = App(4, [0])
    app.shell.check = False
    region = app.state.regions[app.region]
    app.shell.do(events.Unmap(app.process, app.region))
    app.state.dying[app.region] = region  # as while its slots are still to be freed, and it hears of each
    app.turn(Requests(swap_in=[app.key(0)], demote=[(app.key(0), 1)]))
    assert app.errors == 0
    del app.state.dying[app.region]
    app.turn(Requests(swap_in=[app.key(0)]))
    assert app.errors == 1


def test_too_many_errors_switch_it_off():
    app = App(4, [0], policy_errors=3)
    for _ in range(4):
        app.turn(Requests(trim=-1))
    app.shell.tick()
    (notice,) = [each for each in app.shell.notices if each.kind == "policy_replaced"]
    assert notice.fields == {
        "policy_kind": "cond", "policy": "requester", "errors": "4", "did": "made 4 errors", "replaced_by": "none",
        "returns_in": "60",
    }  # fmt: skip
    assert app.state.processes[app.process].policies.specifications["cond"] == "none"
    app.policy.told.clear()
    app.turn()
    app.shell.evict(app.process, app.region)
    assert (len(app.policy.turns), app.policy.told, app.state.background_at) == (4, [], float("inf"))


@pytest.mark.parametrize("hook", ["turn", "page_swapped", "page_returned"])
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), RecursionError()])
def test_hooks_that_raise_are_survived(hook, error):
    def broken(self, *args):
        raise error.with_traceback(None)

    app = App(4, [0], policy=type("Broken", (Requester,), {hook: broken}))
    app.shell.evict(app.process, app.region, 1, 1)
    app.turn()
    app.is_right()
    assert app.errors > 0
    assert f"{hook} raised" in next(each.message for each in app.shell.notices if each.kind == "policy_error")


def test_a_slow_turn_is_reported_and_its_requests_are_done():
    clock = [0.0]

    class Slow(Requester):
        def turn(self):
            clock[0] += 0.2
            return super().turn()

    app = App(4, policy=Slow, stopwatch=lambda: clock[0])
    app.turn(Requests(trim=1))
    assert app.states()[0] == "SWAPPED"
    (notice,) = [each for each in app.shell.notices if each.kind == "policy_slow"]
    assert "200 ms" in notice.message


def test_a_constructor_that_fails_leaves_none():
    def broken(memory):
        raise ValueError("no")

    made = []
    shell = Shell(make_core(make_policy=make_with(made, broken)))
    process = shell.attach(cond="requester")
    shell.tick(1)
    assert shell.core.state.processes[process].policies.blame.errors["cond"] == 1
    shell = Shell(make_core(make_policy=make_with(made, lambda memory: None)))
    shell.attach(cond="requester")
    assert "it is a NoneType, not a ConditionalPolicy" in next(
        each.message for each in shell.notices if each.kind == "policy_error"
    )


def test_a_policy_without_hooks_costs_no_call():
    class Deaf(ConditionalPolicy):
        def turn(self):
            return None

    made = []
    shell = Shell(make_core(make_policy=make_with(made, Deaf)))
    policies = shell.core.state.processes[shell.attach(cond="requester")].policies
    assert (policies.on_swapped, policies.on_returned) == (None, None)
