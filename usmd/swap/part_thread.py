"""What the two threads of a mirror have in common. Each writes to one of the parts, of which others discard slots."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from usmd.swap.base import SwapDevice
from usmd.swap.copies import Copies
from usmd.swap.reachable import Reachable


class Parts(NamedTuple):
    """The parts of a mirror, what is known of them, bytes of repairs a second, and a clock (seconds)."""

    far: SwapDevice
    local: SwapDevice
    copies: Copies
    reachable: Reachable
    repair_rate: int
    clock: Callable[[], float]


class PartThread:
    """The base of a thread that writes to `part`, and of what the others may call meanwhile.

    `_active`: slots that it writes to. `_discarded`: those of them to be discarded once they are written. Both are
    guarded by `_changed`, which the thread waits for.
    """

    def __init__(self, parts: Parts, part: SwapDevice, run: Callable[[], None]) -> None:
        """`run` is what the thread does; the caller starts it."""
        self.repaired = 0
        """Pages that were repaired."""
        self._far, self._local, self._copies, self._reachable, self._repair_rate, self._clock = parts
        self._part = part
        self._active: set[int] = set()
        self._discarded: list[int] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=run, name=f"usmd-{part.name}", daemon=True)

    def discard(self, slots: Sequence[int]) -> None:
        """Discard slots of the part, which `Copies` has as empty; those being written, once they are."""
        with self._changed:
            busy = self._active.intersection(slots)
            self._discarded += busy
        self._part.discard([slot for slot in slots if slot not in busy] if busy else slots)

    def close(self, seconds: float) -> bool:
        """End the thread, and wait so long for that; False: it has not ended, because a call of a part hangs."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.ident is None:  # it has never begun, and does not any more
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _defect(self) -> None:
        """Log the exception of a device that is being handled: the thread goes on."""
        from usmd import log  # here, because it takes long to import, and each start reads the kinds

        log.event("swap_device_defect", exc_info=True, device=self._part.name)
