"""Guarantees (`memory_min`) and the reserve for newcomers: what a process leaves of memory and swap to others.

A process with a `memory_min` never loses a page to the fault of another one while it has at most that many pages in
memory. The sum of all guarantees is bounded, so some process is above its own whenever reclaim has work to do.

Room is what new pages can still take: free frames, and free slots to which pages in memory can go. A process leaves
room for what others lack to their guarantees. Of the reserve it leaves as many pages as it holds in memory and swap. So
a process that holds much cannot touch the reserve, a newcomer gets its first pages from it, up to half of what is left,
and the next newcomer gets some too. (Shared-memory switches bound their queues in the same way: Choudhury and Hahne,
"Dynamic queue length thresholds for shared-memory packet switches", 1998.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.errors import InvalidArgument, LimitExceeded
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.region import Process
    from usmd.core.settings import CoreSettings

MAX_WEIGHT: Final = 10_000
AMPLE: Final = 2048
"""So many free slots beyond `kept` are ample: evictions take fewer between two looks at them."""


class Guarantees:
    """Checks guarantees and weights, and says what a process leaves to others.

    `processes`: those with a guarantee. `kept`: most pages of room that a process may have to leave; 0: none at all.
    `few`: a process that finds more free frames than this may take one without asking. It is 1 while slots are ample,
    which a fault finds out, until reclaim finds them short.
    """

    __slots__ = ("_careful", "_page_size", "_reserve", "changes", "few", "kept", "most", "processes")

    def __init__(self, settings: CoreSettings) -> None:
        self._page_size = settings.page_size
        self.most = _most(settings)
        """Most pages that all guarantees together may have: reclaim must reach its high watermark without them."""
        self.processes: list[Process] = []
        self._reserve = settings.reserve
        self.kept = self.few = self._careful = 0
        self.changes = 0
        """Grows whenever other processes may have a guarantee than before."""
        self._count()

    def check(self, memory_min: int, weight: int, memory_max: int | None, process: Process | None = None) -> None:
        """Raise InvalidArgument or LimitExceeded for a guarantee, in pages, or a weight that a process cannot have.

        `process`: the one whose guarantee this replaces; None: it is a new one.
        """
        if memory_min < 0:
            raise InvalidArgument(f"memory_min of {memory_min} pages; allowed is 0 and more")
        if not 1 <= weight <= MAX_WEIGHT:
            raise InvalidArgument(f"memory_weight of {weight}; allowed are 1 to {MAX_WEIGHT}")
        if memory_max is not None and memory_min > memory_max:
            raise InvalidArgument(
                f"memory_min of {memory_min} pages; allowed is at most memory_max, which is {memory_max} pages"
            )
        others = sum(each.memory_min for each in self.processes if each is not process)
        if memory_min and others + memory_min > self.most:
            raise LimitExceeded(
                f"memory_min of {self._pages(memory_min)}; allowed is at most "
                f"{self._pages(max(self.most - others, 0))}, because all guarantees together may have "
                f"{self._pages(self.most)} (the memory below the high watermark), and those of other processes have "
                f"{self._pages(others)}"
            )

    def check_settings(self, settings: CoreSettings) -> None:
        """Raise LimitExceeded if the guarantees of processes leave too little below a new high watermark."""
        total, most = sum(each.memory_min for each in self.processes), _most(settings)
        if total > most:
            raise LimitExceeded(
                f"a high watermark of {self._pages(settings.high)}; the guarantees (memory_min) of processes have "
                f"{self._pages(total)}, and may have the memory below it, {self._pages(max(most, 0))}"
            )

    def configured(self, settings: CoreSettings) -> None:
        """The watermarks are new, and `check_settings` accepted them."""
        self.most = _most(settings)

    def _pages(self, count: int) -> str:
        return f"{count} pages ({format_size(count * self._page_size)})"

    def set(self, process: Process, memory_min: int, weight: int) -> None:
        """Give a process a guarantee and a weight, which `check` accepted."""
        if process.memory_min:
            self.processes.remove(process)
        process.memory_min, process.weight = memory_min, weight
        if memory_min:
            self.processes.append(process)
        self._count()

    def end(self, process: Process) -> None:
        """A process has ended."""
        if process.memory_min:
            self.processes.remove(process)
            self._count()

    def _count(self) -> None:
        self.changes += 1
        self.kept = self._reserve + sum(each.memory_min for each in self.processes)
        self.few = self._careful = max(self.kept, 1)

    def found(self, slots: int) -> bool:
        """Note how many slots are free; returns whether they are ample."""
        ample = slots - self.kept >= AMPLE
        self.few = 1 if ample else self._careful
        return ample

    def left_by(self, process: Process | None) -> int:
        """Pages of room that a new page of a process must leave to others; None: of any process."""
        left = 0
        for each in self.processes:
            if each is not process and each.resident < each.memory_min:
                left += each.memory_min - each.resident
        if process is None:
            return left + self._reserve
        held = process.resident
        if held < process.memory_min:
            return left
        if held < self._reserve:
            held += process.swapped
        return left + min(held, self._reserve)

    def first_in_turn(self) -> list[Process]:
        """Processes below their guarantee, whose faults are served before those of others."""
        return [each for each in self.processes if each.resident < each.memory_min]


def _most(settings: CoreSettings) -> int:
    return settings.frames - max(settings.high, 1)
