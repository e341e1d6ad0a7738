"""The question to an alloc policy, a fault, and its answers; and the answer of a conditional policy, its requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from usmd.core.hints import HintRange


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
    above the low watermark, or in the place of frames that are about to be free: nothing is evicted for a guess.

    With a `stride` the pages are `first`, `first + stride` and so on; no more than a fault may bring in at once.
    """

    first: int
    count: int = 1
    frame: int | None = None
    stride: int = 1


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


class Requests(msgspec.Struct, frozen=True, gc=False):
    """Requests of a conditional policy, which the core does as far as it can.

    `trim`: how many pages of the process to evict; its evict policy names them. `swap_in`: pages to bring back while
    more frames are free than the high watermark, and no page waits for one. `demote`: (page, device), pages in swap to
    move to another device; each needs a free frame for a moment. Pages are numbers as of `memory.page`. The core looks
    at no more than `CoreSettings.cond_batch` of each kind. It passes over a page that is on its way already, or that
    its hint keeps where it is. A page that is not in swap, or not the process's, is an error of the policy.
    """

    trim: int = 0
    swap_in: Iterable[int] = ()
    demote: Iterable[tuple[int, int]] = ()
