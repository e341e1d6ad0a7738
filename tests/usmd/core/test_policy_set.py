"""What the core calls of a process's policies is what the fence has."""

import inspect

from usmd.core.guard import GuardedPolicies
from usmd.core.policy_set import PolicySet


def test_the_fence_has_each_call_with_the_same_parameters():
    calls = [name for name, member in vars(PolicySet).items() if inspect.isfunction(member) and name[0] != "_"]
    assert {"allocate", "candidates", "page_filled"} <= set(calls)
    for name in calls:
        assert str(inspect.signature(getattr(GuardedPolicies, name))) == str(
            inspect.signature(getattr(PolicySet, name))
        ), name
