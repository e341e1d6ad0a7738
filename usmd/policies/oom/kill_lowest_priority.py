"""Kill lowest priority: the process that matters least, by its share of memory, loses its session."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Fault, OomPolicy
from usmd.core.view import ProcessView


def _importance(process: ProcessView) -> tuple[float, int, int]:
    return process.share, process.guaranteed_pages - process.resident_pages, -process.process_id


@mypyc_attr(allow_interpreted_subclasses=True)
class KillLowestPriority(OomPolicy):
    """The process with the least share of memory loses its session, of those with memory above their guarantee.

    Its share is its `memory_weight`. A user's `memory_weight` is divided among its processes by theirs, so no user
    counts for more by having more processes. Of equals, the one with most memory above its guarantee, as with
    `kill_largest`. So a process whose weight was lowered by its rule, or by `usmctl limit`, goes before all others of
    its user, and of users without a weight.
    """

    heeds = NO_HINTS

    def choose(self, fault: Fault) -> int | None:
        """The process of the least share that has memory above its guarantee, if there is one."""
        del fault
        able = [each for each in self.memory.processes() if each.resident_pages > each.guaranteed_pages]
        lowest = min(able, key=_importance, default=None)
        return None if lowest is None else lowest.process_id
