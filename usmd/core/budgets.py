"""Budgets of a process: pages in memory (`memory_max`), and pages in swap (`swap_max`).

A page counts against `swap_max` while it is in swap, on its way in or out, or in memory with the same bytes in a slot.
It counts once, also during a migration. A write to a page frees its slot. So a process never has more such pages than
its `swap_max`, and each write to swap that begins has a slot.

At its `swap_max` a process keeps one frame of its `memory_max` for pages from swap. Such a page can always be evicted
again, to the slot that it still has. So all stored pages can be read, though no dirty page can be evicted, unless
EVICTION=DENY or a pin keeps the page in that frame.

If other processes fill swap, or devices refuse pages, a process may reach its `memory_max` with dirty pages alone. It
is then lent one frame for pages from swap. A write to such a page frees its slot, and a dirty page of the same process
takes that slot in the same event. So a process is never more than one page above its `memory_max`.

Both are what a process may have now: its own limits, or less if its user has limits, see `Users`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.region import CLEAN_FRAMES, NO_MAX
from usmd.errors import InvalidArgument
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.region import Process, Region


class Grants:
    """What may change the budgets of a process in the midst of its work: nothing, without `Users`."""

    __slots__ = ()

    def more_swap(self, process: Process) -> int:
        """Give a process that is at its `swap_max` a higher one, if it can have it; returns the pages of room then."""
        return process.swap_max - process.stored

    def stored_less(self, process: Process, pages: int) -> None:
        """A process has so many pages fewer in swap."""


class Budgets:
    """Checks the budgets of processes, and counts pages against `swap_max`.

    `limited`: number of processes with a `swap_max`. `full`: number of those that are full, see `is_full`.
    `borrowers`: processes with a lent frame.
    """

    __slots__ = ("_grants", "borrowers", "full", "limited")

    def __init__(self, grants: Grants | None = None) -> None:
        """`grants`: what may change budgets; None: nothing."""
        self._grants = Grants() if grants is None else grants
        self.limited = 0
        self.full = 0
        self.borrowers: list[Process] = []

    @staticmethod
    def check(memory_max: int | None, swap_max: int | None) -> None:
        """Raise InvalidArgument for invalid budgets, in pages (None: no bound)."""
        if memory_max is not None and memory_max < 1:
            raise InvalidArgument(f"memory_max of {memory_max} pages; allowed is 1 and more")
        if swap_max is not None and swap_max < 0:
            raise InvalidArgument(f"swap_max of {swap_max} pages; allowed is 0 and more")
        if swap_max is not None and memory_max is None:
            raise InvalidArgument(
                f"swap_max of {swap_max} pages without memory_max: pages that may not go to swap would stay in memory "
                "without a bound; give memory_max as well"
            )

    def begin(self, process: Process, memory_max: int | None, swap_max: int | None) -> None:
        """Give a new process its budgets, which `check` accepted."""
        if memory_max is not None:
            process.own_memory_max = process.memory_max = process.absent_max = memory_max
        if swap_max is not None:
            process.own_swap_max = process.swap_max = swap_max
            self.limited += 1

    def change_memory_max(self, process: Process, memory_max: int) -> None:
        """Give a live process another `memory_max`.

        The frames that it has above that are lent to it until those pages are gone, and one more for a page from swap.
        """
        self.take_back(process)
        process.memory_max = memory_max
        process.absent_max = memory_max - self.is_full(process)
        if process.resident > memory_max:
            self.lend(process, process.resident - memory_max + 1)

    def change_swap_max(self, process: Process, swap_max: int) -> None:
        """Give a live process another `swap_max`, which is not below what it has."""
        full = self.is_full(process)
        self.limited += (swap_max != NO_MAX) - (process.swap_max != NO_MAX)
        process.swap_max = swap_max
        self.full += self.is_full(process) - full
        process.absent_max = process.memory_max - self.is_full(process)

    def end(self, process: Process) -> None:
        """A process has ended, and its regions are gone."""
        if process.swap_max != NO_MAX:
            self.limited -= 1
        self.take_back(process)

    def lend(self, process: Process, frames: int = 1) -> None:
        """Lend a process a frame: it may bring in one page from swap above its `memory_max`.

        More frames are only lent for pages that it has, see `change_memory_max`.
        """
        process.lent = frames
        self.borrowers.append(process)

    def take_back(self, process: Process) -> None:
        """End the loan of a frame, if there is one."""
        if process.lent:
            process.lent = 0
            self.borrowers.remove(process)

    def shrinks(self, process: Process) -> None:
        """Frames of pages above the `memory_max` are free again, so they are not lent any more."""
        process.lent = min(process.lent, max(process.resident - process.memory_max, 0) + 1)

    def room(self, process: Process, *, swap: bool) -> int:
        """Pages that a process may bring in before it must evict one. `swap`: from swap."""
        return (process.memory_max + process.lent if swap else process.absent_max) - process.resident

    def swap_room(self, process: Process) -> int:
        """Dirty pages of a process whose eviction may begin."""
        room = process.swap_max - process.stored
        return room if room > 0 or process.user is None else self._grants.more_swap(process)

    def charge(self, region: Region, change: int) -> None:
        """Pages of a region begin (above 0) or cease (below 0) to count against the `swap_max` of its process.

        They are counted without a `swap_max` as well, so that a process can be given one at any time.
        """
        if region.unmapped is None and region.process.ended is None:
            region.stored += change
            self._count(region.process, change)

    def gone(self, process: Process, stored: int) -> None:
        """Regions of a process are gone: their `stored` pages no longer count."""
        if stored:
            self._count(process, -stored)

    def _count(self, process: Process, change: int) -> None:
        if process.swap_max == NO_MAX:
            process.stored += change
            return
        before = self.is_full(process)
        process.stored += change
        if change < 0 and process.user is not None:
            self._grants.stored_less(process, -change)
        full = self.is_full(process)
        if full != before:
            self.full += full - before
            process.absent_max = process.memory_max - full
        if full and process.user is not None:
            self._grants.more_swap(process)

    def came_in_clean(self, process: Process, pfn: int) -> None:
        """A page from swap has come in: at the `swap_max` of its process it may be one of few that can go."""
        if self.is_full(process):
            if (known := process.clean_frames) is None:
                known = process.clean_frames = {}
            known.pop(pfn, None)
            known[pfn] = None
            if len(known) > CLEAN_FRAMES:
                del known[next(iter(known))]

    @staticmethod
    def is_full(process: Process) -> bool:
        """Whether a process is at its `swap_max`, and has pages that count."""
        return process.stored >= process.swap_max and process.stored > 0

    def stuck(self, process: Process) -> int:
        """A lower bound of the dirty pages of a process that stay in memory because it is at its `swap_max`."""
        if self.swap_room(process) > 0:
            return 0
        in_memory = process.stored - process.swapped
        return max(process.resident - in_memory - process.unevictable - process.pinned, 0)

    @staticmethod
    def clean(process: Process) -> int:
        """Pages of a process in memory that need no slot to be evicted, while none of its pages is being filled."""
        return process.stored - process.swapped - process.leaving

    def gives_nothing(self, process: Process) -> bool:
        """Whether a process is at its `swap_max`, and all its pages in memory are dirty or on their way out."""
        return self.swap_room(process) <= 0 and self.clean(process) <= 0

    @staticmethod
    def swap_in_words(process: Process, page_size: int) -> str:
        """For an error message: how much of its `swap_max` a process uses; empty if it is not at it."""
        if process.stored < process.swap_max:
            return ""
        user = process.user
        if user is not None and user.swap_max != NO_MAX and process.stored < process.own_swap_max:
            size = format_size(user.swap_max * page_size)
            return f"{user.stored} pages count against the swap_max of user {user.uid}, {user.swap_max} ({size})"
        size = format_size(process.swap_max * page_size)
        return f"{process.stored} pages count against its swap_max of {process.swap_max} ({size})"
