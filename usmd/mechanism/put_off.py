"""Work on ranges of regions that was put off, because a remap was unfinished or memory was short."""

from __future__ import annotations

PutOff = tuple[int, int, int]
"""Region, offset and length of a range that still needs work; for region 0 the offset is an address."""


def cut(put_off: list[PutOff], region_id: int, offset: int, length: int) -> tuple[list[PutOff], list[PutOff]]:
    """Split ranges into those outside a range of a region, and those inside it."""
    outside, inside = [], []
    for each in put_off:
        start, end = each[1], each[1] + each[2]
        first, last = max(start, offset), min(end, offset + length)
        if each[0] != region_id or first >= last:
            outside.append(each)
            continue
        inside.append((region_id, first, last - first))
        if start < first:
            outside.append((region_id, start, first - start))
        if end > last:
            outside.append((region_id, last, end - last))
    return outside, inside
