"""Policies that a test makes, and shells in which they are."""

from tests.support.shell import Shell, make_core
from usmd.core.policy import EvictPolicy
from usmd.policies import registry


class Quiet(EvictPolicy):
    """Knows nothing and names nobody."""

    def page_filled(self, pfn):
        """Nothing."""

    def page_left(self, pfn):
        """Nothing."""

    def choose_victims(self):
        return ()


def shell_with(made, **settings):
    """A shell in which `made` gives the policies by specification, and the registry the others."""

    def make(kind, specification, view):
        return made[specification](view) if specification in made else registry.make(kind, specification, view)

    return Shell(make_core(make_policy=make, **{"frames": 4, **settings}))
