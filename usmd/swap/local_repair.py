"""Repairs the local part of a mirror: pages that it could not return are copied to it from the far part.

That takes a thread of its own, which begins with the first such page, and is no faster than `repair_rate`. Nothing is
copied while the far part is away. A repair and a write to the same slot are never under way together: a write waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from usmd.errors import DataLoss
from usmd.swap.base import Results, SlotIO
from usmd.swap.copies import BOTH, FAR
from usmd.swap.far_writer import BATCH, REST_SECONDS, fresh_entries
from usmd.swap.part_thread import Parts, PartThread

AWAY_SECONDS: Final = 0.1
"""Pause before the next look at a far part that is away."""


class LocalRepair(PartThread):
    """What writes to the local part. Any thread may call any method."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, parts.local, self._run)
        self._not_before = 0.0

    def lost(self, slot: int, number: int) -> None:
        """The local part did not return a page that the far one has."""
        self._copies.settle(slot, number, FAR)
        with self._changed:
            if self._thread.ident is None and not self._closed:
                self._thread.start()
            self._changed.notify_all()

    def write(self, entries: Sequence[SlotIO]) -> Results:
        """Write entries whose numbers `Copies` has by now to the local part, when no repair writes to their slots."""
        with self._changed:  # always: a repair that is being chosen has not told yet which slots it writes to
            self._changed.wait_for(lambda: self._active.isdisjoint(entry.slot for entry in entries))
        return self._local.write(entries)

    def _run(self) -> None:
        while self._wait():
            try:
                self._repair()
            except Exception:  # noqa: BLE001 - a defect of a device: logged with its traceback, and tried again later
                self._defect()
                self._not_before = self._clock() + REST_SECONDS
            finally:
                self._end()

    def _wait(self) -> bool:
        """Wait for something to repair; False: the mirror closes."""
        with self._changed:
            while not self._closed:
                pause = AWAY_SECONDS if self._reachable.away else self._not_before - self._clock()
                wanted = self._copies.count(FAR) > 0
                if wanted and pause <= 0:
                    return True
                self._changed.wait(pause if wanted else None)
        return False

    def _repair(self) -> None:
        entries = fresh_entries(self._copies.find(FAR, BATCH), self._local.page_size)
        read: list[SlotIO] = []
        for entry, error in zip(entries, self._far.read(entries), strict=True):
            if error is None:
                read.append(entry)
            elif isinstance(error, DataLoss):  # what reads it next finds out whether the local part has it after all
                self._copies.settle(entry.slot, entry.generation, BOTH)
        with self._changed:
            current = [entry for entry in read if self._copies.number(entry.slot) == entry.generation]
            self._active = {entry.slot for entry in current}
        errors = self._local.write(current)
        for entry, error in zip(current, errors, strict=True):
            if error is None:
                self.repaired += self._copies.settle(entry.slot, entry.generation, BOTH)
        failed = len(read) < len(entries) or any(errors)
        took = len(read) * self._local.page_size / self._repair_rate
        self._not_before = self._clock() + max(took, REST_SECONDS if failed else 0.0)

    def _end(self) -> None:
        with self._changed:
            discarded, self._discarded = self._discarded, []
            if discarded:
                self._local.discard(discarded)
            self._active = set()
            self._changed.notify_all()
