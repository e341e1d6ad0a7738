"""A process's policies are called by the core only as PolicySet says, and the fence has each of these calls."""

import pytest

from tests.support.shell import Shell, make_core
from usmd.core.policy_set import PolicySet


def test_the_fence_is_a_set_of_policies_and_has_what_that_keeps():
    shell = Shell(make_core())
    policies = shell.core.state.processes[shell.attach()].policies
    assert isinstance(policies, PolicySet)
    for name in PolicySet.__annotations__:
        assert hasattr(policies, name), name


def test_the_interface_alone_is_no_set_of_policies():
    with pytest.raises(TypeError):
        PolicySet()
