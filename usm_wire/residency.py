"""The residency map of a region of real memory: the daemon writes it, and its client reads it without a call.

Its first half has one byte a page: 1 if the page is in memory. Its second half has one byte a page: the FailureReason
for which a touch of the page is SIGBUS.
"""

from __future__ import annotations

from typing import Final

RESIDENT: Final = 1
"""The page is in memory, and not being evicted; otherwise 0."""
RESIDENT_BYTE: Final = bytes([RESIDENT])
ABSENT_BYTE: Final = bytes(1)


def map_bytes(page_count: int) -> int:
    """Bytes of the map of a region of `page_count` pages."""
    return 2 * page_count


def reason_at(page_count: int, page: int) -> int:
    """Offset of the reason of `page` in the map of a region of `page_count` pages."""
    return page_count + page
