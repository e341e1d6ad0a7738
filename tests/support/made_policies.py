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


def make_over(kind, specification, view, **members):
    """A policy of the registry with other members, which are its class's: a compiled one heeds no others."""
    found, parameters = registry.find(kind, specification)
    return type(found.__name__, (found,), {"heeds": found.heeds, **members})(view, **parameters)


def attributes_of(thing):
    """The attributes of an object by name, whether its class is compiled or not."""
    compiled = (name for each in type(thing).__mro__ for name in getattr(each, "__mypyc_attrs__", ()))
    names = {*compiled, *getattr(thing, "__dict__", ())} - {"__dict__"}
    return {name: getattr(thing, name) for name in sorted(names) if hasattr(thing, name)}


def shell_with(made, **settings):
    """A shell with the policies of `made`, by specification, and else those of the registry."""

    def make(kind, specification, view):
        return made[specification](view) if specification in made else registry.make(kind, specification, view)

    return Shell(make_core(make_policy=make, **{"frames": 4, **settings}))
