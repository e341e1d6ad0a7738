"""The extents of a remote swap file: runs of slots that are one string on a server, and what is known of each.

An extent's string is made when a slot of it is first written, and deleted when none is in use. Its name has a number,
which grows when the old name must not be used again: after a deletion, so that the deletion cannot hit its successor,
and after a write whose outcome is unknown, because a server that was stopped may still perform it.

No method blocks for long; all may be called in any thread.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

TELLINGS: Final = 3
"""How often a name is deleted that a late write may make again."""


class Name(NamedTuple):
    """The name of a string: its extent, and the how-manieth of this extent it is."""

    extent: int
    edition: int


class Extents:
    """Extents of `size` slots each, `slots` slots in all. The last may have slots that do not exist."""

    def __init__(self, slots: int, size: int) -> None:
        self.size = size
        self.count = -(-slots // size)
        """Number of extents."""
        self.made = 0
        """Strings that exist, as far as is known."""
        self._lock = threading.Lock()
        self._held = bytearray(slots)
        self._used = array("I", bytes(4 * self.count))
        self._edition = array("I", bytes(4 * self.count))
        self._exists = bytearray(self.count)
        self._doubtful = bytearray(self.count)
        self._unwanted: dict[Name, int] = {}
        """Names to be deleted, and how often."""

    def hold(self, slots: Iterable[int]) -> None:
        """Slots are about to be written: their extents stay."""
        with self._lock:
            for slot in slots:
                if not self._held[slot]:
                    self._held[slot] = 1
                    self._used[slot // self.size] += 1

    def give_up(self, slots: Iterable[int]) -> bool:
        """Slots have no bytes any more; returns whether there are names to be deleted."""
        with self._lock:
            for slot in slots:
                if self._held[slot]:
                    self._held[slot] = 0
                    extent = slot // self.size
                    self._used[extent] -= 1
                    if not self._used[extent] and self._exists[extent]:
                        self._forget(extent)
            return bool(self._unwanted)

    def name(self, extent: int) -> Name:
        """The present name of an extent, whether there is a string or not."""
        return Name(extent, self._edition[extent])

    def exists(self, extent: int) -> bool:
        """Whether its string was made."""
        return bool(self._exists[extent])

    def is_doubtful(self, extent: int) -> bool:
        """Whether a write under its name may still happen."""
        return bool(self._doubtful[extent])

    def is_made(self, extent: int) -> None:
        """Its string exists now."""
        with self._lock:
            if not self._exists[extent]:
                self._exists[extent] = 1
                self.made += 1

    def doubt(self, extent: int) -> None:
        """A write to its string may still happen, or has happened."""
        with self._lock:
            if self._exists[extent]:
                self._doubtful[extent] = 1
            else:  # it may have been the one that makes it
                self._abandon(extent, TELLINGS)

    def next_name(self, extent: int) -> Name:
        """The name that a doubtful extent is to get; `is_renamed` makes it the present one."""
        return Name(extent, (self._edition[extent] + 1) & 0xFFFF_FFFF)

    def is_renamed(self, extent: int) -> None:
        """Its string has its next name."""
        with self._lock:
            self._doubtful[extent] = 0
            self._abandon(extent, TELLINGS)

    def is_gone(self, extent: int) -> None:
        """Its string does not exist any more, or has lost its bytes: the next one has another name."""
        with self._lock:
            if self._exists[extent]:
                self._forget(extent)

    def unwanted(self) -> list[Name]:
        """Names to be deleted now."""
        with self._lock:
            return list(self._unwanted)

    def are_deleted(self, names: Iterable[Name]) -> None:
        """Names were deleted, each once more."""
        with self._lock:
            for name in names:
                left = self._unwanted.pop(name, 1) - 1
                if left:
                    self._unwanted[name] = left

    def existing(self) -> list[Name]:
        """Names of all strings."""
        with self._lock:
            return [self.name(extent) for extent, exists in enumerate(self._exists) if exists]

    def _forget(self, extent: int) -> None:
        """Its string is to be deleted, if it exists."""
        self._exists[extent] = 0
        self.made -= 1
        self._abandon(extent, TELLINGS if self._doubtful[extent] else 1)
        self._doubtful[extent] = 0

    def _abandon(self, extent: int, times: int) -> None:
        """Never use its name again, and delete what may have it."""
        self._unwanted[self.name(extent)] = times
        self._edition[extent] = (self._edition[extent] + 1) & 0xFFFF_FFFF
