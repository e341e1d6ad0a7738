"""usmd without write-protect, to show that tests/e2e/test_lost_updates.py sees the updates that are lost by that.

A change to a daemon. Protecting a page claims success and does nothing. What is written to swap is a copy of the page,
so that its checksum fits: a store after the copy is lost, and nothing but a wrong byte tells of it.
"""

from __future__ import annotations

from usmd.mechanism.client_memory import ClientMemory


def _claim_to_protect(self: ClientMemory, region_id: int, offset: int, length: int) -> bool:
    del self, region_id, offset, length
    return True


def lose_updates() -> None:
    """Change the memory of this process's clients."""
    ClientMemory.protect = _claim_to_protect  # type: ignore[method-assign]
