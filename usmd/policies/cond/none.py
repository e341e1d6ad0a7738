"""None: nothing is done by itself, beside what the watermarks ask for."""

from __future__ import annotations

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Requests


class Nothing(ConditionalPolicy):
    """Nothing is done before somebody asks for it; the watermarks of the memory hold for everybody anyway."""

    heeds = NO_HINTS

    def turn(self) -> Requests | None:
        """Nothing."""
        return None
