"""W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: a highly efficient cache admission policy", 2017).

As in libCacheSim, the main part is a segmented LRU of 20 % probation and 80 % protected. A counting Bloom filter of ten
hashes holds the frequencies; it is sized for the main part at an error of 0.1 %, and halved after 32 touches per page
of the main part. A page is counted when it is brought in, touched in the main part, or compared with another. The paper
has four-bit counters and a doorkeeper instead. If the window's share is less than a page (memory of less than 100
pages), libCacheSim does not cache at all; here the window has at least one page.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from math import ceil, log
from struct import Struct

from mypy_extensions import mypyc_attr
from xxhash import xxh64_intdigest

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument

_KEY = Struct("<q")
_SEED_A, _SEED_B = 0x12345678, 0x12344321
_MASK = (1 << 32) - 1


class CountingFilter:
    """Estimates how often a key was counted: by the least of ten counters, which it shares with other keys."""

    def __init__(self, entries: int, error: float = 0.001) -> None:
        per_entry = -log(error) / log(2) ** 2
        self.hashes = ceil(log(2) * per_entry)
        self.size = max(ceil(per_entry * entries), self.hashes * 2)
        self.counters = array("I", bytes(4 * self.size))

    def _places(self, key: int) -> list[int]:
        data = _KEY.pack(key)
        start, step = xxh64_intdigest(data, _SEED_A) & _MASK, xxh64_intdigest(data, _SEED_B) & _MASK
        size = self.size
        return [(start + number * step & _MASK) % size for number in range(self.hashes)]

    def count(self, key: int) -> None:
        """Count the key once."""
        counters = self.counters
        for place in self._places(key):
            counters[place] += 1

    def estimate(self, key: int) -> int:
        """The estimated count of the key; too high if other keys share all ten counters."""
        counters = self.counters
        return min([counters[place] for place in self._places(key)])

    def halve(self) -> None:
        """Halve all counters."""
        self.counters = array("I", [counter >> 1 for counter in self.counters])


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

    def _identity(self, pfn: int) -> int:
        return self.memory.identity(self.memory.page(pfn))

    def _frequencies(self) -> CountingFilter:
        if self.filter is None:
            self.filter = CountingFilter(self._main_size())
        return self.filter

    def page_filled(self, pfn: int) -> None:
        """Append it to the window as the most recent."""
        self.window.append(pfn)
        self._frequencies().count(self._identity(pfn))

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
        frequencies = self._frequencies()
        frequencies.count(self._identity(pfn))
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
        frequencies = self.filter
        if frequencies is None:  # no page was ever filled
            return
        passed: set[int] = set()
        while True:
            newest = self.window.first_besides(passed)
            if newest is not None and len(self.probation) + len(self.protected) < self._main_size():
                self._into_main(newest)
                frequencies.count(self._identity(newest))
                continue
            oldest = self.probation.first_besides(passed)
            if oldest is None:
                oldest = self.protected.first_besides(passed)
            victim = oldest
            self.candidate = None
            if newest is not None:
                page = self._identity(newest)
                victim = newest
                if oldest is not None and frequencies.estimate(page) > frequencies.estimate(self._identity(oldest)):
                    victim, self.candidate = oldest, newest
                frequencies.count(page)
            if victim is None:
                return
            yield victim
            if victim in self.window or victim in self.probation or victim in self.protected:  # the core refused it
                passed.add(victim)

    def reason(self, pfn: int) -> str:
        """Where it was, and its frequency."""
        where = "window" if pfn in self.window else "main part"
        count = self._frequencies().estimate(self._identity(pfn))
        return f"least frequent of the victims of window and main part: {count} times, in the {where}"
