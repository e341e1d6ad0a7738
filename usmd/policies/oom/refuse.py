"""Refuse: the fault that finds no memory fails."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Fault, OomPolicy


@mypyc_attr(allow_interpreted_subclasses=True)
class Refuse(OomPolicy):
    """The fault that finds no memory fails with RESOURCE_EXHAUSTED; no other process is affected."""

    heeds = NO_HINTS

    def choose(self, fault: Fault) -> int | None:
        """No process."""
        del fault
        return None
