"""How many victims were chosen, by the policy that chose them and by why a victim was wanted.

Counted once for each batch of victims, so that one page costs nothing. An eviction may still be cancelled or fail after
its page was chosen.
"""

from __future__ import annotations

from typing import Final

LOW_WATERMARK: Final = "low_watermark"
"""Free memory is below the watermarks."""
WAITING_FAULT: Final = "waiting_fault"
"""A fault waits for a frame."""
MEMORY_MAX: Final = "memory_max"
"""The process of the page is at its own budget."""
USER_MAX: Final = "user_memory_max"
"""The user of the process is at its `memory_max`."""
TRIM: Final = "trim"
"""A conditional policy asks for it."""
DONTNEED: Final = "dontneed"
"""A hint asks for it."""
GIVEN_UP: Final = "given_up"
"""The evict policy gave the page up by itself."""
REASONS: Final = (LOW_WATERMARK, WAITING_FAULT, MEMORY_MAX, USER_MAX, TRIM, DONTNEED, GIVEN_UP)

SWEEP: Final = "default"
"""In place of a policy: the core's sweep."""
HINT: Final = "hint"
"""In place of a policy: a hint names the pages."""


class Victims:
    """Counts since the start. `counts`: by name of the policy, without parameters, and reason."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, specification: str, reason: str, count: int) -> None:
        """Count victims that the policy of a specification chose, if there are any."""
        if count:
            key = (specification.partition("(")[0], reason)
            self.counts[key] = self.counts.get(key, 0) + count
