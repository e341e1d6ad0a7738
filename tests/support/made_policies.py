"""Policies that a test makes, and shells that use them."""

from tests.support.shell import Shell, make_core
from usmd.core.policy import EvictPolicy
from usmd.policies import registry


class Quiet(EvictPolicy):
    """Names no victims."""

    def page_filled(self, pfn):
        """Nothing."""

    def page_left(self, pfn):
        """Nothing."""

    def choose_victims(self):
        return ()


def shell_with(made, **settings):
    """A shell with the policies of `made`, by specification, and else those of the registry."""

    def make(kind, specification, view):
        return made[specification](view) if specification in made else registry.make(kind, specification, view)

    return Shell(make_core(make_policy=make, **{"frames": 4, **settings}))
