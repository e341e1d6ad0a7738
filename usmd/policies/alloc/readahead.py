"""Readahead: faults in order bring in a growing window of pages; faults in no order bring in one page each.

After the ondemand readahead of Linux (Wu, Xi, Xu: "On the Design of a New Linux Readahead Framework", 2008), with
several streams a region, as UMap has (Peng et al.: "UMap: Enabling Application-driven Optimizations for Page
Management", 2019), and strides, as Leap follows (Al Maruf, Chowdhury: "Effectively Prefetching Remote Memory with
Leap", 2020).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
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
MOST_BYTES: Final = 2 << 20
"""Bytes of the largest block of AUTO: what a huge folio has."""
FIRST_BLOCK: Final = 16
"""Pages of the first block of a region, unless it is ROOMY or on trial."""
ROOMY: Final = 8
"""A region has so many of the largest blocks at least, and its first block is one, if twice its missing pages fit into
the ample frames."""
BLOCK_GROWTH: Final = 4
"""A block has so many times as many pages as the one before."""
AMPLE_SHARE: Final = 8
"""A block takes at most one in this many of the frames that are ample."""
EVIDENCE: Final = 64
"""Pages that came along and are known to be used or unused, by which the largest block of a region is judged."""
TRIAL: Final = 16
"""Blocks of a region that does not fit into the ample frames, by which it is seen whether blocks are used. Together
they take one in AMPLE_SHARE of those frames, or FIRST_BLOCK pages each if that is more."""
HITS: Final = 2
"""Blocks of a trial that must be used."""
TRY_AGAIN: Final = 1024
"""Faults after which a region whose blocks were in vain has blocks of FIRST_BLOCK pages again; then twice as many."""
PROBES: Final = 8
"""Pages of a block that are looked up: if one is there, half the block is tried."""
CACHE_SHARE: Final = 4
"""A window has at most one in this many of the frames that its process may fill."""


class _Stream:
    """Faults that follow each other.

    `last`: the page of the latest fault, which brought in `window` pages. `step`: pages from one to the next, negative
    downwards. `next`: the first page behind the window. `below`: the page before `last` while the stream may still turn
    downwards, else -1. `hits`: faults on the expected page so far, up to OPENS_AT.
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


class _Blocks:
    """The blocks of a region with AUTO.

    `first`, `largest`: pages of the first one, and most of any. `block`: of the next one. `most`: of the largest that
    what came along justifies. `used`, `unused`: the counts as of the last judgement. `alone`: faults since then, while
    `most` is 1, of at most `patience`. `ends`: the last pages of the blocks of a trial, which are left out: a fault on
    one is a hit, which shows that the block is used to its end. `hits`: up to HITS, with which the trial is over.
    """

    __slots__ = ("alone", "block", "ends", "first", "hits", "largest", "most", "patience", "unused", "used")

    def __init__(self, largest: int) -> None:
        self.ends: set[int] = set()
        self.hits = 0
        self.first = min(FIRST_BLOCK, largest)
        self.largest = largest
        self.block = self.first
        self.most = largest
        self.used = 0
        self.unused = 0
        self.alone = 0
        self.patience = TRY_AGAIN


@mypyc_attr(allow_interpreted_subclasses=True)
class Readahead(AllocPolicy):
    """A fault behind the pages that the one before it brought in brings in twice as many; any other fault, one.

    The third fault in a row on neighbouring pages, or on pages that are equally far apart, opens a window, upwards or
    downwards, which grows to `pages`. ACCESS=SEQUENTIAL opens it at the first fault, upwards; with ACCESS=RANDOM there
    is none. `hinted` is the alloc policy of the pages that have the hint FHP=<size>. With FHP=AUTO, or without a hint
    if `auto`, a fault brings in the aligned block around it while frames are ample. Blocks grow from fault to fault up
    to 2 MiB, and have that size at once in a region of 16 MiB and more that fits twice. In one that does not fit, as
    addresses set aside for a program, 16 blocks of an eighth of what is ample in all show whether blocks are used. They
    shrink as frames become fewer, and if of what came along more is evicted unused than is used.
    """

    builds_on = ("hinted",)
    heeds = frozenset({"FHP", "ACCESS"})

    def __init__(
        self,
        memory: MemoryView,
        pages: int = 256,
        hinted: str = "flexible_huge_pages(pages=1)",
        auto: bool = False,
    ) -> None:
        if pages < 1:
            raise InvalidArgument(f"readahead(pages={pages}); allowed are pages from 1")
        super().__init__(memory)
        self.pages = pages
        self.hinted = alloc_policy(memory, hinted)
        self.auto = auto
        self._regions: dict[int, _Region] = {}
        self._blocks: dict[int, _Blocks] = {}

    def allocate(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        """The window of the stream that the fault belongs to, else the faulting page."""
        hint = fault.hint
        auto = hint is not None and hint.hint.fhp_bytes == 0 and hint.hint.access is Access.NORMAL
        if auto or hint is None:
            if auto or self.auto:
                block = self._block(fault)
                if block is not None:
                    return block
            region = self._regions.get(fault.region_id)
            if region is not None and not region.streams:
                page, alone = fault.page, region.alone
                if page - 1 not in alone and page + 1 not in alone:  # the usual case of faults in no order
                    likely = True
                    if len(alone) == STREAMS:  # the usual case, at the cost of a glance
                        first, _, third, fourth = alone
                        likely = page - fourth == fourth - third or page - third == third - first
                    if likely and (stride := _stride(alone, page)):
                        return self._begin_stride(region, fault, stride)
                    alone.append(page)
                    return Allocation(page)
        return self._follow(fault, async_rq)

    def come_alone(self, region_id: int, pages: list[int]) -> int:
        """Pages in no order, up to the first that may belong to a stream."""
        region = self._regions.get(region_id)
        if self.auto or region is None or region.streams or len(region.alone) < STREAMS:
            return 0
        first, second, third, fourth = region.alone
        count = 0
        for page in pages:
            before, behind = page - 1, page + 1
            if (
                page - fourth == fourth - third  # as in `allocate`, a stride is likely
                or page - third == third - first
                or before == first or before == second or before == third or before == fourth
                or behind == first or behind == second or behind == third or behind == fourth
            ):  # fmt: skip
                break
            first, second, third, fourth = second, third, fourth, page
            count += 1
        region.alone.extend((first, second, third, fourth))
        return count

    def _follow(self, fault: Fault, async_rq: AsyncRequest) -> Allocation | UsmYield:
        page, hint = fault.page, fault.hint
        ordered = False
        if hint is not None:
            if hint.hint.fhp_bytes:
                return self.hinted.allocate(fault, async_rq)
            if hint.hint.access is Access.RANDOM:
                return Allocation(page)
            ordered = hint.hint.access is Access.SEQUENTIAL
            if ordered and hint.hint.fhp_bytes == 0:
                block = self._block(fault)
                if block is not None:
                    return block
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

    # AUTO

    def _block(self, fault: Fault) -> Allocation | None:
        """The aligned block around a fault; None if frames are not ample, or blocks are in vain."""
        region_id, page = fault.region_id, fault.page
        blocks = self._blocks.get(region_id) or self._add_blocks(fault)
        ample = self.memory.ample_frames
        if ample < 2 * AMPLE_SHARE:  # the usual case while memory is short
            blocks.block = blocks.first
            return None
        self._judge(blocks, region_id)
        most = min(blocks.most, ample // AMPLE_SHARE)
        if most <= 1:
            blocks.block = blocks.first
            return None
        trial = blocks.hits < HITS and self.memory.missing_pages(region_id) > ample
        if trial and page in blocks.ends:
            blocks.ends.discard(page)
            blocks.hits += 1
            return Allocation(page)
        if trial:
            share = max(ample // (AMPLE_SHARE * TRIAL), blocks.first)
            blocks.block = min(1 << share.bit_length() - 1, blocks.largest)
        block = min(blocks.block, 1 << most.bit_length() - 1)
        first, end = 0, fault.page_count
        if fault.hint is not None:
            first, end = fault.hint.first, min(fault.hint.end, end)
        if not trial:
            blocks.block = min(block * BLOCK_GROWTH, blocks.largest)
        while block > 1:
            start = page - page % block
            low, high = max(start, first), min(start + block, end)
            if not self._partly_there(region_id, low, high):
                return self._tried(blocks, page, low, high) if trial else Allocation(low, high - low)
            block //= 2
        return Allocation(page)

    @staticmethod
    def _tried(blocks: _Blocks, page: int, low: int, high: int) -> Allocation:
        """A block of a trial, without its last page. If TRIAL blocks were not used, there are no more for a while."""
        blocks.ends.add(high - 1)
        if len(blocks.ends) > TRIAL:
            blocks.ends.clear()
            blocks.hits, blocks.most, blocks.alone = 0, 1, 0
            return Allocation(page)
        return Allocation(low, high - low) if page == high - 1 else Allocation(low, high - 1 - low)

    def _judge(self, blocks: _Blocks, region_id: int) -> None:
        """Halve the largest block of a region twice if of what came along more was evicted unused than is used."""
        used, unused = self.memory.came_along(region_id)
        if used + unused >= blocks.used + blocks.unused + EVIDENCE:
            in_vain = unused - blocks.unused > used - blocks.used
            blocks.most = max(blocks.most // BLOCK_GROWTH, 1) if in_vain else min(blocks.most * 2, blocks.largest)
            blocks.used, blocks.unused, blocks.alone = used, unused, 0
        elif blocks.most == 1:
            blocks.alone += 1
            if blocks.alone >= blocks.patience:
                blocks.alone, blocks.most = 0, blocks.first
                blocks.patience *= 2

    def _partly_there(self, region_id: int, low: int, high: int) -> bool:
        """Whether a page of a range has a frame, judged by some of them: a block of missing pages comes in as one."""
        frame = self.memory.frame
        return any(frame(region_id, page) is not None for page in range(low, high, max((high - low) // PROBES, 1)))

    def _add_blocks(self, fault: Fault) -> _Blocks:
        region_id, largest = fault.region_id, max(MOST_BYTES // self.memory.page_size, 1)
        blocks = self._blocks[region_id] = _Blocks(largest)
        if ROOMY * largest <= fault.page_count and 2 * self.memory.missing_pages(region_id) <= self.memory.ample_frames:
            blocks.block = largest
        if len(self._blocks) > REGIONS:
            del self._blocks[next(iter(self._blocks))]
        return blocks

    # Streams

    def _is_ahead(self, stream: _Stream, fault: Fault) -> bool:
        """Whether a page is in a stream's window, or behind it with no absent page in between.

        A page in the window was left out when memory was short, or evicted before it was used.
        """
        ahead, beside = divmod(fault.page - stream.last, stream.step)
        if beside or not 0 < ahead < 2 * stream.window:
            return False
        frame = self.memory.frame
        return ahead < stream.window or all(
            frame(fault.region_id, page) is not None for page in range(stream.next, fault.page, stream.step)
        )

    def _begin(self, region: _Region, fault: Fault, *, ordered: bool) -> Allocation:
        """Begin a stream with one page, or with a window if a hint says that the pages are used in order."""
        streams = region.streams
        if not ordered and (stride := _stride([each.last for each in streams if not each.hits], fault.page)):
            return self._begin_stride(region, fault, stride)
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

    def _begin_stride(self, region: _Region, fault: Fault, stride: int) -> Allocation:
        """Begin a stream of faults that are so many pages apart, with a window."""
        stream = _Stream(fault.page, self._at_most(region, FIRST_WINDOW), OPENS_AT)
        stream.step = stride
        stream.next = fault.page + stride * stream.window
        region.alone.clear()
        region.streams = [*(each for each in region.streams if each.hits), stream]
        return self._plan(stream, fault)

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
        page, window, hint, stride = fault.page, stream.window, fault.hint, abs(stream.step)
        if window == 1:
            return Allocation(page)
        if stream.step > 0:
            end = fault.page_count if hint is None else min(hint.end, fault.page_count)
            return Allocation(page, min(window, (end - page + stride - 1) // stride), None, stride)
        count = min(window, (page - (0 if hint is None else hint.first)) // stride + 1)
        return Allocation(page - (count - 1) * stride, count, None, stride)

    def _at_most(self, region: _Region, window: int) -> int:
        """A window within the region's bound and its share of the memory."""
        return max(min(window, region.bound, self.memory.capacity // CACHE_SHARE), 1)

    def _add_region(self, region_id: int) -> _Region:
        region = self._regions[region_id] = _Region(self.pages)
        if len(self._regions) > REGIONS:
            del self._regions[next(iter(self._regions))]
        return region


def _stride(faults: Sequence[int], page: int) -> int:
    """Pages from one fault to the next, if three are so many apart, in a row or by turns with others; else 0."""
    for turn in (1, 2):
        if len(faults) >= 2 * turn:
            stride = page - faults[-turn]
            if stride == faults[-turn] - faults[-2 * turn] and abs(stride) > 1:
                return stride
    return 0
