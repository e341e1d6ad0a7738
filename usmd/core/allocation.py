"""The question to an alloc policy, a fault, and its answers: an allocation, or USM_YIELD."""

from __future__ import annotations

from typing import Final

import msgspec

from usmd.core.hint_ranges import HintRange


class Fault(msgspec.Struct, frozen=True, gc=False):
    """A touch of one page that is not present.

    `page`: its number in region `region_id`, which has `page_count` pages. `write`: the touch is a store. `swap`: the
    page is on a swap device, so it needs I/O. `hint`: the hint in force on the page, or None.
    """

    region_id: int
    page: int
    page_count: int
    write: bool
    swap: bool
    hint: HintRange | None


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """Bring in `count` pages from page `first` on; they include the faulting page, which takes `frame` if it is free.

    The core leaves out pages beyond the region or the hint's range. The pages beside the faulting one take only frames
    above the low watermark: nothing is evicted for a guess.
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
"""Answer of an alloc policy: the pages come in the background, so run another uThread."""


class AsyncRequest:
    """Takes the plan of an alloc policy that then answers USM_YIELD."""

    __slots__ = ("plan",)

    def __init__(self) -> None:
        self.plan: Allocation | None = None

    def swap_in(self, plan: Allocation) -> None:
        """Fill these pages in the background."""
        self.plan = plan
