"""Kill largest: the process with most memory loses its session."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, Fault, OomPolicy


@mypyc_attr(allow_interpreted_subclasses=True)
class KillLargest(OomPolicy):
    """The process with the most memory loses its session, with the reason; of equals, the youngest."""

    heeds = NO_HINTS

    def choose(self, fault: Fault) -> int | None:
        """The process with the most resident pages, if any has one."""
        del fault
        largest = max(
            self.memory.processes(), key=lambda process: (process.resident_pages, process.process_id), default=None
        )
        return None if largest is None or largest.resident_pages == 0 else largest.process_id
