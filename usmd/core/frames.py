"""The frame table: one entry per frame, as a struct of arrays.

A frame costs 22 bytes here and 12 in `frame_list.FrameLinks`; nothing else grows with the number of frames.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from usmd.core.columns import wide_column

FREE: Final = 0
FILLING: Final = 1
PRESENT: Final = 2
EVICTING: Final = 3

STATE_NAMES: Final = ("FREE", "FILLING", "PRESENT", "EVICTING")

DIRTY: Final = 1
"""The bytes differ from the slot, or there is no slot."""
UNEVICTABLE: Final = 2
"""EVICTION=DENY keeps the page in memory, within the budget."""
HELD: Final = 4
"""The page was faulted in and not touched yet, so reclaim passes over it for a moment."""
PINNED: Final = 32
"""Its process pinned the page, within the budget that UNEVICTABLE pages share."""
ZERO: Final = 64
"""In a simulation without bytes: the page was zero-filled and not written to since, so it takes no slot."""
ALONG: Final = 128
"""The page came in with a fault on another page, or by WILLNEED, and no touch of it is known yet."""
KEPT: Final = UNEVICTABLE | PINNED
"""Flags of pages that are not evictable; the evict policy does not know them."""
PRIORITY_SHIFT: Final = 3
PRIORITY_MASK: Final = 3 << PRIORITY_SHIFT
"""Two bits: the priority of the hint in force, see `hints.Priority`."""

WITHOUT: Final = {
    bits: bytes(not flags & bits for flags in range(256)) for bits in (DIRTY, KEPT, KEPT | DIRTY, KEPT | DIRTY | HELD)
}
"""For `bytes.translate`: 1 where flags have none of the bits."""

IS_PRESENT: Final = bytes(state == PRESENT for state in range(256))
"""For `bytes.translate`: 1 where a frame's state is PRESENT."""

PRIORITY_OF: Final = bytes((flags & PRIORITY_MASK) >> PRIORITY_SHIFT for flags in range(256))
"""Priority by flags."""

EVICTABLE_AT: Final = tuple(
    bytes(not flags & KEPT and PRIORITY_OF[flags] == priority for flags in range(256)) for priority in range(3)
)
"""For `bytes.translate`, by priority: 1 if a page of that priority may be evicted. At LOW also 1 for a FREE frame."""

CLEAN_AT: Final = tuple(
    bytes(may_go and not flags & DIRTY for flags, may_go in enumerate(evictable)) for evictable in EVICTABLE_AT
)
"""As EVICTABLE_AT, without dirty pages."""

ENDS_ZERO: Final = 0
"""The page is all zero: its eviction makes it ABSENT, without a slot."""
ENDS_CLEAN: Final = 1
"""The slot of the page has the same bytes: its eviction writes nothing."""
ENDS_WRITTEN: Final = 2
"""The page is dirty: its eviction writes it to a slot."""
RESULTS: Final = ("zero", "dropped", "swapped")
"""Result in the record of an eviction, by its end."""
END_OF: Final = bytes(
    ENDS_ZERO if flags & ZERO else ENDS_WRITTEN if flags & DIRTY else ENDS_CLEAN for flags in range(256)
)
"""End of an eviction by the page's flags. If there are bytes, the caller adds ZERO for bytes that are all zero."""

NO_PAGE: Final = -1
NO_SLOT: Final = -1


class FrameTable:
    """State, flags, page and slot of every frame.

    `state[pfn]` is FREE, FILLING, PRESENT or EVICTING; `flags[pfn]` a union of the bits above; `page[pfn]` the page
    key (see `region.page_key`) or NO_PAGE; `filled[pfn]` the time, as a 32-bit float of seconds, at which the page came
    in; `slot[pfn]` the reference (see `swap_map`) of the slot with the same bytes, or NO_SLOT.
    """

    __slots__ = ("_lowest", "count", "filled", "flags", "free", "page", "slot", "state")

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        self.state = bytearray(count)
        self.flags = bytearray(count)
        self.page = wide_column(count, NO_PAGE)
        self.slot = wide_column(count, NO_SLOT)
        self.filled = array("f", [0.0]) * count
        self._lowest = 0

    def take(self, prefer: int | None = None) -> int:
        """Take the preferred frame if it is free, else the lowest free one; its state becomes FILLING.

        The caller checks that `free` is not 0.
        """
        state = self.state
        if prefer is not None and 0 <= prefer < self.count and state[prefer] == FREE:
            pfn = prefer
        else:
            pfn = state.find(FREE, self._lowest)
            self._lowest = pfn + 1
        state[pfn] = FILLING
        self.free -= 1
        return pfn

    def take_run(self, first: int, length: int, state: int) -> None:
        """Take `length` frames from `first` on, which are free, and give them a state."""
        self.state[first : first + length] = bytes((state,)) * length
        self.free -= length

    def find_run(self, length: int) -> int | None:
        """First frame of the lowest run of `length` free frames, or None; takes none of them."""
        lowest = self.state.find(FREE, self._lowest)
        if lowest < 0:
            return None
        self._lowest = lowest  # a byte is found much faster than a run
        pfn = self.state.find(bytes(length), lowest)
        return pfn if pfn >= 0 else None

    def give_back(self, pfn: int) -> None:
        """Make a frame free, and clear its entry."""
        self.state[pfn] = FREE
        self.flags[pfn] = 0
        self.page[pfn] = NO_PAGE
        self.slot[pfn] = NO_SLOT
        self.free += 1
        if pfn < self._lowest:
            self._lowest = pfn

    def present_without(self, bits: int) -> Iterator[int]:
        """Frames that are PRESENT without these flags as the first is asked for; `bits` is a key of WITHOUT."""
        flags = int.from_bytes(self.flags.translate(WITHOUT[bits]), "little")
        present = int.from_bytes(self.state.translate(IS_PRESENT), "little")
        marked = (flags & present).to_bytes(self.count, "little")
        pfn = marked.find(1)
        while pfn >= 0:
            yield pfn
            pfn = marked.find(1, pfn + 1)

    def count_state(self, state: int) -> int:
        """Frames in a state."""
        return self.state.count(state)
