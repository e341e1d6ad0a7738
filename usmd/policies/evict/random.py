"""Random eviction: any page, chosen by a seeded generator, so that two runs agree."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from random import Random as Generator

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView


class Random(EvictPolicy):
    """Any page, each as likely as the other; the yardstick that a policy must beat to be worth its trouble.

    `seed` makes the choice repeatable.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, seed: int = 0) -> None:
        super().__init__(memory)
        self.generator = Generator(seed)  # noqa: S311 - repeatable on purpose, and nothing depends on secrecy
        self.pages = array("q")
        self.places: dict[int, int] = {}
        """Frame → its index in `pages`."""

    def page_filled(self, pfn: int) -> None:
        """In, at any place."""
        self.places[pfn] = len(self.pages)
        self.pages.append(pfn)

    def page_left(self, pfn: int) -> None:
        """Out; the last takes its place."""
        place = self.places.pop(pfn)
        last = self.pages.pop()
        if last != pfn:
            self.pages[place] = last
            self.places[last] = place

    def choose_victims(self) -> Iterator[int]:
        """One by one; what could not go is swapped to the end and not drawn again."""
        pages, places = self.pages, self.places
        left = len(pages)
        while left > 0:
            place = self.generator.randrange(left)
            yield pages[place]
            left -= 1
            if len(pages) > left:  # what could not go is at `place`, or was at the end and took the place of what went
                pages[left], pages[place] = pages[place], pages[left]
                places[pages[left]], places[pages[place]] = left, place

    def reason(self, pfn: int) -> str:
        """There is none."""
        del pfn
        return "drawn at random"
