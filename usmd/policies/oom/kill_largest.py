"""Kill largest: the process with most memory above its guarantee loses its session."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Fault, OomPolicy
from usmd.core.view import ProcessView


def _above(process: ProcessView) -> tuple[int, int]:
    return process.resident_pages - process.guaranteed_pages, process.process_id


@mypyc_attr(allow_interpreted_subclasses=True)
class KillLargest(OomPolicy):
    """The process with most memory above its guarantee loses its session, with the reason; of equals, the youngest."""

    heeds = NO_HINTS

    def choose(self, fault: Fault) -> int | None:
        """The process with the most resident pages above its guarantee, if any has one."""
        del fault
        largest = max(self.memory.processes(), key=_above, default=None)
        return None if largest is None or _above(largest)[0] <= 0 else largest.process_id
