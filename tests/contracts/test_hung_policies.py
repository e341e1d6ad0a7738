"""Policies that hang: they are called no more, the default takes the place, and no byte is lost."""

import pytest

from tests.support.hostile_policies import HOOKS, assert_reported, shell_with, work
from tests.support.made_policies import Quiet
from tests.support.shell import PAGE
from usmd.core import events
from usmd.core.frames import PRESENT
from usmd.core.policy import AllocPolicy
from usmd.core.running import PolicyHung
from usmd.errors import UnknownPolicy
from usmd.policies import registry


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
