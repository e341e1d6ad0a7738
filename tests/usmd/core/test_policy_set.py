"""A process's policies are called by the core only as PolicySet says, and the fence has each of these calls."""

from tests.support.shell import Shell, make_core
from usmd.core.guard import GuardedPolicies
from usmd.core.policy_set import PolicySet

KEPT = {*PolicySet.__annotations__, *getattr(PolicySet, "__mypyc_attrs__", ())} - {"__dict__"}
CALLS = {name for name in vars(PolicySet) if not name.startswith("_")} - KEPT


def test_the_fence_is_a_set_of_policies_and_has_what_that_keeps():
    shell = Shell(make_core())
    policies = shell.core.state.processes[shell.attach()].policies
    assert isinstance(policies, PolicySet)
    assert {"specifications", "on_access", "evict_call"} <= KEPT
    for name in KEPT:
        assert hasattr(policies, name), name


def test_the_fence_defines_each_call_of_the_interface():
    assert {"allocate", "candidates", "replace", "single_page"} <= CALLS
    assert [name for name in CALLS if getattr(GuardedPolicies, name) is getattr(PolicySet, name)] == []
