"""None: nothing is done by itself, beside what the watermarks ask for."""

from __future__ import annotations

from usmd.core.policy import NO_HINTS, ConditionalPolicy, Wishes


class Nothing(ConditionalPolicy):
    """Nothing is done before somebody asks for it; the watermarks of the memory hold for everybody anyway."""

    heeds = NO_HINTS

    def turn(self) -> Wishes | None:
        """Nothing."""
        return None
