"""LIRS: low inter-reference recency set (Jiang and Zhang, SIGMETRICS 2002).

The stack S holds pages by recency, some of them no longer in memory. The queue Q holds the resident pages of high
inter-reference recency (HIR), from which victims are taken; the other resident pages are LIR. With `paper=false`, the
default, two things are as in libCacheSim. First, a touch of a page that is in Q and not in S also demotes a LIR page,
and a HIR page for which Q has no room then is evicted at once. Second, S has at most twice as many entries as memory
has frames. If Q has room for one page only (memory of less than 200 pages), libCacheSim counts the page that it drops
this way as resident, and so holds one page too many; this policy keeps that page, and evicts one at the next miss.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from mypy_extensions import mypyc_attr

from usmd.core.policy import NO_HINTS, EvictPolicy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument


@mypyc_attr(allow_interpreted_subclasses=True)
class Lirs(EvictPolicy):
    """Pages whose last two touches were close together stay; the others pass through a short queue.

    `hir` is the queue's share of memory. `paper`: without the two features of libCacheSim.
    """

    heeds = NO_HINTS

    def __init__(self, memory: MemoryView, hir: float = 0.01, paper: bool = False) -> None:
        if not 0 < hir < 1:
            raise InvalidArgument(f"lirs(hir={hir}); allowed is a share between 0 and 1")
        super().__init__(memory)
        self.hir_share, self.paper = hir, paper
        self.stack: OrderedDict[int, int] = OrderedDict()
        """Page → its frame, or -1 if it is no longer in memory; the most recent last."""
        self.queue = memory.new_list()
        """Resident HIR pages, the most recent last."""
        self.is_lir = bytearray(memory.frame_count)
        self.lir_count = 0
        self.gone: OrderedDict[int, None] = OrderedDict()
        """Pages of the stack that are no longer in memory, in the order of their eviction."""

    def _lir_limit(self) -> int:
        capacity = self.memory.capacity
        return max(capacity - max(int(self.hir_share * capacity), 1), 1)

    def page_missed(self, page: int) -> None:
        """Make a page that the stack knows the most recent."""
        if page in self.stack:
            self.stack.move_to_end(page)

    def page_filled(self, pfn: int) -> None:
        """Make it LIR if the stack knew it, or while there is room for LIR pages; else HIR."""
        page = self.memory.page(pfn)
        limit = self._lir_limit()
        if page in self.stack:
            self.gone.pop(page, None)
            self.stack.move_to_end(page)
            while self.lir_count >= limit and self._demote():
                pass
            self._make_lir(page, pfn)
        elif self.lir_count < limit:
            self._make_lir(page, pfn)
        else:
            self.stack[page] = pfn
            self.is_lir[pfn] = 0
            self.queue.append(pfn)
        self._limit_stack()

    def _make_lir(self, page: int, pfn: int) -> None:
        self.stack[page] = pfn
        self.is_lir[pfn] = 1
        self.lir_count += 1

    def page_accessed(self, pfn: int, write: bool) -> None:
        """Make it the most recent. A HIR page that the stack knows becomes LIR, in place of the oldest LIR page."""
        del write
        page = self.memory.page(pfn)
        if page not in self.stack:
            self.queue.move_to_end(pfn)
            if not self.paper and self.lir_count >= self._lir_limit():
                cold = self.queue.first
                too_long = self._demote() and self._hir_limit() < len(self.queue)
                if too_long and cold is not None and cold != pfn:
                    self.memory.give_up(cold)
            self.stack[page] = pfn
        else:
            self.stack.move_to_end(page)
            if not self.is_lir[pfn]:
                self.queue.remove(pfn)
                while self.lir_count >= self._lir_limit() and self._demote():
                    pass
                self._make_lir(page, pfn)
            else:
                self._prune()
        self._limit_stack()

    def _hir_limit(self) -> int:
        return max(int(self.hir_share * self.memory.capacity), 1)

    def _demote(self) -> bool:
        """Make the LIR page at the bottom of the stack HIR; False if there is none."""
        self._prune()
        if not self.stack:
            return False
        page, pfn = next(iter(self.stack.items()))
        if pfn < 0 or not self.is_lir[pfn]:
            return False
        del self.stack[page]
        self.is_lir[pfn] = 0
        self.lir_count -= 1
        self.queue.append(pfn)
        self._prune()
        return True

    def _prune(self) -> None:
        """Remove HIR pages from the bottom of the stack until a LIR page is at the bottom, or one page is left."""
        while len(self.stack) > 1:
            page, pfn = next(iter(self.stack.items()))
            if pfn >= 0 and self.is_lir[pfn]:
                return
            del self.stack[page]
            self.gone.pop(page, None)

    def _limit_stack(self) -> None:
        """Forget the pages evicted first while the stack is too long."""
        limit = 2 * self.memory.capacity
        while len(self.stack) > limit and self.gone:
            page, _ = self.gone.popitem(last=False)
            del self.stack[page]

    def page_evicted(self, pfn: int) -> None:
        """Remove it; its page stays in the stack if it was there."""
        page = self.memory.page(pfn)
        if self.is_lir[pfn]:
            self.page_left(pfn)
            return
        self.queue.remove(pfn)
        if page in self.stack:
            self.stack[page] = -1
            self.gone[page] = None

    def page_left(self, pfn: int) -> None:
        """Remove it everywhere."""
        self.stack.pop(self.memory.page(pfn), None)
        if self.is_lir[pfn]:
            self.is_lir[pfn] = 0
            self.lir_count -= 1
            self._prune()
        else:
            self.queue.remove(pfn)

    def choose_victims(self) -> Iterator[int]:
        """The HIR pages of the queue, then LIR pages from the bottom of the stack."""
        yield from self.queue
        yield from [pfn for pfn in self.stack.values() if pfn >= 0 and self.is_lir[pfn]]

    def reason(self, pfn: int) -> str:
        """Whether it is LIR or HIR."""
        return "oldest of the LIR pages" if self.is_lir[pfn] else "high inter-reference recency, first of its queue"
