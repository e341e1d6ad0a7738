"""What an evict policy remembers of pages that were evicted (its ghost list), and which of them were asked for again.

Covers the order, the bound, and the time between a miss and the fill that follows; what it means is the policy's.
"""

from __future__ import annotations

from collections import OrderedDict


class Remembered(OrderedDict[int, None]):
    """Numbers of evicted pages (`memory.page`), oldest first."""

    def remember(self, page: int, limit: int) -> None:
        """Add a page as the newest; the oldest are forgotten, so that there are at most `limit`."""
        while self and len(self) >= limit:
            self.popitem(last=False)
        if limit > 0:
            self[page] = None


class Returning(set[int]):
    """Pages that were remembered when they were missed, and are not filled yet; at most `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def expect(self, page: int, remembered: Remembered) -> bool:
        """A page was missed: whether it was remembered; if so it is no more, and is expected to come in."""
        if page not in remembered:
            return False
        del remembered[page]
        if len(self) >= self._most:  # of pages that did not come in after all
            self.clear()
        self.add(page)
        return True

    def came(self, page: int) -> bool:
        """A page was filled: whether it was expected; it is so no more."""
        if page not in self:
            return False
        self.remove(page)
        return True
