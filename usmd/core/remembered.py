"""The ghost list of an evict policy: evicted pages that it remembers, and those of them that are coming in again."""

from __future__ import annotations

from collections import OrderedDict


class Remembered(OrderedDict[int, None]):
    """Numbers of evicted pages (`memory.page`), oldest first."""

    def remember(self, page: int, limit: int) -> None:
        """Add a page as the newest, and forget the oldest ones beyond `limit`."""
        while self and len(self) >= limit:
            self.popitem(last=False)
        if limit > 0:
            self[page] = None


class Returning(set[int]):
    """Pages that were remembered when they were missed, and are not filled yet. At most `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def expect(self, page: int, remembered: Remembered) -> bool:
        """A page was missed. If it was remembered, move it here from there; returns whether it was."""
        if page not in remembered:
            return False
        del remembered[page]
        if len(self) >= self._most:  # these did not come in after all
            self.clear()
        self.add(page)
        return True

    def came(self, page: int) -> bool:
        """A page was filled. Remove it; returns whether it was expected."""
        if page not in self:
            return False
        self.remove(page)
        return True
