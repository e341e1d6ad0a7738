"""Hint-aware eviction, after "Application-Specific Hints" of USM's advanced policy concepts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import chain
from operator import methodcaller
from typing import Final

from mypy_extensions import mypyc_attr

from usmd.core.hints import Priority
from usmd.core.policy import EvictPolicy, evict_policy
from usmd.core.view import MemoryView

_CHOOSE: Final = methodcaller("choose_victims")


@mypyc_attr(allow_interpreted_subclasses=True)
class HintAware(EvictPolicy):
    """The lowest PRIORITY with EVICTION=ALLOW goes first; within a priority, the fallback policy decides.

    A page without a hint is NORMAL and ALLOW. The core does not show pages with EVICTION=DENY to a policy. `fallback`
    is an evict policy.
    """

    builds_on = ("fallback",)
    heeds = frozenset({"PRIORITY"})

    def __init__(self, memory: MemoryView, fallback: str = "lru") -> None:
        super().__init__(memory)
        self.pages = [0 for _ in Priority]
        """Number of evictable pages by priority."""
        self.classes = [evict_policy(memory, fallback, partial(self._above, each)) for each in Priority]
        self._runs = self.classes[0].hears_runs

    def _above(self, priority: int) -> int:
        """Number of evictable pages of higher priority, which a class must not count into its capacity."""
        return sum(self.pages[priority + 1 :])

    def heeded_keys(self) -> frozenset[str] | None:
        """PRIORITY, and the keys of the fallback."""
        own, keys = super().heeded_keys(), self.classes[0].heeded_keys()
        return None if own is None or keys is None else own | keys

    @property
    def hears_accesses(self) -> bool:
        """True if the fallback's is."""
        return self.classes[0].hears_accesses

    @property
    def hears_runs(self) -> bool:
        """True if the fallback's is, and no subclass has its own `page_filled`."""
        return self._runs and super().hears_runs

    @property
    def hears_access_runs(self) -> bool:
        """True if the fallback's is, and no subclass has its own `page_accessed`."""
        return self.classes[0].hears_access_runs and super().hears_access_runs

    @property
    def names_first_victim(self) -> bool:
        """True if the fallback's is, and no subclass has its own `choose_victims`."""
        return self.classes[0].names_first_victim and super().names_first_victim

    @property
    def hears_misses(self) -> bool:
        """True if the fallback's is."""
        return self.classes[0].hears_misses

    def page_filled(self, pfn: int) -> None:
        """Add it to the class of its priority."""
        priority = self.memory.priority(pfn)
        self.pages[priority] += 1
        self.classes[priority].page_filled(pfn)

    def pages_filled(self, frames: range) -> None:
        """Add them to the class of their priority."""
        priority = self.memory.priority(frames.start)
        if self._runs:
            self.classes[priority].pages_filled(frames)
            self.pages[priority] += len(frames)
        else:
            for pfn in frames:
                self.page_filled(pfn)

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Pass it on to the fallback of its class."""
        self.classes[self.memory.priority(pfn)].page_accessed(pfn, write)

    def pages_accessed(self, frames: list[int]) -> None:
        """Pass them on, those of a class at once: what happens in one class does not concern another."""
        holders = [policy for policy, count in zip(self.classes, self.pages, strict=True) if count]
        if len(holders) == 1:
            holders[0].pages_accessed(frames)
            return
        for priority, policy in zip(Priority, self.classes, strict=True):
            touched = [pfn for pfn in frames if self.memory.priority(pfn) == priority]
            if touched:
                policy.pages_accessed(touched)

    def page_missed(self, page: int) -> None:
        """Pass it on to each class, because any may remember the page."""
        for policy in self.classes:
            policy.page_missed(page)

    def page_left(self, pfn: int) -> None:
        """Remove it from its class."""
        priority = self.memory.priority(pfn)
        self.pages[priority] -= 1
        self.classes[priority].page_left(pfn)

    def page_evicted(self, pfn: int) -> None:
        """Remove it from its class, which may remember it."""
        priority = self.memory.priority(pfn)
        self.pages[priority] -= 1
        self.classes[priority].page_evicted(pfn)

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Move it to another class if its priority has changed. The fallback is notified first, as without classes."""
        holder = self.classes[priority_before]
        holder.hint_changed(pfn, priority_before)
        if self.memory.priority(pfn) != priority_before:
            self.pages[priority_before] -= 1
            holder.page_left(pfn)
            self.page_filled(pfn)

    def choose_victims(self) -> Iterable[int]:
        """LOW, then NORMAL, then HIGH, each in the fallback's order."""
        return chain.from_iterable(map(_CHOOSE, self.classes))  # one after the other, compiled as well

    def first_victim(self) -> int:
        """The first of them."""
        for policy in self.classes:
            pfn = policy.first_victim()
            if pfn >= 0:
                return pfn
        return -1

    def swap_device(self, pfn: int) -> int | None:
        """The fallback's choice."""
        return self.classes[self.memory.priority(pfn)].swap_device(pfn)

    def reason(self, pfn: int) -> str:
        """The priority, and the fallback's reason."""
        fallback = self.classes[self.memory.priority(pfn)].reason(pfn)
        return f"PRIORITY={self.memory.priority_name(pfn)}, EVICTION=ALLOW: {fallback}"
