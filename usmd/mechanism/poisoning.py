"""Poison for missing pages of one client: a touch of such a page raises SIGBUS, because it cannot be filled."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from usmd.mechanism import ranges, uffd
from usmd.mechanism.process_mappings import mappings_of, parts_between
from usmd.mechanism.put_off import PutOff, cut
from usmd.mechanism.region_addresses import RegionAddresses
from usmd.mechanism.uffd import HARDWARE_PAGE

MAX_HALVINGS: Final = 4096
"""How often a range with holes is halved to poison its mapped parts. Bounds the time that a client can cost."""


class Poisoning:
    """Poisons missing pages of regions, and of addresses outside all regions. Present pages stay as they are.

    `can`: whether the kernel can poison. `patiently` runs a call of `uffd` while the client has a remap under way, for
    a bounded time. What the kernel then still refuses is put off until `retry`.
    """

    __slots__ = ("_at", "_can", "_descriptor", "_halvings", "_patiently", "put_off")

    def __init__(
        self, descriptor: int, at: RegionAddresses, patiently: Callable[..., uffd.Drained], *, can: bool
    ) -> None:
        self._descriptor = descriptor
        self._at = at
        self._patiently = patiently
        self._can = can
        self._halvings = 0
        self.put_off: list[PutOff] = []
        """Read only; the hot path checks whether it is empty."""

    def poison(self, region_id: int, offset: int, length: int) -> bool:
        """Poison missing bytes of a region wherever they are mapped; False if the kernel cannot."""
        found = self._at.maps.get(region_id)
        pieces = [] if found is None else found.locate(offset, length)
        done = [self.poison_at(address, count) for _, count, address in pieces]  # all, even if one fails
        if found is not None and found.locate(offset, length) != pieces:  # a remap was read meanwhile
            done += [self.poison_at(address, count) for _, count, address in found.locate(offset, length)]
        return all(done)

    def poison_at(self, address: int, length: int) -> bool:
        """Poison what is missing at addresses; False if the kernel cannot."""
        self._halvings = 0
        return self._poison_at(address, length)

    def _poison_at(self, address: int, length: int) -> bool:
        if not self._can:
            return False
        while length > 0:
            done, error = self._patiently(uffd.poison, address, length)
            address, length = address + done, length - done
            if error == errno.EEXIST and not self._unmark(address):
                error = errno.EAGAIN
            if error == errno.EAGAIN:
                region_id, offset = self._at.find(address)
                self.put_off.append((0, address, length) if offset is None else (region_id, offset, length))
                return True
            if error in ranges.NOWHERE and length > HARDWARE_PAGE and self._halvings < MAX_HALVINGS:
                self._halvings += 1
                half = length // 2 & -HARDWARE_PAGE or HARDWARE_PAGE
                first = self._poison_at(address, half)
                return self._poison_at(address + half, length - half) and first
            if error and error != errno.EEXIST:
                return ranges.failed(self._descriptor, "poison", address, length, error)
            if error:
                address, length = address + HARDWARE_PAGE, length - HARDWARE_PAGE
        return True

    def _unmark(self, address: int) -> bool:
        """Poison a missing page that still has a mark of write protection; a present page stays.

        False while a remap is unfinished.
        """
        unmarked = ranges.unprotect(self._descriptor, address, HARDWARE_PAGE)
        _, error = uffd.poison(self._descriptor, address, HARDWARE_PAGE, on_busy=lambda: False)
        ranges.wake(self._descriptor, address, HARDWARE_PAGE)
        return error != errno.EAGAIN and (unmarked or error != errno.EEXIST)

    def poison_all(self, pid: int) -> None:
        """Poison every missing page of process `pid`, in all regions."""
        mappings = mappings_of(pid) if self._at.maps else []
        for found in list(self._at.maps.values()):
            for piece in list(found.pieces):
                if mappings is None:  # another user's process: its mappings are not known
                    self.poison_at(piece.address, piece.length)
                    continue
                for first, length in parts_between(mappings, piece.address, piece.address + piece.length):
                    # Else evicted pages could not be poisoned: they keep a mark of write protection.
                    ranges.unprotect(self._descriptor, first, length)
                    self.poison_at(first, length)

    def spare(self, region_id: int, offset: int, length: int) -> None:
        """Do not poison a range that was put off; for region 0 the offset is an address."""
        self.put_off, _ = cut(self.put_off, region_id, offset, length)

    def retry(self) -> None:
        """Retry what was put off."""
        put_off, self.put_off = self.put_off, []
        for region_id, offset, length in put_off:
            if region_id:
                self.poison(region_id, offset, length)
            else:
                self.poison_at(offset, length)
