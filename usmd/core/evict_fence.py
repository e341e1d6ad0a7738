"""The fence around an evict policy: notifies it of pages, and reads the victims that it names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from types import GeneratorType
from typing import Any, cast

from usmd.core.cond_fence import CondFence
from usmd.core.fence import ANYTHING, heeded_by, place
from usmd.core.frame_list import FrameLinks
from usmd.core.policy import EvictPolicy
from usmd.safe_repr import cut, safe_repr


class EvictFence(CondFence):
    """Calls the evict policy of a process.

    `on_access` and `on_miss`: the policy's `page_accessed` and `page_missed` if it defines them, else None;
    `on_accesses`: its `pages_accessed` if that may be called in place of `on_access`. `on_evict`: its `page_evicted`,
    or `page_left`, which the default `page_evicted` calls; `on_fill`: its `page_filled`. The hot path calls them
    directly, and `raised` when one raises. `_known`: during a hand-over to a new evict policy, 1 for
    each frame that this one knows; None: it knows all. `by_priority`: whether it may heed PRIORITY; True if it does not
    say which hints it heeds.
    """

    _evict: EvictPolicy | None
    _known: bytearray | None
    _fills_runs: bool
    """The policy's `hears_runs`."""
    _names_first: bool
    """The policy's `names_first_victim`."""
    _links: FrameLinks
    by_priority: bool
    on_access: Callable[[int, bool], None] | None
    on_accesses: Callable[[list[int]], None] | None
    on_miss: Callable[[int], None] | None
    on_evict: Callable[[int], None] | None
    on_fill: Callable[[int], None] | None

    @property
    def hands_over(self) -> bool:
        """Whether a hand-over to this evict policy is under way."""
        return self._known is not None

    def _use_evict(self, policy: EvictPolicy | None) -> None:
        self._evict = policy
        self._known = None
        self.by_priority = True
        self._fills_runs = self._names_first = False
        self.on_access = self.on_miss = self.on_evict = self.on_fill = None
        self.on_accesses = None
        if policy is not None:
            self._running.call = self.evict_call
            try:
                remembers = type(policy).page_evicted is not EvictPolicy.page_evicted
                self.on_fill = policy.page_filled
                self.on_evict = policy.page_evicted if remembers else policy.page_left
                self.on_access = policy.page_accessed if policy.hears_accesses else None
                self.on_miss = policy.page_missed if policy.hears_misses else None
                self.on_accesses = policy.pages_accessed if policy.hears_access_runs else None
                self._fills_runs = bool(policy.hears_runs)
                self._names_first = bool(policy.names_first_victim)
                keys = heeded_by(policy)
                self.by_priority = keys is None or "PRIORITY" in keys
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "it", error, " when asked which calls it handles")

    def page_filled(self, pfn: int) -> None:
        """Notify the evict policy of an evictable page. Its frame first leaves the list in which a policy forgot it."""
        links = self._links
        if links.owner[pfn]:
            links.release(pfn)
        if self._known:
            self._known[pfn] = 1
        if self._evict is not None:
            self._running.call = self.evict_call
            try:
                self._evict.page_filled(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_filled", error)

    def pages_filled(self, frames: range) -> None:
        """As `page_filled` for frames that follow each other, whose pages have one hint, or none."""
        if self._fills_runs and not self._known and self._links.in_no_list(frames):
            policy: Any = self._evict  # see ANYTHING
            self._running.call = self.evict_call
            try:
                policy.pages_filled(frames)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "pages_filled", error)  # nothing has changed: one by one
            else:
                return
        for pfn in frames:
            self.page_filled(pfn)

    def _knows(self, pfn: int, *, leaves: bool = False) -> bool:
        """Whether the evict policy knows a page; False only during a hand-over. `leaves`: forget the page."""
        known = self._known
        if not known:
            return True
        found = known[pfn] != 0
        if leaves:
            known[pfn] = 0
        return found

    def page_left(self, pfn: int) -> None:
        """Notify the evict policy that a page may no longer be evicted."""
        if self._knows(pfn, leaves=True) and self._evict is not None:
            self._running.call = self.evict_call
            try:
                self._evict.page_left(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_left", error)

    def page_evicted(self, pfn: int) -> None:
        """Notify the evict policy that a page is evicted."""
        if (self._known is None or self._knows(pfn, leaves=True)) and self.on_evict is not None:
            self._running.call = self.evict_call
            try:
                self.on_evict(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_evicted", error)

    def page_accessed(self, pfn: int, *, write: bool) -> None:
        """Notify the evict policy of a touch of a present page."""
        if self.on_access is not None:
            self._running.call = self.evict_call
            try:
                self.on_access(pfn, write)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_accessed", error)

    def pages_accessed(self, frames: list[int]) -> None:
        """As `page_accessed` for each of these frames, if the policy hears runs of touches."""
        if self.on_accesses is not None:
            self._running.call = self.evict_call
            try:
                self.on_accesses(frames)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "pages_accessed", error)

    def page_missed(self, page: int) -> None:
        """Notify the evict policy of a fault on a page that has no frame."""
        if self.on_miss is not None:
            self._running.call = self.evict_call
            try:
                self.on_miss(page)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_missed", error)

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Notify the evict policy that another hint is in force on a page."""
        if self._knows(pfn) and self._evict is not None:
            self._running.call = self.evict_call
            try:
                self._evict.hint_changed(pfn, priority_before)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "hint_changed", error)

    def first_victim(self) -> int:
        """The frame that the evict policy names first; -1 if it names nothing, or something that is not an int."""
        policy: Any = self._evict  # see ANYTHING
        if policy is not None:
            self._running.call = self.evict_call
            try:
                if self._names_first:
                    first: object = policy.first_victim()
                    return first if type(first) is int else -1
                for pfn in policy.choose_victims():
                    return pfn if type(pfn) is int else -1
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "first_victim" if self._names_first else "choose_victims", error)
        return -1

    def candidates(self, limit: int) -> Generator[int, None, None]:
        """At most `limit` frames that the evict policy names, each an int. The caller checks them."""
        policy = self._evict
        if policy is None:
            return
        stopwatch = self._state.stopwatch
        started = stopwatch()
        named = self._named(policy, limit, partial(self.record_error, "evict"))
        try:
            for pfn in named:
                if type(pfn) is int:
                    yield pfn
                    if policy is not self._evict:
                        break  # it hung in a call about that frame
                else:
                    self.record_error("evict", f"choose_victims named {safe_repr(pfn)}, which is not a frame")
        finally:  # also when the caller stops early
            named.close()
            self._timed("evict", stopwatch, started)

    def _named(self, policy: EvictPolicy, limit: int, told: Callable[[str], None]) -> Generator[object, None, None]:
        """At most `limit` things that an evict policy names; what it raises is passed to `told`."""
        named: Iterator[object] = iter(())
        running = self._running
        running.call = self.evict_call
        try:
            named = iter(cast("Iterable[object]", policy.choose_victims()))  # whatever its annotation says
        except ANYTHING as error:  # a policy may raise anything
            running.call = None
            told(f"choose_victims raised {safe_repr(error)}{place(error)}")
        try:
            for _ in range(limit):
                running.call = self.evict_call
                try:
                    pfn = next(named)
                except StopIteration:
                    return
                except ANYTHING as error:  # a policy may raise anything
                    running.call = None
                    told(f"choose_victims raised {safe_repr(error)}{place(error)}")
                    return
                yield pfn
        finally:
            if isinstance(named, GeneratorType):
                self._close(named, told)

    def _close(self, named: Generator[object, object, object], told: Callable[[str], None]) -> None:
        """Close a generator of victims while its call is marked, because its `finally` may raise or hang."""
        self._running.call = self.evict_call
        try:
            named.close()
        except ANYTHING as error:  # a policy may raise anything
            self._running.call = None
            told(f"choose_victims raised {safe_repr(error)}{place(error)} when it was closed")

    def reason(self, pfn: int) -> str:
        """Why the evict policy chose a frame."""
        policy: Any = self._evict  # see ANYTHING
        if policy is not None:
            self._running.call = self.evict_call
            try:
                reason: object = policy.reason(pfn)
                return cut(reason) if type(reason) is str else safe_repr(reason)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "reason", error)
        return "no reason given"

    def swap_device(self, pfn: int) -> int | None:
        """The device that the evict policy wants for a victim, or None."""
        policy: Any = self._evict  # see ANYTHING
        if policy is not None:
            self._running.call = self.evict_call
            try:
                number: object = policy.swap_device(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "swap_device", error)
                return None
            if number is None or (type(number) is int and 0 <= number < len(self._state.swap.devices)):
                return number
            self.record_error("evict", f"swap_device answered {safe_repr(number)}, which is not a device")
        return None
