"""The extents of a remote swap file: runs of slots that are one string on a server, and what is known of each.

An extent's string is made when a slot of it is first written, and deleted when none is in use. Its key has a number,
which grows when the old key must not be used again: after a deletion, so that the deletion cannot hit its successor,
and after a write whose outcome is unknown, because a server that was stopped may still perform it.

No method blocks for long; all may be called in any thread.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable
from typing import Final

TELLINGS: Final = 3
"""How often a key is deleted that a late write may make again."""


class Extents:
    """Extents of `size` slots each, `slots` slots in all. The last may have slots that do not exist.

    A string's key is `prefix` and in braces the owner's id and the extent's number, then its edition. What is in braces
    decides the slot of a cluster, so all editions of an extent are on one server.
    """

    def __init__(self, slots: int, size: int, prefix: str, owner: str) -> None:
        self.size = size
        self.owned = f"{prefix}{{{owner}."
        """What all keys begin with."""
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
        self._keys: list[str | None] = [None] * self.count
        """Present keys that were needed before."""
        self._unwanted: dict[str, int] = {}
        """Keys to be deleted, and how often."""

    def hold(self, slots: Iterable[int]) -> None:
        """Slots are about to be written: their extents stay."""
        with self._lock:
            for slot in slots:
                if not self._held[slot]:
                    self._held[slot] = 1
                    self._used[slot // self.size] += 1

    def give_up(self, slots: Iterable[int]) -> bool:
        """Slots have no bytes any more; returns whether there are keys to be deleted."""
        with self._lock:
            for slot in slots:
                if self._held[slot]:
                    self._held[slot] = 0
                    extent = slot // self.size
                    self._used[extent] -= 1
                    if not self._used[extent] and self._exists[extent]:
                        self._forget(extent)
            return bool(self._unwanted)

    def key(self, extent: int) -> str:
        """The present key of an extent, whether there is a string or not."""
        key = self._keys[extent]
        if key is None:
            key = self._keys[extent] = self._key(extent, self._edition[extent])
        return key

    def _key(self, extent: int, edition: int) -> str:
        return f"{self.owned}{extent}}}:{edition}"

    def exists(self, extent: int) -> bool:
        """Whether its string was made."""
        return bool(self._exists[extent])

    def is_doubtful(self, extent: int) -> bool:
        """Whether a write to its key may still happen."""
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

    def next_key(self, extent: int) -> str:
        """The key that a doubtful extent is to get; `is_renamed` makes it the present one."""
        return self._key(extent, (self._edition[extent] + 1) & 0xFFFF_FFFF)

    def is_renamed(self, extent: int) -> None:
        """Its string has its next key."""
        with self._lock:
            self._doubtful[extent] = 0
            self._abandon(extent, TELLINGS)

    def is_gone(self, extent: int) -> None:
        """Its string does not exist any more, or has lost its bytes: the next one has another key."""
        with self._lock:
            if self._exists[extent]:
                self._forget(extent)

    def unwanted(self) -> list[str]:
        """Keys to be deleted now."""
        with self._lock:
            return list(self._unwanted)

    def are_deleted(self, keys: Iterable[str]) -> None:
        """Keys were deleted, each once more."""
        with self._lock:
            for key in keys:
                left = self._unwanted.pop(key, 1) - 1
                if left:
                    self._unwanted[key] = left

    def existing(self) -> list[str]:
        """Keys of all strings."""
        with self._lock:
            return [self.key(extent) for extent, exists in enumerate(self._exists) if exists]

    def _forget(self, extent: int) -> None:
        """Its string is to be deleted, if it exists."""
        self._exists[extent] = 0
        self.made -= 1
        self._abandon(extent, TELLINGS if self._doubtful[extent] else 1)
        self._doubtful[extent] = 0

    def _abandon(self, extent: int, times: int) -> None:
        """Never use its key again, and delete what may have it."""
        self._unwanted[self.key(extent)] = times
        self._edition[extent] = (self._edition[extent] + 1) & 0xFFFF_FFFF
        self._keys[extent] = None
