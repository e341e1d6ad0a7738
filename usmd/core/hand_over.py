"""The change of an evict policy: hands the pages over to the new one in parts, in the order of the old one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from usmd.core.evict_fence import EvictFence
from usmd.core.frame_list import FrameLinks
from usmd.core.frames import KEPT, PRESENT
from usmd.core.policy import EvictPolicy
from usmd.core.region import PAGE_BITS

if TYPE_CHECKING:
    from usmd.core.pages_left import Steps


class HandOver(EvictFence):
    """Replaces an evict policy."""

    def _began(self, kind: str, specification: str) -> None:
        self.specifications[kind] = specification
        self.blame.began(kind)

    def _begin_hand_over(self, policy: EvictPolicy, links: FrameLinks, specification: str) -> Steps:
        old = self._evict
        self._links = links
        self._began("evict", specification)
        self._use_evict(policy)
        known = self._known = bytearray(self._state.frames.count)
        on_access = self.on_access
        if on_access is not None:

            def if_known(pfn: int, write: bool) -> None:
                if known[pfn]:
                    on_access(pfn, write)

            self.on_access = if_known
            self.on_accesses = None
        return self._hand_over(old, policy, known)

    def _hand_over(self, old: EvictPolicy | None, new: EvictPolicy, known: bytearray) -> Steps:
        """Notify a new evict policy of the evictable pages: first the victims that the old one names, in its order.

        The first notification about a page is `page_filled`. Until then only the sweep can evict that page.
        """
        if old is not None:
            named = self._named(old, 2 * len(known), self._old_one_erred)
            try:
                for pfn in named:
                    if self._known is not known:
                        return  # this policy was replaced in turn, or the process is gone
                    if type(pfn) is not int:
                        break
                    if 0 <= pfn < len(known) and not known[pfn] and self._is_evictable(pfn):
                        self.page_filled(pfn)
                    yield True
            finally:
                named.close()  # compiled, it is not closed when nothing refers to it any more
        for region in list(self._process.regions.values()):
            for _, pfn in region.table.resident():
                if self._known is not known:
                    return
                if not known[pfn] and self._is_evictable(pfn):
                    self.page_filled(pfn)
                yield True
        if self._known is known:
            self._use_evict(new)

    def _old_one_erred(self, what: str) -> None:
        self._let_through(sys.exception())
        self._count_error("evict", f"the policy before it: {what}")

    def _is_evictable(self, pfn: int) -> bool:
        state = self._state
        frames = state.frames
        if frames.state[pfn] != PRESENT or frames.flags[pfn] & KEPT:
            return False
        region = state.regions.get(frames.page[pfn] >> PAGE_BITS)  # None: it is gone
        return region is not None and region.process is self._process

    def ended(self) -> None:
        """The process is gone: call its policies no more, not even for pages that are still to be released."""
        for kind in self.specifications:
            self._stop_using(kind)
