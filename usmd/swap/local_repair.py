"""Repairs the local part of a mirror: pages that it could not return are copied to it from the far part.

That takes a thread of its own, which begins with the first such page, and is no faster than `repair_rate`. Nothing is
copied while the far part is away. A repair and a write to the same slot are never under way together: a write waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from usmd.errors import DataLoss
from usmd.swap.base import Results, SlotIO, SwapDevice
from usmd.swap.copies import BOTH, FAR, Copies
from usmd.swap.far_writer import BATCH, REST_SECONDS, fresh_entries
from usmd.swap.reachable import Reachable

AWAY_SECONDS: Final = 0.1
"""Pause before the next look at a far part that is away."""


class LocalRepair:
    """What writes to the local part. `repair_rate`: bytes of repairs a second. Any thread may call any method."""

    def __init__(
        self,
        far: SwapDevice,
        local: SwapDevice,
        copies: Copies,
        reachable: Reachable,
        repair_rate: int,
        clock: Callable[[], float],
    ) -> None:
        self.repaired = 0
        """Pages that were repaired."""
        self._far = far
        self._local = local
        self._copies = copies
        self._reachable = reachable
        self._repair_rate = repair_rate
        self._clock = clock
        self._active: frozenset[int] = frozenset()
        """Slots that a repair writes to."""
        self._discarded: list[int] = []
        """Slots of these to be discarded once they are written."""
        self._not_before = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def lost(self, slot: int, number: int) -> None:
        """The local part did not return a page that the far one has."""
        self._copies.settle(slot, number, FAR)
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=f"usmd-{self._local.name}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def write(self, entries: Sequence[SlotIO]) -> Results:
        """Write entries whose numbers `Copies` has by now to the local part, when no repair writes to their slots."""
        with self._changed:  # always: a repair that is being chosen has not told yet which slots it writes to
            self._changed.wait_for(lambda: self._active.isdisjoint(entry.slot for entry in entries))
        return self._local.write(entries)

    def discard(self, slots: Sequence[int]) -> None:
        """Discard slots that `Copies` has as empty; those that a repair writes to, once they are written."""
        with self._changed:
            busy = self._active.intersection(slots)
            self._discarded += busy
        self._local.discard([slot for slot in slots if slot not in busy] if busy else slots)

    def close(self, seconds: float) -> bool:
        """End the thread, and wait so long for that; False: it has not ended, because a call of a part hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._wait():
            try:
                self._repair()
            except Exception:  # noqa: BLE001 - a defect of a device: logged with its traceback, and tried again later
                from usmd import log  # here, because it takes long to import, and each start reads the kinds

                log.event("swap_device_defect", exc_info=True, device=self._local.name)
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
            self._active = frozenset(entry.slot for entry in current)
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
            self._active = frozenset()
            self._changed.notify_all()
