"""None: does nothing beyond what the watermarks ask for."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests


@mypyc_attr(allow_interpreted_subclasses=True)
class Nothing(ConditionalPolicy):
    """Does nothing in its turns; the watermarks apply to every process anyway."""

    heeds = NO_HINTS

    def turn(self) -> Requests | None:
        """No requests."""
        return None
