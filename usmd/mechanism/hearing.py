"""Which regions of a client report touches of pages that are in the memory and not in the page table (MINOR faults).

A region that does not, a *deaf* one, lets the kernel map what is in its memfd by itself: a whole huge folio by one
entry of the page table, where UFFDIO_CONTINUE needs one call and 512 entries. That is safe while no page of the region
is write-protected or was punched. Before the first one is, the whole region is made to hear, once and for good.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from usmd.mechanism import ranges, uffd
from usmd.mechanism.region_addresses import RegionAddresses
from usmd.mechanism.uffd import HARDWARE_PAGE, Drained

_TRIES: Final = 3
"""How often a region is made to hear if its client moves it meanwhile."""


class Hearing:
    """The deaf regions of the client behind `descriptor`.

    `at`: where its regions are. `patiently` runs a call of `uffd` while the client has a remap under way, for a bounded
    time.
    """

    __slots__ = ("_at", "_descriptor", "_in_parts", "_patiently", "deaf")

    def __init__(self, descriptor: int, at: RegionAddresses, patiently: Callable[..., Drained]) -> None:
        self._descriptor = descriptor
        self._at = at
        self._patiently = patiently
        self.deaf: set[int] = set()
        """Regions of which not all pages are heard."""
        self._in_parts: set[int] = set()
        """Those of them of which some may be: their clients have unmapped parts."""

    def is_deaf(self, region_id: int) -> bool:
        """Whether no page of a region is heard."""
        return region_id in self.deaf and region_id not in self._in_parts

    def forget(self, region_id: int) -> None:
        """Forget a region."""
        self.deaf.discard(region_id)
        self._in_parts.discard(region_id)

    def hear(self, region_id: int, offset: int, length: int, *, protect: bool = False) -> bool:
        """Have touches of a range of a region reported, and of the rest of it if that can be done at once.

        `protect`: the range may be write-protected afterwards; else it is not. False: some pages are not heard now, as
        while a remap is unfinished.
        """
        if self.hear_all(region_id):
            return True
        moves = self._at.moves
        done = all(
            self._hear_at(address, count, protect=protect)
            for _, count, address in self._at.maps[region_id].locate(offset, length)
        )
        return done and moves == self._at.moves

    def hear_all(self, region_id: int) -> bool:
        """Have touches of a whole region reported; False if that cannot be done at once."""
        if region_id not in self.deaf:
            return True
        if region_id not in self._in_parts and self._hear_pieces(region_id):
            self.forget(region_id)
            return True
        self._in_parts.add(region_id)
        return False

    def map_present(self, region_id: int, offset: int, length: int) -> int:
        """Let threads touch bytes that are in the memory, writable, and wake those that wait for them.

        The kernel maps those of a deaf region when they are touched. The others are put into the page table, which
        needs HEARS_TOUCHES. Returns how many bytes, from the first on: it stops at a page that is not in the memory,
        that is in the page table already, or that the client does not map.
        """
        deaf = self.is_deaf(region_id)
        done = 0
        for start, count, address in self._at.maps[region_id].locate(offset, length):
            if start != offset + done:
                break
            if deaf:
                ranges.wake(self._descriptor, address, count)
                done += count
                continue
            part, error = self._patiently(uffd.continue_, address, count)
            done += part
            if error:
                break
        return done

    def _hear_pieces(self, region_id: int) -> bool:
        """Try to have all of a region heard, no page of which is protected yet."""
        for _ in range(_TRIES):
            moves = self._at.moves
            done = all(
                self._hear_range(piece.address, piece.length, protect=False) == 0
                for piece in list(self._at.maps[region_id].pieces)
            )
            if moves == self._at.moves:
                return done
        return False

    def _hear_at(self, address: int, length: int, *, protect: bool) -> bool:
        error = self._hear_range(address, length, protect=protect)
        if error in ranges.NOWHERE:  # what is unmapped cannot be touched, but the rest of the range is not heard yet
            return length <= HARDWARE_PAGE or all(
                self._hear_at(address + start, HARDWARE_PAGE, protect=protect)
                for start in range(0, length, HARDWARE_PAGE)
            )
        if error and error != errno.EAGAIN:
            ranges.refused("register", error)
        return not error

    def _hear_range(self, address: int, length: int, *, protect: bool) -> int:
        """Returns 0 or why the range is not heard, as an errno.

        The kernel would register other shared memory, too, that the client has mapped there meanwhile. So a call that
        fails where anything is not registered comes before. It comes again afterwards, because it fails during a
        remap, and registering does not: it would miss what is just being moved.
        """
        for register in (True, False):
            error = self._patiently(_set_protection, address, length, protect=protect).error
            if error:
                return error
            if register:
                try:
                    uffd.register(self._descriptor, address, length, minor=True)
                except OSError as refused:
                    return refused.errno or errno.EIO
        return 0


def _set_protection(
    descriptor: int, address: int, length: int, *, protect: bool, on_busy: Callable[[], bool]
) -> Drained:
    while True:
        try:
            uffd.write_protect(descriptor, address, length, protect=protect)
        except OSError as error:
            if error.errno != errno.EAGAIN or not on_busy():
                return Drained(0, error.errno or errno.EIO)
        else:
            return Drained(length, 0)
