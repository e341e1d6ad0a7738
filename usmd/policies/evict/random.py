"""Random eviction: a seeded generator chooses, so that two runs agree."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from random import Random as Generator

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


@mypyc_attr(allow_interpreted_subclasses=True)
class Random(EvictPolicy):
    """Any page, each with the same probability: a yardstick that every other policy must beat.

    `seed` makes the choices repeatable.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, seed: int = 0) -> None:
        super().__init__(memory)
        self.generator = Generator(seed)  # noqa: S311 - repeatable on purpose, and not a secret
        self.pages = array("q")
        self.places: dict[int, int] = {}
        """Frame → its index in `pages`."""

    def page_filled(self, pfn: int) -> None:
        """Append it."""
        self.places[pfn] = len(self.pages)
        self.pages.append(pfn)

    def page_left(self, pfn: int) -> None:
        """Remove it; the last page takes its place."""
        place = self.places.pop(pfn)
        last = self.pages.pop()
        if last != pfn:
            self.pages[place] = last
            self.places[last] = place

    def choose_victims(self) -> Iterator[int]:
        """Pages drawn one by one. A page that the core refused is moved to the end and not drawn again."""
        pages, places = self.pages, self.places
        left = len(pages)
        while left > 0:
            place = self.generator.randrange(left)
            yield pages[place]
            left -= 1
            if len(pages) > left:  # a refused page is at `place`, or was last and took the place of the evicted one
                pages[left], pages[place] = pages[place], pages[left]
                places[pages[left]], places[pages[place]] = left, place

    def reason(self, pfn: int) -> str:
        """A fixed text."""
        del pfn
        return "drawn at random"
