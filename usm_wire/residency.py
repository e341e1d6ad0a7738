"""The residency map of a region of real memory: the daemon writes it, and its client reads it without a call.

A byte a page says whether the page is in memory. After those, a byte a page again is the FailureReason for which a
touch of the page is SIGBUS.
"""

from __future__ import annotations

from typing import Final

RESIDENT: Final = 1
"""The page is in memory, and not on its way out; anything else is 0."""
RESIDENT_BYTE: Final = bytes([RESIDENT])
ABSENT_BYTE: Final = bytes(1)


def map_bytes(page_count: int) -> int:
    """Bytes of the map of a region of so many pages."""
    return 2 * page_count


def reason_at(page_count: int, page: int) -> int:
    """Where in the map of a region of `page_count` pages the reason of `page` is."""
    return page_count + page
