"""Readahead: faults in order bring in a growing window of pages; faults in no order bring in one page each.

After the ondemand readahead of Linux (Wu, Xi, Xu: "On the Design of a New Linux Readahead Framework", 2008), with
several streams a region, as UMap has (Peng et al.: "UMap: Enabling Application-driven Optimizations for Page
Management", 2019), and strides, as Leap follows (Al Maruf, Chowdhury: "Effectively Prefetching Remote Memory with
Leap", 2020).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mypy_extensions import mypyc_attr

from usmd.core.hints import Access
from usmd.core.policy import Allocation, AllocPolicy, AsyncRequest, Fault, UsmYield, alloc_policy
from usmd.core.view import MemoryView
from usmd.errors import InvalidArgument

STREAMS: Final = 4
"""Streams that are followed in a region; a fault that belongs to none takes the place of the one unused longest."""
REGIONS: Final = 256
"""Regions whose streams are remembered: those of the latest faults."""
OPENS_AT: Final = 2
"""Consecutive hits after which a stream has a window."""
FIRST_WINDOW: Final = 4
"""Pages of a stream's first window."""
HINTED_WINDOW: Final = 16
"""Pages of the first window with ACCESS=SEQUENTIAL."""
LEAST_BOUND: Final = 8
"""The largest window of a region whose windows were in vain is not bounded further than to this."""
CACHE_SHARE: Final = 4
"""A window has at most one in this many of the frames that its process may fill."""


class _Stream:
    """Faults that follow each other.

    `last`: the page of the latest fault, which brought in `window` pages. `step`: 1 upwards, -1 downwards. `next`: the
    first page behind the window. `below`: the page before `last` while the stream may still turn downwards, else -1.
    `hits`: faults on the expected page so far, up to OPENS_AT.
    """

    __slots__ = ("below", "hits", "last", "next", "step", "window")

    def __init__(self, page: int, window: int, hits: int) -> None:
        self.begin(page, window, hits)

    def begin(self, page: int, window: int, hits: int) -> None:
        """Begin with a fault on a page, which brings in a window upwards."""
        self.last = page
        self.step = 1
        self.window = window
        self.next = page + window
        self.below = -1 if hits == OPENS_AT else page - 1
        self.hits = hits


class _Region:
    """The streams of a region, the one unused longest first, and its largest window.

    `alone`: the pages of the latest faults, in place of `streams`, while none of them has been followed by another. So
    faults in no order, of which each begins a stream, make none.
    """

    __slots__ = ("alone", "bound", "streams")

    def __init__(self, bound: int) -> None:
        self.alone: deque[int] = deque(maxlen=STREAMS)
        self.streams: list[_Stream] = []
        self.bound = bound


@mypyc_attr(allow_interpreted_subclasses=True)
class Readahead(AllocPolicy):
    """A fault behind the pages that the one before it brought in brings in twice as many; any other fault, one.

    The third fault in a row on neighbouring pages opens a window, upwards or downwards, which grows to `pages`.
    ACCESS=SEQUENTIAL opens it at the first fault, upwards; with ACCESS=RANDOM there is none. `hinted` is the alloc
    policy of the pages that have the hint FHP.
    """

    builds_on = ("hinted",)
    heeds = frozenset({"FHP", "ACCESS"})

    def __init__(self, memory: MemoryView, pages: int = 256, hinted: str = "flexible_huge_pages(pages=1)") -> None:
        if pages < 1:
            raise InvalidArgument(f"readahead(pages={pages}); allowed are pages from 1")
        super().__init__(memory)
        self.pages = pages
        self.hinted = alloc_policy(memory, hinted)
        self._regions: dict[int, _Region] = {}

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        """The window of the stream that the fault belongs to, else the faulting page."""
        if fault.hint is None:
            region = self._regions.get(fault.region_id)
            if region is not None and not region.streams:
                page, alone = fault.page, region.alone
                if page - 1 not in alone and page + 1 not in alone:  # the usual case of faults in no order
                    alone.append(page)
                    return Allocation(page)
        return self._follow(fault, async_rq)

    def _follow(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        page, hint = fault.page, fault.hint
        ordered = False
        if hint is not None:
            if hint.hint.fhp_bytes is not None:
                return self.hinted.allocate(fault, async_rq)
            if hint.hint.access is Access.RANDOM:
                return Allocation(page)
            ordered = hint.hint.access is Access.SEQUENTIAL
        region = self._regions.get(fault.region_id) or self._add_region(fault.region_id)
        if region.alone:
            region.streams = [_Stream(each, 1, 0) for each in region.alone]
            region.alone.clear()
        opened = False
        for stream in region.streams:
            if stream.next == page:
                return self._go_on(region, stream, fault, grows=True)
            if stream.below == page:
                stream.step = -1
                return self._go_on(region, stream, fault, grows=True)
            opened = opened or stream.hits == OPENS_AT
        if opened:
            for stream in reversed(region.streams):
                if stream.hits == OPENS_AT and self._is_ahead(stream, fault):
                    if self.memory.frame(fault.region_id, page) is not None:
                        return Allocation(page)  # it is coming in; this asks only whether the fault yields
                    return self._go_on(region, stream, fault, grows=(page - stream.next) * stream.step > 0)
        return self._begin(region, fault, ordered=ordered)

    def _is_ahead(self, stream: _Stream, fault: Fault) -> bool:
        """Whether a page is in a stream's window, or behind it with no absent page in between.

        A page in the window was left out when memory was short, or evicted before it was used.
        """
        ahead = (fault.page - stream.last) * stream.step
        if not 0 < ahead < 2 * stream.window:
            return False
        frame = self.memory.frame
        return ahead < stream.window or all(
            frame(fault.region_id, page) is not None for page in range(stream.next, fault.page, stream.step)
        )

    def _begin(self, region: _Region, fault: Fault, *, ordered: bool) -> Allocation:
        """Begin a stream with one page, or with a window if a hint says that the pages are used in order."""
        streams = region.streams
        stream = None
        if len(streams) >= STREAMS:
            stream = streams.pop(0)
            if stream.window > 1:  # the last window was not used to its end
                region.bound = max(region.bound // 2, min(LEAST_BOUND, self.pages))
        window, hits = (self._at_most(region, HINTED_WINDOW), OPENS_AT) if ordered else (1, 0)
        if hits == 0 and not any(each.hits for each in streams):
            region.alone.extend(each.last for each in streams)
            region.alone.append(fault.page)
            streams.clear()
            return Allocation(fault.page)
        if stream is None:
            stream = _Stream(fault.page, window, hits)
        else:
            stream.begin(fault.page, window, hits)
        streams.append(stream)
        return Allocation(fault.page) if window == 1 else self._plan(stream, fault)

    def _go_on(self, region: _Region, stream: _Stream, fault: Fault, *, grows: bool) -> Allocation:
        """The next window of a stream."""
        streams = region.streams
        if streams[-1] is not stream:
            streams.remove(stream)
            streams.append(stream)
        window = stream.window
        if stream.hits < OPENS_AT:
            stream.hits += 1
        if stream.hits == OPENS_AT and grows:
            if window == region.bound:
                region.bound = min(2 * window, self.pages)
            window = self._at_most(region, 2 * window if window > 1 else FIRST_WINDOW)
        stream.last, stream.window = fault.page, window
        stream.next = fault.page + stream.step * window
        stream.below = fault.page - 1 if stream.hits < OPENS_AT and stream.step > 0 else -1
        return self._plan(stream, fault)

    @staticmethod
    def _plan(stream: _Stream, fault: Fault) -> Allocation:
        """The window of a stream, cut to the region and to the hint."""
        page, window, hint = fault.page, stream.window, fault.hint
        if window == 1:
            return Allocation(page)
        if stream.step > 0:
            end = fault.page_count if hint is None else min(hint.end, fault.page_count)
            return Allocation(page, min(window, end - page))
        first = max(page - window + 1, 0 if hint is None else hint.first)
        return Allocation(first, page - first + 1)

    def _at_most(self, region: _Region, window: int) -> int:
        """A window within the region's bound and its share of the memory."""
        return max(min(window, region.bound, self.memory.capacity // CACHE_SHARE), 1)

    def _add_region(self, region_id: int) -> _Region:
        region = self._regions[region_id] = _Region(self.pages)
        if len(self._regions) > REGIONS:
            del self._regions[next(iter(self._regions))]
        return region
