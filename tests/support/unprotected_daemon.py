"""A change to a daemon: it does not write-protect pages. tests/e2e/test_lost_updates.py must see the lost updates.

Protecting a page claims success and does nothing. The write to swap takes a copy of the page with a valid checksum. A
store after the copy is lost, and only a wrong byte shows that.
"""

from __future__ import annotations

from usmd.mechanism.client_memory import ClientMemory


def _claim_to_protect(self: ClientMemory, region_id: int, offset: int, length: int) -> bool:
    del self, region_id, offset, length
    return True


def lose_updates() -> None:
    """Change the memory of this process's clients."""
    ClientMemory.protect = _claim_to_protect  # type: ignore[method-assign]
