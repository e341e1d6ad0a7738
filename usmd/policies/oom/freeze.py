"""Freeze: faults that find no memory wait for it."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import MOST_PATIENCE, NO_HINTS, Fault, OomPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Freeze(OomPolicy):
    """A fault that finds no memory waits for it, at most `seconds`, and then fails as with `refuse`.

    No other process is affected.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, seconds: float = 30.0) -> None:
        if not 0 < seconds <= MOST_PATIENCE:
            raise InvalidArgument(f"freeze(seconds={seconds:g}); allowed is more than 0 and at most {MOST_PATIENCE:g}")
        super().__init__(memory)
        self.seconds = seconds

    def choose(self, fault: Fault) -> int | None:
        """No process."""
        del fault
        return None

    def patience(self, fault: Fault) -> float:
        """The same for every fault."""
        del fault
        return self.seconds
