"""Background reclaim: asks each conditional policy in turn, checks its requests, and does those with room.

A round is deferred work, so no event takes long, however many processes and requests there are. No request makes a
fault wait.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from usmd.core.pages_left import Steps
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.core.swap_map import SLOT_BITS
from usmd.core.victims import TRIM
from usmd.core.work import Kind, Work
from usmd.safe_repr import safe_repr

if TYPE_CHECKING:
    from usmd.core.migration import Migration
    from usmd.core.page_life import PageLife
    from usmd.core.placement import Placement
    from usmd.core.reclaim import Reclaim
    from usmd.core.region import Process, Region
    from usmd.core.state import State


def tell_swapped(state: State, process: Process) -> Steps:
    """Notify a new conditional policy of the pages that are already in swap."""
    policies = process.policies
    listener = policies.on_swapped
    if listener is None:
        return
    for region in list(process.regions.values()):
        for page, entry in region.table.entries():
            if policies.on_swapped != listener or process.process_id not in state.processes:
                return
            if entry < 0 and region.region_id in state.regions:
                policies.page_swapped(region.first_key + page, (-entry - 1) >> SLOT_BITS)
            yield True


class BackgroundReclaim:
    """Does the requests of conditional policies."""

    def __init__(
        self, state: State, life: PageLife, migration: Migration, placement: Placement, reclaim: Reclaim
    ) -> None:
        self._state = state
        self._life = life
        self._migration = migration
        self._placement = placement
        self._reclaim = reclaim
        self._under_way = False

    def begin(self) -> None:
        """Begin a round; the next one begins `cond_interval` after its end."""
        state = self._state
        state.background_at = inf
        if not self._under_way:
            self._under_way = True
            state.work.add(Work(Kind.BACKGROUND, steps=self._round()))

    def _round(self) -> Steps:
        state = self._state
        for process in list(state.processes.values()):
            if process.policies.conditional and process.process_id in state.processes:
                yield from self._turn(process)
        self._under_way = False
        if any(process.policies.conditional for process in state.processes.values()):
            state.background_at = state.now + state.settings.cond_interval
            state.more_to_do = True

    def _turn(self, process: Process) -> Steps:
        trim, swap_in, demote = process.policies.turn(self._state.settings.cond_batch)
        back = [found for page in swap_in if (found := self._in_swap(process, page)) is not None]
        moves = [
            (*found, device)
            for page, device in demote
            if (found := self._in_swap(process, page)) is not None and self._is_move(process, *found, device)
        ]
        yield True
        yield from self._trim(process, trim)
        yield from self._swap_in(process, back)
        yield from self._demote(moves)

    def _in_swap(self, process: Process, key: int) -> tuple[Region, int] | None:
        """Region and page number of a page in swap; None if it is on its way already, or if the policy errs."""
        number, page = key >> PAGE_BITS, key & PAGE_MASK
        region = process.regions.get(number)
        if region is None or page >= region.page_count:
            dying = self._state.dying.get(number)  # the policy is notified of its pages one by one
            if dying is None or dying.process is not process:
                process.policies.record_error("cond", f"turn named page {safe_repr(key)}, which is not the process's")
            return None
        entry = region.table[page]
        if entry < 0:
            return region, page
        if entry == 0 or not self._migration.under_way(entry - 1):
            process.policies.record_error("cond", f"turn named page {page} of region {number}, which is not in swap")
        return None

    def _is_move(self, process: Process, region: Region, page: int, device: int) -> bool:
        devices = self._state.swap.devices
        wrong = ""
        if not 0 <= device < len(devices):
            wrong = f"to swap device {safe_repr(device)}; there are 0 to {len(devices) - 1}"
        elif (-region.table[page] - 1) >> SLOT_BITS == device:
            wrong = f"to swap device {device}, where it is already"
        if wrong:
            process.policies.record_error(
                "cond", f"turn requested page {page} of region {region.region_id} demoted {wrong}"
            )
        return not wrong

    def _is_there(self, region: Region, page: int) -> bool:
        """Whether a page is still in swap after the events in between."""
        return region.gone is None and region.table[page] < 0

    def _trim(self, process: Process, wanted: int) -> Steps:
        while wanted > 0 and process.process_id in self._state.processes:
            if process.resident <= max(process.unevictable, process.pinned):
                return
            self._reclaim.slots.use(None)
            begun = self._reclaim.from_process(process, min(wanted, self._state.guarantees.batch), TRIM)
            if begun == 0:
                return
            wanted -= begun
            for _ in range(begun):
                yield True

    def _swap_in(self, process: Process, pages: list[tuple[Region, int]]) -> Steps:
        for region, page in pages:
            if self._placement.spare(self._state.settings.high) <= 0 or process.resident >= process.memory_max:
                return
            if self._is_there(region, page):
                self._life.swap_in(region, page, None)
                process.counters.swapped_back += 1
            yield True

    def _demote(self, moves: list[tuple[Region, int, int]]) -> Steps:
        state = self._state
        room = {device.number: device.free for device in state.swap.devices}
        for region, page, number in moves:
            # A migration may take frames down to half the low watermark, because each is free again in a moment and
            # reclaim does not begin for it. Otherwise no page would move while memory rests at the watermark.
            if self._placement.spare(state.settings.low // 2) <= 0 or self._reclaim.reclaiming:
                return
            if state.moves.room(state.now) < 1:
                return
            process = region.process
            if process.resident >= process.memory_max:
                return
            takes = room[number] > 0 and state.swap.devices[number].takes(state.now)
            if takes and self._is_there(region, page) and self._life.slots.may_migrate(region, page, number):
                room[number] -= 1
                self._migration.begin(region, page, number)
                state.moves.spend(1)
            yield True
