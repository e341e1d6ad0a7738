"""For the benchmarks: their daemons are forked."""

from tests.support.own_daemons import forked_daemons

__all__ = ["forked_daemons"]
