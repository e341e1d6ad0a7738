"""The fence around an evict policy: what it hears of pages, and the victims that it names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from types import GeneratorType
from typing import cast

from usmd.core.fence import ANYTHING, Fence, place
from usmd.core.frame_list import FrameLinks
from usmd.core.policy import EvictPolicy
from usmd.safe_repr import cut, safe_repr


class EvictFence(Fence):
    """The evict policy of a process.

    `on_access` is its `page_accessed` where it has one, else None, and `on_miss` its `page_missed`. The hot path calls
    them directly, and `record_error` when one raises. `_known`: while pages are handed over to a new evict policy, 1
    for the frames that it has heard of; None: it knows all.
    """

    _evict: EvictPolicy | None
    _known: bytearray | None
    _links: FrameLinks
    on_access: Callable[[int, bool], None] | None
    on_miss: Callable[[int], None] | None
    _evicted: Callable[[int], None] | None
    """`page_evicted` of the policy; or `page_left`, which that calls where a policy has none of its own."""

    def _use_evict(self, policy: EvictPolicy | None) -> None:
        self._evict = policy
        self._known = None
        self.on_access = self.on_miss = self._evicted = None
        if policy is not None:
            self._running.call = self.evict_call
            try:
                remembers = type(policy).page_evicted is not EvictPolicy.page_evicted
                self._evicted = policy.page_evicted if remembers else policy.page_left
                self.on_access = policy.page_accessed if policy.hears_accesses else None
                self.on_miss = policy.page_missed if policy.hears_misses else None
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "it", error, " when it was asked what it hears")

    def page_filled(self, pfn: int) -> None:
        """Tell the evict policy of a page that may be evicted; its frame is in no list, whoever forgot it there."""
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

    def _knows(self, pfn: int, *, leaves: bool = False) -> bool:
        """Whether the evict policy has heard of a page, which it has but for a hand-over; `leaves`: it will not now."""
        known = self._known
        if not known:
            return True
        found = known[pfn] != 0
        if leaves:
            known[pfn] = 0
        return found

    def page_left(self, pfn: int) -> None:
        """Tell the evict policy of a page that may no longer be evicted."""
        if self._knows(pfn, leaves=True) and self._evict is not None:
            self._running.call = self.evict_call
            try:
                self._evict.page_left(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_left", error)

    def page_evicted(self, pfn: int) -> None:
        """Tell the evict policy of a page that is evicted."""
        if (self._known is None or self._knows(pfn, leaves=True)) and self._evicted is not None:
            self._running.call = self.evict_call
            try:
                self._evicted(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_evicted", error)

    def page_accessed(self, pfn: int, *, write: bool) -> None:
        """Tell the evict policy of a touch of a page that is there."""
        if self.on_access is not None:
            self._running.call = self.evict_call
            try:
                self.on_access(pfn, write)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_accessed", error)

    def page_missed(self, page: int) -> None:
        """Tell the evict policy that a page which is in no frame was asked for."""
        if self.on_miss is not None:
            self._running.call = self.evict_call
            try:
                self.on_miss(page)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "page_missed", error)

    def hint_changed(self, pfn: int, priority_before: int) -> None:
        """Tell the evict policy that another hint is in force."""
        if self._knows(pfn) and self._evict is not None:
            self._running.call = self.evict_call
            try:
                self._evict.hint_changed(pfn, priority_before)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "hint_changed", error)

    def first_victim(self) -> int:
        """The frame that the evict policy names first, or -1: it names none, or what it names is no number."""
        if self._evict is not None:
            self._running.call = self.evict_call
            try:
                for pfn in self._evict.choose_victims():
                    return pfn if type(pfn) is int else -1
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "choose_victims", error)
        return -1

    def candidates(self, limit: int) -> Iterator[int]:
        """At most `limit` frames that the evict policy names, each an int; the caller checks what they are."""
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
                        break  # it hung when it heard what became of that one
                else:
                    self.record_error("evict", f"choose_victims named {safe_repr(pfn)}, which is no frame")
        finally:  # also when the caller has enough and asks for no more
            named.close()
            self._timed("evict", stopwatch, started)

    def _named(self, policy: EvictPolicy, limit: int, told: Callable[[str], None]) -> Generator[object, None, None]:
        """What an evict policy names, at most `limit` of it; `told` hears of what it raises."""
        named: Iterator[object] = iter(())
        running = self._running
        running.call = self.evict_call
        try:
            named = iter(cast("Iterable[object]", policy.choose_victims()))  # whatever it says of itself
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
        """End a generator of victims here, where what its `finally` does is noticed."""
        self._running.call = self.evict_call
        try:
            named.close()
        except ANYTHING as error:  # a policy may raise anything
            self._running.call = None
            told(f"choose_victims raised {safe_repr(error)}{place(error)} when it was closed")

    def reason(self, pfn: int) -> str:
        """Why the evict policy chose a frame."""
        if self._evict is not None:
            self._running.call = self.evict_call
            try:
                reason: object = self._evict.reason(pfn)
                return cut(reason) if type(reason) is str else safe_repr(reason)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "reason", error)
        return "no reason given"

    def swap_device(self, pfn: int) -> int | None:
        """The device that the evict policy wants for a victim, or None."""
        if self._evict is not None:
            self._running.call = self.evict_call
            try:
                number: object = self._evict.swap_device(pfn)
            except ANYTHING as error:  # a policy may raise anything
                self.raised("evict", "swap_device", error)
                return None
            if number is None or (type(number) is int and 0 <= number < len(self._state.swap.devices)):
                return number
            self.record_error("evict", f"swap_device answered {safe_repr(number)}, which is no device")
        return None
