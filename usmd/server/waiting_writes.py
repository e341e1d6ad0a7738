"""Writes that no job has begun, divided among jobs so that processes take turns.

While all that waits is one job, it goes as it came. Else a turn of a process is worth QUANTUM writes, as of reads
(`waiting_reads`), so a process with many writes delays those of another by a turn. A write is one page, and slots that
evictions took one after another are neighbours within a turn.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from usmd.core.commands import SlotPage
from usmd.server.waiting_reads import QUANTUM


class _Turns:
    """The writes of one process that wait, oldest first, and how many it may still take in its turn."""

    __slots__ = ("left", "pages")

    def __init__(self) -> None:
        self.pages: deque[SlotPage] = deque()
        self.left = QUANTUM


class WaitingWrites:
    """Writes of one device, of each process oldest first."""

    def __init__(self) -> None:
        self._new: list[SlotPage] = []
        """Not yet divided by process."""
        self._turns: OrderedDict[int, _Turns] = OrderedDict()
        """By process, if any of its divided writes waits; the one whose turn it is comes first."""
        self._divided = 0

    def __len__(self) -> int:
        return len(self._new) + self._divided

    def add(self, pages: Sequence[SlotPage]) -> None:
        """Add writes."""
        self._new.extend(pages)

    def take(self, most: int) -> list[SlotPage]:
        """The next writes for one job, at most `most`."""
        if not self._divided and len(self._new) <= most:
            taken, self._new = self._new, []
            return taken
        self._divide()
        taken = []
        while self._turns and len(taken) < most:
            process_id, turns = next(iter(self._turns.items()))
            count = min(turns.left, len(turns.pages), most - len(taken))
            taken.extend([turns.pages.popleft() for _ in range(count)])
            turns.left -= count
            if not turns.pages:
                del self._turns[process_id]
            elif not turns.left:
                turns.left = QUANTUM
                self._turns.move_to_end(process_id)
        self._divided -= len(taken)
        return taken

    def take_all(self) -> list[SlotPage]:
        """Take out all writes, and return them."""
        return self.take(len(self))

    def _divide(self) -> None:
        for page in self._new:
            turns = self._turns.get(page.process_id)
            if turns is None:
                turns = self._turns[page.process_id] = _Turns()
            turns.pages.append(page)
        self._divided += len(self._new)
        self._new.clear()
