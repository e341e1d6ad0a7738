"""Which copies of the slots of a mirror are valid: a table with one state and the number of one write for each slot.

Each write to a slot has a number of its own, which both parts of the mirror keep as the generation of its bytes. So an
older copy never passes for a newer one: its part itself finds that the generation differs.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from usmd.errors import SwapDeviceError

NOTHING: Final = 0
"""The slot is empty, or being written to the local part."""
COMING: Final = 1
"""The local part has the bytes; a copy for the far part waits in memory."""
BEHIND: Final = 2
"""The local part alone has the bytes; they are to be copied to the far part."""
BOTH: Final = 3
"""Both parts have the bytes, as far as is known."""
ALONE: Final = 4
"""The local part alone has the bytes, and they are not copied: the far part refused them, or they cannot be read."""
FAR: Final = 5
"""The far part has the bytes, and the local one did not return them; they are to be copied to it."""

_ANONYMOUS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class Copies:
    """The state of each of `slots` slots. Any thread may call any method.

    Raises SwapDeviceError without memory.
    """

    def __init__(self, slots: int) -> None:
        try:
            # Mapped, so that only used slots take memory.
            self._numbers = memoryview(mmap.mmap(-1, slots * 8, flags=_ANONYMOUS)).cast("Q")
            self._states = mmap.mmap(-1, slots, flags=_ANONYMOUS)
        except (OSError, OverflowError) as error:
            raise SwapDeviceError(f"no memory for the table of {slots} slots, 9 bytes each ({error})") from error
        self._last = 0
        self._counts = [slots, 0, 0, 0, 0, 0]
        self._cursor = 0
        self._lock = threading.Lock()

    def count(self, state: int) -> int:
        """Slots in a state."""
        return self._counts[state]

    def state(self, slot: int) -> int:
        """The state of a slot."""
        return self._states[slot]

    def number(self, slot: int) -> int:
        """The number of the last write to a slot; 0: it is empty."""
        return self._numbers[slot]

    def begin(self, slots: Sequence[int]) -> list[int]:
        """New bytes are about to be written to the slots; returns the number of each write."""
        with self._lock:
            first = self._last + 1
            self._last += len(slots)
            numbers = list(range(first, self._last + 1))
            for slot, number in zip(slots, numbers, strict=True):
                self._numbers[slot] = number
                self._set(slot, NOTHING)
        return numbers

    def settle(self, slot: int, number: int, state: int) -> bool:
        """The bytes of a write are in this state now. False, and nothing changes, if a later write or discard came."""
        with self._lock:
            if self._numbers[slot] != number:
                return False
            self._set(slot, state)
            return True

    def discard(self, slots: Iterable[int]) -> None:
        """The slots are empty."""
        with self._lock:
            for slot in slots:
                self._numbers[slot] = 0
                self._set(slot, NOTHING)

    def find(self, state: int, most: int = 1) -> list[tuple[int, int]]:
        """Up to `most` slots in a state, each with its number, by slot; the next call looks behind them."""
        found: list[tuple[int, int]] = []
        with self._lock:
            if self._counts[state] == 0:
                return found
            wanted = bytes([state])
            for begin in (self._cursor, 0):
                slot = self._states.find(wanted, begin)
                while slot >= 0 and len(found) < most:
                    found.append((slot, self._numbers[slot]))
                    self._cursor = slot + 1
                    slot = self._states.find(wanted, self._cursor)
                if found:
                    break
        return found

    def close(self) -> None:
        """Free the table. No method may be called after this."""
        self._numbers.release()
        self._states.close()

    def _set(self, slot: int, state: int) -> None:
        self._counts[self._states[slot]] -= 1
        self._counts[state] += 1
        self._states[slot] = state
