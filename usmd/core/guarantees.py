"""Guarantees (`memory_min`) and the reserve for newcomers: what a process leaves of memory and swap to others.

A process with a `memory_min` never loses a page to the fault of another one while it has at most that many pages in
memory. The sum of all guarantees is bounded, so some process is above its own whenever reclaim has work to do.

A guarantee of a user is for its processes together. Before reclaim looks for pages, each gets the part of it that
covers its pages (`balance`); the one furthest above its share is the first that may lose some.

Room is what new pages can still take: free frames, and free slots to which pages in memory can go. A process leaves
room for what others lack to their guarantees. Of the reserve it leaves as many pages as it holds in memory and swap. So
a process that holds much cannot touch the reserve, a newcomer gets its first pages from it, up to half of what is left,
and the next newcomer gets some too. (Shared-memory switches bound their queues in the same way: Choudhury and Hahne,
"Dynamic queue length thresholds for shared-memory packet switches", 1998.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usmd.core.level import level
from usmd.errors import InvalidArgument, LimitExceeded
from usmd.sizes import format_size

if TYPE_CHECKING:
    from usmd.core.region import Process, User
    from usmd.core.settings import CoreSettings

MAX_WEIGHT: Final = 10_000
MOST_GIVERS: Final = 8
"""Processes of one user that are asked for pages for one fault."""
BATCH: Final = 8
"""Most victims in one event while a process has a guarantee: its faults wait for the event under way."""
AMPLE: Final = 2048
"""So many free slots beyond `kept` are ample: evictions take fewer between two looks at them."""


class Guarantees:
    """Checks guarantees and weights, and says what a process leaves to others.

    `processes`: those with a guarantee, their own or their user's; `users`: those with one. `kept`: most pages of room
    that a process may have to leave; 0: none at all.
    `few`: a process that finds more free frames than this may take one without asking. It is 1 while slots are ample,
    which a fault finds out, until reclaim finds them short. `batch`: most victims in one event.
    """

    __slots__ = (
        "_careful", "_most_in_batch", "_page_size", "_reserve", "batch", "changes", "few", "kept", "most", "processes",
        "users",
    )  # fmt: skip

    def __init__(self, settings: CoreSettings) -> None:
        self._page_size = settings.page_size
        self.most = _most(settings)
        """Most pages that all guarantees together may have: reclaim must reach its high watermark without them."""
        self.processes: list[Process] = []
        self.users: list[User] = []
        self._reserve = settings.reserve
        self.kept = self.few = self._careful = 0
        self.batch = self._most_in_batch = settings.reclaim_batch
        self.changes = 0
        """Grows whenever other processes may have a guarantee than before."""
        self._count()

    def check(self, memory_min: int, weight: int, memory_max: int | None, before: int = 0) -> None:
        """Raise InvalidArgument or LimitExceeded for a guarantee, in pages, or a weight that a process cannot have.

        `before`: the guarantee that this replaces.
        """
        if memory_min < 0:
            raise InvalidArgument(f"memory_min of {memory_min} pages; allowed is 0 and more")
        if not 1 <= weight <= MAX_WEIGHT:
            raise InvalidArgument(f"memory_weight of {weight}; allowed are 1 to {MAX_WEIGHT}")
        if memory_max is not None and memory_min > memory_max:
            raise InvalidArgument(
                f"memory_min of {memory_min} pages; allowed is at most memory_max, which is {memory_max} pages"
            )
        others = self._total() - before
        if memory_min and others + memory_min > self.most:
            raise LimitExceeded(
                f"memory_min of {self._pages(memory_min)}; allowed is at most "
                f"{self._pages(max(self.most - others, 0))}, because all guarantees together may have "
                f"{self._pages(self.most)} (the memory below the high watermark), and those of other processes have "
                f"{self._pages(others)}"
            )

    def _total(self) -> int:
        return sum([each.own_memory_min for each in self.processes]) + sum([each.memory_min for each in self.users])

    def check_settings(self, settings: CoreSettings) -> None:
        """Raise LimitExceeded if the guarantees of processes leave too little below a new high watermark."""
        total, most = self._total(), _most(settings)
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
        self._remove(process)
        process.memory_min = process.own_memory_min = memory_min
        process.weight = weight
        self.joined(process)

    def set_user(self, user: User, memory_min: int) -> None:
        """Give a user a guarantee, which `check` accepted."""
        if user.memory_min == memory_min:
            return
        for process in user.processes:
            self._remove(process)
        if user.memory_min:
            self.users.remove(user)
        user.memory_min = memory_min
        if memory_min:
            self.users.append(user)
        for process in user.processes:
            process.memory_min = process.own_memory_min
            if memory_min or process.own_memory_min:
                self.processes.append(process)
        self._count()

    def joined(self, process: Process) -> None:
        """A process has its guarantee, and its user."""
        user = process.user
        if (process.own_memory_min or (user is not None and user.memory_min)) and process not in self.processes:
            self.processes.append(process)
        self._count()

    def end(self, process: Process) -> None:
        """A process has ended."""
        if process in self.processes:
            self.processes.remove(process)
            self._count()

    def _remove(self, process: Process) -> None:
        if process in self.processes:
            self.processes.remove(process)

    def _count(self) -> None:
        self.changes += 1
        self.kept = self._reserve + self._total()
        self.few = self._careful = max(self.kept, 1)
        self.batch = min(self._most_in_batch, BATCH) if self.processes else self._most_in_batch

    def found(self, slots: int) -> bool:
        """Note how many slots are free; returns whether they are ample."""
        ample = slots - self.kept >= AMPLE
        self.few = 1 if ample else self._careful
        return ample

    def left_by(self, process: Process | None) -> int:
        """Pages of room that a new page of a process must leave to others; None: of any process."""
        left = 0
        for each in self.processes:
            if each is not process and each.resident < each.own_memory_min:
                left += each.own_memory_min - each.resident
        user = None if process is None else process.user
        for one in self.users:
            if one is not user and one.processes:
                left += max(one.memory_min - one.resident, 0)
        if process is None:
            return left + self._reserve
        held = process.resident
        if held < process.own_memory_min or (user is not None and user.memory_min and user.resident < user.memory_min):
            return left
        if held < self._reserve:
            held += process.swapped
        return left + min(held, self._reserve)

    def first_in_turn(self) -> list[Process]:
        """Processes below their guarantee, whose faults are served before those of others."""
        first = [each for each in self.processes if each.resident < each.own_memory_min]
        for user in self.users:
            if user.resident < user.memory_min:
                first += user.processes
        return first

    def within(self, process: Process) -> list[Process]:
        """Processes that give pages to this one within a guarantee; a few, so that no event takes long."""
        user = process.user
        if user is None or not user.memory_min:
            return [process] if process.memory_min else []
        return sorted(user.processes, key=_resident, reverse=True)[:MOST_GIVERS]

    def balance(self) -> None:
        """Give the processes of users with a guarantee the parts of it that cover their pages."""
        for user in self.users:
            stay = [(each.resident - each.leaving, each) for each in user.processes]
            above = [(max(pages - each.own_memory_min, 0), each) for pages, each in stay]
            spare = sum([pages for pages, _ in stay]) - user.memory_min
            gives = {each.process_id: pages for each, pages in level(above, spare)}
            for pages, each in stay:
                each.memory_min = max(pages - gives.get(each.process_id, 0), each.own_memory_min)


def _resident(process: Process) -> int:
    return process.resident


def _most(settings: CoreSettings) -> int:
    return settings.frames - max(settings.high, 1)
