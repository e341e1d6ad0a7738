"""Counts the swap slots that evictions may begin to fill, which depends on the process for which frames are freed.

The last slots are for what other processes lack to their guarantees, and for newcomers (see `Guarantees`). A page from
swap may use them all: it still has its own slot, which becomes free if the page is written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usmd.core.frames import DIRTY, KEPT, WITHOUT

if TYPE_CHECKING:
    from usmd.core.page_life import PageLife
    from usmd.core.region import Process
    from usmd.core.state import State


class SlotRoom:
    """Slots for evictions that begin now."""

    __slots__ = ("_from_swap", "_guarantees", "_life", "_process", "_state")

    def __init__(self, state: State, life: PageLife) -> None:
        self._state = state
        self._life = life
        self._guarantees = state.guarantees
        self._process: Process | None = None
        self._from_swap = False

    def use(self, process: Process | None, *, swap: bool = False) -> None:
        """From now on frames are freed for a page of this process (None: of any). `swap`: the page comes from swap."""
        self._process = process
        self._from_swap = swap

    def to_spare(self) -> int:
        """Free slots that no eviction under way may need, and that are not kept for others."""
        spare, kept = self._state.swap.writable(self._state.now) - self._life.unwritten, self._guarantees.kept
        if kept == 0:
            return spare
        ample = self._guarantees.found(spare)
        if self._from_swap:
            return spare
        return spare - (kept if ample else self._guarantees.left_by(self._process))

    def of(self, process: Process) -> int:
        """As `to_spare`, within the `swap_max` of the process whose pages go."""
        spare, room = self.to_spare(), self._state.budgets.swap_room(process)
        return spare if spare < room else room

    def something_could_go(self) -> bool:
        """Whether any frame may be evicted: it is not KEPT and, if it is dirty, there are slots. Cheap: one pass."""
        state = self._state
        frames, budgets = state.frames, state.budgets
        stays = KEPT if self.to_spare() > 0 else KEPT | DIRTY
        free_to_go = frames.flags.translate(WITHOUT[stays]).count(1)
        if stays == KEPT and budgets.limited:
            free_to_go -= sum(budgets.stuck(process) for process in state.processes.values())
        return free_to_go > frames.free + len(self._life.filling)  # both have no flags
