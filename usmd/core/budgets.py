"""What a process may have: pages in memory (`memory_max`), and pages in swap (`swap_max`).

A page counts against `swap_max` while it is in swap; in memory while its slot has its bytes, so that it can go again
without a write; and while it is on its way out, for the slot that it may need. It counts once, also while it moves from
one device to another. A page that is written to gives its slot up. So a process never has more of them than its
`swap_max`, and a write that has begun always has its slot.

At its `swap_max` a process keeps one frame of its `memory_max` for pages from swap. Such a page can always go again, to
the slot that it still has. So all that is stored can be read, though no page that is dirty can go, unless
EVICTION=DENY or a pin holds the page in that frame.

Where other processes have filled swap, a process may be at its `memory_max` with dirty pages alone, which it could not
foresee. It is lent one frame then, for pages from swap. When such a page is written to, its slot is free, and a dirty
page of the same process takes it in the same event. So a process is never more than one page above its `memory_max`.

Not here: faults for which there is no room (`budget_queue`), and `resident`, which the steps count that give and take
frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.region import NO_MAX
from usmd.errors import InvalidArgument
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.region import Process, Region


class Budgets:
    """Says what room processes have, and counts what takes of it.

    `limited`: processes with a `swap_max`. Without any nothing is counted. `full`: those that are at it, and have pages
    that count. `borrowers`: those that were lent a frame.
    """

    __slots__ = ("borrowers", "full", "limited")

    def __init__(self) -> None:
        self.limited = 0
        self.full = 0
        self.borrowers: list[Process] = []

    @staticmethod
    def check(memory_max: int | None, swap_max: int | None) -> None:
        """Raise InvalidArgument unless a process may have these budgets, in pages (None: no bound)."""
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
        """Give a new process its budgets, which were checked."""
        if memory_max is not None:
            process.memory_max = process.absent_max = memory_max
        if swap_max is not None:
            process.swap_max = swap_max
            self.limited += 1

    def end(self, process: Process) -> None:
        """A process has ended, and its regions are gone."""
        if process.swap_max != NO_MAX:
            self.limited -= 1
        self.take_back(process)

    def lend(self, process: Process) -> None:
        """Let a process have one page from swap above its `memory_max`."""
        process.lent = 1
        self.borrowers.append(process)

    def take_back(self, process: Process) -> None:
        """A process needs no frame above its `memory_max` any more."""
        if process.lent:
            process.lent = 0
            self.borrowers.remove(process)

    def room(self, process: Process, *, swap: bool) -> int:
        """Pages that a process may bring in before it must give one; `swap`: from swap."""
        return (process.memory_max + process.lent if swap else process.absent_max) - process.resident

    def swap_room(self, process: Process) -> int:
        """Dirty pages of a process that may begin to go to swap."""
        return process.swap_max - process.stored

    def charge(self, region: Region, change: int) -> None:
        """A page of a region begins (1) or ceases (-1) to count against its process's `swap_max`, if it has one."""
        process = region.process
        if process.swap_max == NO_MAX or region.gone is not None:
            return
        region.stored += change
        self._count(process, change)

    def gone(self, process: Process, stored: int) -> None:
        """Regions of a process are gone, and `stored` pages of them count no more."""
        if stored:
            self._count(process, -stored)

    def _count(self, process: Process, change: int) -> None:
        before = self.is_full(process)
        process.stored += change
        full = self.is_full(process)
        if full != before:
            self.full += full - before
            process.absent_max = process.memory_max - full

    @staticmethod
    def is_full(process: Process) -> bool:
        """Whether a process has pages that count, as many as its `swap_max` allows."""
        return process.stored >= process.swap_max and process.stored > 0

    def stuck(self, process: Process) -> int:
        """Pages of a process that stay because they are dirty and it is at its `swap_max`; at least so many."""
        if process.stored < process.swap_max:
            return 0
        in_memory = process.stored - _swapped(process)
        return max(process.resident - in_memory - process.unevictable - process.pinned, 0)

    def gives_nothing(self, process: Process) -> bool:
        """Whether a process is at its `swap_max`, and all its pages in memory are dirty or on their way out."""
        return process.stored >= process.swap_max and process.stored - _swapped(process) <= process.leaving

    @staticmethod
    def swap_in_words(process: Process, page_size: int) -> str:
        """How much of its `swap_max` a process has used, where it is at it; else an empty text."""
        if process.stored < process.swap_max:
            return ""
        size = format_size(process.swap_max * page_size)
        return f"{process.stored} pages count against its swap_max of {process.swap_max} ({size})"


def _swapped(process: Process) -> int:
    """Pages of a process that are in swap only."""
    return sum(region.swapped for region in process.regions.values())
