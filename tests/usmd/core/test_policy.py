"""The base classes of policies: only what is essential is abstract."""

import pytest

from tests.support.fake_view import fake_view
from tests.support.shell import Shell, make_core
from usmd.core.policy import (
    USM_YIELD,
    Allocation,
    AllocPolicy,
    AsyncRequest,
    ConditionalPolicy,
    EvictPolicy,
    OomPolicy,
    alloc_policy,
    cond_policy,
    evict_policy,
)
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument, UnknownPolicy
from usmd.policies import registry


@pytest.mark.parametrize(
    ("kind", "base", "essential"),
    [
        ("alloc", AllocPolicy, {"allocate"}),
        ("evict", EvictPolicy, {"page_filled", "page_left", "choose_victims"}),
        ("oom", OomPolicy, {"choose"}),
        ("cond", ConditionalPolicy, {"turn"}),
    ],
)
def test_only_the_essential_is_abstract(kind, base, essential, tmp_path):
    assert set(base.essential) == essential
    file = tmp_path / "lacks.py"
    file.write_text(f"from usmd.core.policy import {base.__name__}\nclass Lacks({base.__name__}):\n    pass\n")
    with pytest.raises(InvalidArgument, match=f"does not define {', '.join(sorted(essential))} "):
        registry.find(kind, f"{file}:Lacks")


def test_optional_hooks_do_nothing():
    class Least(EvictPolicy):
        def page_filled(self, pfn):
            """Nothing."""

        def page_left(self, pfn):
            """Nothing."""

        def choose_victims(self):
            return ()

    policy = Least(fake_view())
    assert policy.page_accessed(1, write=True) is None
    assert policy.hint_changed(1, 0) is None
    assert policy.swap_device(1) is None
    assert policy.reason(1)

    class Still(ConditionalPolicy):
        def turn(self):
            return None

    assert (Still(fake_view()).page_swapped(1, 0), Still(fake_view()).page_returned(1)) == (None, None)


def test_a_swap_in_is_handed_over_and_usm_yield_has_a_name():
    request = AsyncRequest()
    request.swap_in(Allocation(3, 2))
    assert (request.plan, repr(USM_YIELD)) == (Allocation(3, 2), "USM_YIELD")


def test_policies_can_be_built_upon_by_name_and_kind():
    shell = Shell(make_core())
    view = MemoryView(shell.core.state, shell.core.state.processes[shell.attach()])
    assert type(evict_policy(view, "lru")) is registry.find("evict", "lru")[0]
    assert type(alloc_policy(view, "first_fit")) is registry.find("alloc", "first_fit")[0]
    assert type(cond_policy(view, "trim")) is registry.find("cond", "trim")[0]
    with pytest.raises(UnknownPolicy, match="first_fit"):
        evict_policy(view, "first_fit")


def test_a_maker_that_gives_another_kind_is_found_out():
    shell = Shell(make_core())
    view = MemoryView(shell.core.state, shell.core.state.processes[shell.attach()])
    shell.core.state.make_policy = lambda kind, specification, memory: object()
    with pytest.raises(TypeError, match="lru is not an evict policy"):
        evict_policy(view, "lru")
    with pytest.raises(TypeError, match="x is not an alloc policy"):
        alloc_policy(view, "x")
    with pytest.raises(TypeError, match="x is not a cond policy"):
        cond_policy(view, "x")
