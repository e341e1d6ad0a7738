"""The ghost list of an evict policy: evicted pages that it remembers, and those of them that are coming in again."""

from __future__ import annotations

from collections import OrderedDict


class Remembered:
    """`pages`: numbers of evicted pages (`memory.page`), oldest first."""

    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages: OrderedDict[int, None] = OrderedDict()

    def remember(self, page: int, limit: int) -> None:
        """Add a page as the newest, and forget the oldest ones beyond `limit`."""
        pages = self.pages
        while pages and len(pages) >= limit:
            pages.popitem(last=False)
        if limit > 0:
            pages[page] = None


class Returning:
    """`pages`: those that were remembered when they were missed, and are not filled yet. At most `most`."""

    __slots__ = ("_most", "pages")

    def __init__(self, most: int) -> None:
        self.pages: set[int] = set()
        self._most = most

    def expect(self, page: int, remembered: Remembered) -> bool:
        """A page was missed. If it was remembered, move it here from there; returns whether it was."""
        if page not in remembered.pages:
            return False
        del remembered.pages[page]
        if len(self.pages) >= self._most:  # these did not come in after all
            self.pages.clear()
        self.pages.add(page)
        return True

    def came(self, page: int) -> bool:
        """A page was filled. Remove it; returns whether it was expected."""
        pages = self.pages
        if page not in pages:
            return False
        pages.remove(page)
        return True
