"""W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", 2017).

As in libCacheSim, the main part is a segmented LRU of 20 % probation and 80 % protected. A counting Bloom filter of ten
hashes holds the frequencies; it is sized for the main part at an error of 0.1 %, and halved after 32 touches per page
of the main part. A page is counted when it is brought in, touched in the main part, or compared with another. The paper
has four-bit counters and a doorkeeper instead. If the window's share is less than a page (memory of less than 100
pages), libCacheSim does not cache at all; here the window has at least one page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from math import ceil, log
from struct import Struct
from typing import Final

from librt.vecs import vec
from mypy_extensions import i32, i64, mypyc_attr
from xxhash import xxh64_intdigest

from usmd.core.columns import column, halve
from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument

_KEY = Struct("<q")
_SEED_A: Final = 0x12345678
_SEED_B: Final = 0x12344321
_MASK: Final = (1 << 32) - 1
_NONE_PASSED: Final[frozenset[int]] = frozenset()


class CountingFilter:
    """Estimates how often a key was counted: by the least of ten counters, which it shares with other keys."""

    def __init__(self, entries: int, error: float = 0.001) -> None:
        per_entry = -log(error) / log(2) ** 2
        self.hashes = ceil(log(2) * per_entry)
        self.size = max(ceil(per_entry * entries), self.hashes * 2)
        self.counters = column(self.size)

    def places(self, key: int) -> vec[i32]:
        """The counters of a key."""
        data = _KEY.pack(key)
        place: i64 = xxh64_intdigest(data, _SEED_A) & _MASK
        step: i64 = xxh64_intdigest(data, _SEED_B) & _MASK
        size: i64 = self.size
        found = column(self.hashes)
        for number in range(self.hashes):
            at: int = place % size
            found[number] = at
            place = place + step & _MASK
        return found

    def count(self, places: vec[i32]) -> None:
        """Count the key with these counters once."""
        counters = self.counters
        for each in places:
            place: int = each
            counters[place] += 1

    def estimate(self, places: vec[i32]) -> int:
        """The estimated count of the key with these counters; too high if other keys share all ten."""
        counters = self.counters
        least = _MASK
        for each in places:
            place: int = each
            count: int = counters[place]
            if count < least:
                least = count
        return least

    def exceeds(self, places: vec[i32], others: vec[i32]) -> bool:
        """Whether the estimate of one key exceeds that of another."""
        counters = self.counters
        estimate = self.estimate(places)
        for each in others:  # usually one or two steps
            place: int = each
            if counters[place] < estimate:
                return True
        return False

    def halve(self) -> None:
        """Halve all counters."""
        halve(self.counters)


@mypyc_attr(allow_interpreted_subclasses=True)
class WTinyLfu(EvictPolicy):
    """New pages pass through a small LRU window, and stay if they are used more often than the main part's victim.

    `window` is the window's share of memory, and `protected` the protected segment's share of the main part. After
    `sample` touches per page of the main part, all frequencies are halved.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, window: float = 0.01, protected: float = 0.8, sample: int = 32) -> None:
        if not 0 < window < 1 or not 0 < protected < 1 or sample < 1:
            raise InvalidArgument(
                f"w_tinylfu(window={window}, protected={protected}, sample={sample}); allowed are shares between 0 and "
                "1, and a sample from 1"
            )
        super().__init__(memory)
        self.window_share, self.protected_share, self.sample = window, protected, sample
        self.window = memory.new_list()
        self.probation = memory.new_list()
        self.protected = memory.new_list()
        self.filter: CountingFilter | None = None
        """Made at the first fill, so that a policy without pages takes no memory (`hint_aware` has one policy a
        class)."""
        self.places = column(0)
        """The counters of the page in each frame, so that a page is hashed once while it is in memory. Made with the
        filter."""
        self.touches = 0
        self.candidate: int | None = None
        """The window's page that replaces the main part's victim, if the core accepts that one."""

    def _main_size(self) -> int:
        capacity = self.memory.capacity
        return max(capacity - max(int(capacity * self.window_share), 1), 1)

    def _probation_size(self, size: int) -> int:
        """Pages of probation in a main part of `size` pages.

        Not `1 - 0.8`, which is less than a fifth in floating point.
        """
        return int(size - self.protected_share * size)

    def _begin(self) -> CountingFilter:
        made = self.filter = CountingFilter(self._main_size())
        self.places = column(made.hashes * self.memory.frame_count)
        return made

    def _places(self, pfn: int, frequencies: CountingFilter) -> vec[i32]:
        first = pfn * frequencies.hashes
        return self.places[first : first + frequencies.hashes]

    def page_filled(self, pfn: int) -> None:
        """Append it to the window as the most recent."""
        self.window.append(pfn)
        frequencies = self.filter or self._begin()
        places = frequencies.places(self.memory.identity(self.memory.page(pfn)))
        first = pfn * frequencies.hashes
        for number in range(frequencies.hashes):
            self.places[first + number] = places[number]
        frequencies.count(places)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Make it the most recent of its list; in the main part, count it and move it to the protected segment."""
        del write
        if pfn in self.window:
            self.window.move_to_end(pfn)
            return
        if pfn in self.protected:
            self.protected.move_to_end(pfn)
        else:
            self._protect(pfn)
        frequencies = self.filter or self._begin()
        frequencies.count(self._places(pfn, frequencies))
        self.touches += 1
        if self.touches >= self.sample * self._main_size():
            self.touches = 0
            frequencies.halve()

    def _protect(self, pfn: int) -> None:
        """Move it from probation to protected; the least recent protected page moves down if there are too many."""
        size = self._main_size()
        self.probation.remove(pfn)
        self.protected.append(pfn)
        while len(self.protected) > int(self.protected_share * size) and (cold := self.protected.first) is not None:
            self.protected.remove(cold)
            self.probation.append(cold)
        most = self._probation_size(size)
        if len(self.probation) > most > 0:
            for cold in islice(self.probation, len(self.probation) - most):
                self.memory.give_up(cold)

    def _into_main(self, pfn: int) -> None:
        """Move it from the window to probation, or to protected if only that has room."""
        size = self._main_size()
        self.window.remove(pfn)
        if len(self.probation) >= self._probation_size(size) and len(self.protected) < int(self.protected_share * size):
            self.protected.append(pfn)
        else:
            self.probation.append(pfn)

    def page_left(self, pfn: int) -> None:
        """Remove it."""
        if self.candidate == pfn:
            self.candidate = None
        if not self.window.discard(pfn) and not self.probation.discard(pfn):
            self.protected.remove(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Remove it; the window's page that won moves to the main part."""
        candidate, self.candidate = self.candidate, None
        self.page_left(pfn)
        if candidate is not None and candidate != pfn and candidate in self.window:
            self._into_main(candidate)

    def choose_victims(self) -> Iterator[int]:
        """The less frequent of the least recent pages of window and main part, then the next pair."""
        passed: set[int] = set()
        while (victim := self._victim(passed)) >= 0:
            yield victim
            if victim in self.window or victim in self.probation or victim in self.protected:  # the core refused it
                passed.add(victim)

    def first_victim(self) -> int:
        """The first of them."""
        return self._victim(_NONE_PASSED)

    def _victim(self, passed: Collection[int]) -> int:
        """The next victim, or -1. Pages in `passed` were refused by the core and are skipped."""
        frequencies = self.filter
        if frequencies is None:  # no page was ever filled
            return -1
        size = self._main_size()
        while (newest := self.window.head_besides(passed)) >= 0:
            if self.probation.length + self.protected.length >= size:
                break
            self._into_main(newest)
            frequencies.count(self._places(newest, frequencies))
        oldest = self.probation.head_besides(passed)
        if oldest < 0:
            oldest = self.protected.head_besides(passed)
        self.candidate = None
        if newest < 0:
            return oldest
        places = self._places(newest, frequencies)
        wins = oldest >= 0 and frequencies.exceeds(places, self._places(oldest, frequencies))
        frequencies.count(places)
        if wins:
            self.candidate = newest
            return oldest
        return newest

    def reason(self, pfn: int) -> str:
        """Where it was, and its frequency."""
        where = "window" if pfn in self.window else "main part"
        frequencies = self.filter or self._begin()
        count = frequencies.estimate(self._places(pfn, frequencies))
        return f"least frequent of the victims of window and main part: {count} times, in the {where}"
