"""Page keys as runs of neighbours, so that each run is one call of the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from usmd.core.region import PAGE_BITS, PAGE_MASK


def neighbours(pages: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Page keys as runs of ascending neighbours: region, first page, pages."""
    start = pages[0] if pages else 0
    count = len(pages)
    if isinstance(pages, range) and pages.step == 1 and count:
        yield start >> PAGE_BITS, start & PAGE_MASK, count
        return
    if count and pages[-1] - start == count - 1 and pages == list(range(start, start + count)):  # the usual case
        yield start >> PAGE_BITS, start & PAGE_MASK, count
        return
    count = 0
    for key in pages:
        if key == start + count:
            count += 1
            continue
        yield start >> PAGE_BITS, start & PAGE_MASK, count
        start, count = key, 1
    if count:
        yield start >> PAGE_BITS, start & PAGE_MASK, count
