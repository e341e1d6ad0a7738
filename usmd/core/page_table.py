"""The page table of a region: page → frame, slot or nothing. A chunk of 512 pages takes 8 bytes a page once touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from librt.vecs import vec
from mypy_extensions import i64

from usmd.core.columns import all_zero_wide, count_up_wide, wide_column

CHUNK_BITS: Final = 9
CHUNK: Final = 1 << CHUNK_BITS
CHUNK_MASK: Final = CHUNK - 1
_LOOKS_A_PAGE: Final = 16
"""Entries, or chunks that were never touched, that `part` looks at for each page that it may find."""

ABSENT: Final = 0
"""Entry of a page without frame and slot. A positive entry is frame + 1; a negative one is -(slot reference) - 1."""


class PageTable:
    """Entries of `page_count` pages. Page numbers are not checked.

    For the hot path: `chunks[page >> CHUNK_BITS][page & CHUNK_MASK]` is the entry, or ABSENT if the chunk is None.
    """

    __slots__ = ("chunks", "page_count")

    def __init__(self, page_count: int) -> None:
        self.page_count = page_count
        self.chunks: list[vec[i64] | None] = [None] * ((page_count + CHUNK_MASK) >> CHUNK_BITS)

    def __getitem__(self, page: int) -> int:
        chunk = self.chunks[page >> CHUNK_BITS]
        return 0 if chunk is None else chunk[page & CHUNK_MASK]

    def __setitem__(self, page: int, entry: int) -> None:
        chunk = self.chunks[page >> CHUNK_BITS]
        if chunk is None:
            if entry == ABSENT:
                return
            chunk = self.chunks[page >> CHUNK_BITS] = wide_column(CHUNK, ABSENT)
        chunk[page & CHUNK_MASK] = entry

    def copy(self) -> PageTable:
        """An independent copy."""
        other = PageTable(self.page_count)
        other.chunks = [None if chunk is None else chunk[:] for chunk in self.chunks]
        return other

    def absent(self, first: int, count: int) -> bool:
        """Whether all these pages are ABSENT."""
        for chunk, start, end in self._parts(first, count):
            found = self.chunks[chunk]
            if found is not None and not all_zero_wide(found, start, end):
                return False
        return True

    def framed(self, first: int, end: int) -> int:
        """The first page from `first` on that has no frame, or is in another chunk; at most `end`."""
        chunk = self.chunks[first >> CHUNK_BITS]
        stop = min(end, (first | CHUNK_MASK) + 1)
        if chunk is None:
            return first
        while first < stop and chunk[first & CHUNK_MASK] > 0:
            first += 1
        return first

    def set_run(self, first: int, count: int, entry: int) -> None:
        """Give `count` consecutive pages consecutive entries from `entry` on, which is positive."""
        for chunk, start, end in self._parts(first, count):
            found = self.chunks[chunk]
            if found is None:
                found = self.chunks[chunk] = wide_column(CHUNK, ABSENT)
            count_up_wide(found, start, end, entry)
            entry += end - start

    def set_pages(self, pages: list[int], entry: int) -> None:
        """Give these pages consecutive entries from `entry` on, which is positive."""
        chunks = self.chunks
        for page in pages:
            chunk = chunks[page >> CHUNK_BITS]
            if chunk is None:
                self[page] = entry
            else:
                chunk[page & CHUNK_MASK] = entry
            entry += 1

    @staticmethod
    def _parts(first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """The chunks of a range of pages: (chunk number, first index in it, end index in it)."""
        end = first + count
        while first < end:
            chunk, start = first >> CHUNK_BITS, first & CHUNK_MASK
            stop = min(CHUNK, start + end - first)
            yield chunk, start, stop
            first += stop - start

    def part(self, first: int, end: int, most: int) -> tuple[list[tuple[int, int]], int]:
        """At most `most` (page, entry) that are not ABSENT, ascending from `first` on, and the page to continue from.

        That page is `end` when no pages are left. Looks at a bounded part of the table, so it may find fewer, or none.
        """
        found: list[tuple[int, int]] = []
        looks = _LOOKS_A_PAGE * most
        while first < end and looks > 0:
            chunk = self.chunks[first >> CHUNK_BITS]
            base = first & ~CHUNK_MASK
            if chunk is None:
                looks -= 1
                first = base + CHUNK
                continue
            stop = min(end - base, CHUNK, first - base + looks)
            looks -= stop - (first - base)
            for index in range(first - base, stop):
                entry: int = chunk[index]
                if entry:
                    found.append((base + index, entry))
                    if len(found) == most:
                        return found, base + index + 1
            first = base + stop
        return found, min(first, end)

    def resident(self) -> Iterator[tuple[int, int]]:
        """(page, frame) of the pages that have a frame, ascending. Skips chunks without a frame quickly."""
        for number, chunk in enumerate(self.chunks):
            if chunk is not None and max(chunk) > 0:
                base = number << CHUNK_BITS
                for index in range(CHUNK):
                    if chunk[index] > 0:
                        yield base + index, chunk[index] - 1

    def clear(self, page: int) -> None:
        """Make a page ABSENT, and drop its chunk if all of that is ABSENT."""
        number = page >> CHUNK_BITS
        chunk = self.chunks[number]
        if chunk is not None:
            chunk[page & CHUNK_MASK] = ABSENT
            if all_zero_wide(chunk, 0, CHUNK):
                self.chunks[number] = None

    def entries(self, first: int = 0, count: int | None = None) -> Iterator[tuple[int, int]]:
        """(page, entry) of the `count` (None: all) pages from `first` on that are not ABSENT, ascending."""
        end = self.page_count if count is None else min(first + count, self.page_count)
        for number in range(first >> CHUNK_BITS, (end + CHUNK_MASK) >> CHUNK_BITS):
            chunk = self.chunks[number]
            if chunk is None:
                continue
            base = number << CHUNK_BITS
            for index in range(max(first - base, 0), min(end - base, CHUNK)):
                entry: int = chunk[index]
                if entry:
                    yield base + index, entry
