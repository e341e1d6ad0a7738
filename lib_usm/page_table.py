"""The software page table of one region: one byte a page for pages that are assumed resident, in chunks made on use.

An entry may be stale, because the daemon evicts without notice. Load and Store check, so a stale entry costs a round
trip and never returns a wrong byte. Several threads may use one table: each step is one bytearray operation.
"""

from __future__ import annotations

_CHUNK_PAGES = 1 << 14
_ABSENT = b"\0"
_RESIDENT = b"\1"


class PageTable:
    """Entries of pages 0 to `page_count` - 1, all absent at first."""

    __slots__ = ("_chunks", "_page_count")

    def __init__(self, page_count: int) -> None:
        self._page_count = page_count
        self._chunks: dict[int, bytearray] = {}

    def mark(self, first_page: int, page_count: int) -> None:
        """Mark `page_count` pages from `first_page` resident; pages past the end are ignored."""
        if page_count == 1 and first_page < self._page_count:
            # The usual case, in a third of the time.
            chunk = self._chunks.get(first_page // _CHUNK_PAGES)
            if chunk is not None:
                chunk[first_page % _CHUNK_PAGES] = 1
                return
        page, end = first_page, min(first_page + page_count, self._page_count)
        while page < end:
            index, start = divmod(page, _CHUNK_PAGES)
            stop = min(_CHUNK_PAGES, start + end - page)
            chunk = self._chunks.get(index)
            if chunk is None:
                # If two threads add the chunk at once, setdefault gives both the same one.
                chunk = self._chunks.setdefault(index, bytearray(_CHUNK_PAGES))
            chunk[start:stop] = _RESIDENT * (stop - start)
            page += stop - start

    def mark_all(self, pages: list[int]) -> None:
        """Mark these pages resident; none of them is past the end."""
        chunks = self._chunks
        for page in pages:
            chunk = chunks.get(page // _CHUNK_PAGES)
            if chunk is None:
                self.mark(page, 1)
            else:
                chunk[page % _CHUNK_PAGES] = 1

    def clear(self, page: int) -> None:
        """Mark `page` absent."""
        chunk = self._chunks.get(page // _CHUNK_PAGES)
        if chunk is not None:
            chunk[page % _CHUNK_PAGES] = 0

    def absent_runs(self, first_page: int, end_page: int, longest: int) -> list[tuple[int, int]]:
        """Absent runs (first page, page count) in [first_page, end_page), ascending, each at most `longest` pages."""
        runs: list[tuple[int, int]] = []
        page = self._next(_ABSENT, first_page, end_page)
        while page < end_page:
            # From the next page on, because another thread may have marked this one since.
            stop = self._next(_RESIDENT, page + 1, min(end_page, page + longest))
            runs.append((page, stop - page))
            page = self._next(_ABSENT, stop, end_page)
        return runs

    def _next(self, state: bytes, page: int, end_page: int) -> int:
        """First page of [page, end_page) in `state`, else `end_page`."""
        while page < end_page:
            index, start = divmod(page, _CHUNK_PAGES)
            stop = min(_CHUNK_PAGES, start + end_page - page)
            chunk = self._chunks.get(index)
            if chunk is not None:
                found = chunk.find(state, start, stop)
                if found >= 0:
                    return page + found - start
            elif state == _ABSENT:
                return page
            page += stop - start
        return end_page
