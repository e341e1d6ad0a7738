"""What an alloc policy is asked, and what it answers."""

from __future__ import annotations

from typing import Final

import msgspec

from usmd.core.hint_ranges import HintRange


class Fault(msgspec.Struct, frozen=True, gc=False):
    """A touch of one page that is not present.

    `region_id` and `page` name it, `page_count` is the length of its region in pages, `write` the kind of touch.
    `swap`: its bytes are on a swap device, so that it needs I/O. `hint`: the range in force on it, or None.
    """

    region_id: int
    page: int
    page_count: int
    write: bool
    swap: bool
    hint: HintRange | None


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """Bring `count` pages from page `first` on, which include the faulting one; that goes on `frame` if it is free.

    Pages beyond the region or the hint's range are left out by the core, and the pages beside the faulting one take
    frames above the low watermark only: nothing is evicted for a guess.
    """

    first: int
    count: int = 1
    frame: int | None = None


class UsmYield:
    """The type of USM_YIELD."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "USM_YIELD"


USM_YIELD: Final = UsmYield()
"""The answer "being done in the background: run another uThread"."""


class AsyncRequest:
    """What an alloc policy hands over to the background before it answers USM_YIELD."""

    __slots__ = ("plan",)

    def __init__(self) -> None:
        self.plan: Allocation | None = None

    def swap_in(self, plan: Allocation) -> None:
        """Have these pages filled without anybody waiting in the daemon."""
        self.plan = plan
