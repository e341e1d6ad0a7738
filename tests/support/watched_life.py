"""A PageLife that records every transition, and raises AssertionError for one that is not in the table."""

from __future__ import annotations

from usmd.core.frames import NO_PAGE, STATE_NAMES
from usmd.core.migration import Migration
from usmd.core.page_life import PageLife
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.transitions import ABSENT, MOVING, SWAPPED, TRANSITIONS, Transition

BY_PAGE = ("zero_fill", "swap_in", "discard")
"""Methods whose first arguments are region and page."""
BY_FRAME = ("filled", "evict", "retake")
"""Methods whose first argument is the frame."""


def watched(base=PageLife, allowed=TRANSITIONS):
    """A subclass of a PageLife. Its `seen` has the transitions so far; `allowed`: the valid ones."""

    class Watched(base):
        def __init__(self, state):
            self.seen = set()
            super().__init__(state)

        def state_of(self, region, page):
            entry = region.table[page]
            if entry > 0 and self.moves(entry - 1):
                return MOVING
            if entry > 0:
                return STATE_NAMES[self._state.frames.state[entry - 1]]
            return SWAPPED if entry else ABSENT

        def watch(self, event, pages, step):
            """Do a step on pages, and record their transitions."""
            before = [self.state_of(*each) for each in pages]
            result = step()
            for each, was in zip(pages, before, strict=True):
                now_is = self.state_of(*each)
                if now_is != was:
                    transition = Transition(was, event, now_is)
                    assert transition in allowed, f"{transition} is not in the table"
                    self.seen.add(transition)
            return result

        def pages_on(self, pfn):
            """The page on a frame, if its region is not gone."""
            key = NO_PAGE if pfn is None else self._state.frames.page[pfn]
            region = self._state.regions.get(key >> PAGE_BITS)
            return [] if region is None or region.gone is not None else [(region, key & PAGE_MASK)]

        def zero_fill_run(self, region, first, count, pfn):
            pages = [(region, page) for page in range(first, first + count)]
            return self.watch("zero_fill_run", pages, lambda: super(Watched, self).zero_fill_run(*pages[0], count, pfn))

        def protected(self, ticket, pfn, zero):
            return self.watch(
                "protected", self.pages_on(pfn), lambda: super(Watched, self).protected(ticket, pfn, zero)
            )

        def written(self, reference, error):
            pages = self.pages_on(self.writing[reference])
            return self.watch("written", pages, lambda: super(Watched, self).written(reference, error))

    def by_page(name):
        method = getattr(base, name)

        def watching(self, region, page, *rest, **more):
            return self.watch(name, [(region, page)], lambda: method(self, region, page, *rest, **more))

        return watching

    def by_frame(name):
        method = getattr(base, name)

        def watching(self, pfn, *rest):
            return self.watch(name, self.pages_on(pfn), lambda: method(self, pfn, *rest))

        return watching

    for name in BY_PAGE:
        setattr(Watched, name, by_page(name))
    for name in BY_FRAME:
        setattr(Watched, name, by_frame(name))
    return Watched


WatchedLife = watched()


class WatchedMigration(Migration):
    """A migration that records its transitions with those of its WatchedLife."""

    def begin(self, region, page, device):
        begin = super().begin
        return self._life.watch("begin", [(region, page)], lambda: begin(region, page, device))

    def arrived(self, pfn, error):
        arrived = super().arrived
        return self._life.watch("arrived", self._life.pages_on(pfn), lambda: arrived(pfn, error))
