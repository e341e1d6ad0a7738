"""Kill lowest priority: the process that matters least, by its `memory_weight`, loses its session."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Fault, OomPolicy
from usmd.core.view import ProcessView


def _importance(process: ProcessView) -> tuple[int, int, int]:
    return process.weight, process.guaranteed_pages - process.resident_pages, -process.process_id


@mypyc_attr(allow_interpreted_subclasses=True)
class KillLowestPriority(OomPolicy):
    """The process with the least `memory_weight` loses its session, of those with memory above their guarantee.

    Of equals, the one with most memory above it, as with `kill_largest`. So a process whose weight was lowered by its
    rule, or by `usmctl limit`, goes before all others.
    """

    heeds = NO_HINTS

    def choose(self, fault: Fault) -> int | None:
        """The process of the least weight that has memory above its guarantee, if there is one."""
        del fault
        able = [each for each in self.memory.processes() if each.resident_pages > each.guaranteed_pages]
        lowest = min(able, key=_importance, default=None)
        return None if lowest is None else lowest.process_id
