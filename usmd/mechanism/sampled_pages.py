"""Takes pages of one client out of its page table, so that touches are heard, and puts them back by UFFDIO_CONTINUE."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Final

from usmd.core.events import MINOR, MISSING, PROTECTED
from usmd.mechanism import ranges, uffd
from usmd.mechanism.off_loop import Run
from usmd.mechanism.region_addresses import RegionAddresses
from usmd.mechanism.sampler import ReferenceSampler
from usmd.mechanism.uffd import FLAG_MINOR, FLAG_PROTECTED, HARDWARE_PAGE

KIND_FLAGS: Final = FLAG_PROTECTED | FLAG_MINOR
KIND_OF: Final = (MISSING, MISSING, PROTECTED, PROTECTED, MINOR)
"""Kind of a fault by those flags of its message; the kernel sets one of them at most."""
_NOT_THERE: Final = (errno.EEXIST, errno.EFAULT, errno.EAGAIN)
"""The page is in the page table already, or in no memory, or a remap is unfinished."""


class SampledPages:
    """Takes pages of regions out of the client's page table, and puts pages back.

    `patiently` runs a call of `uffd` while the client has a remap under way, for a bounded time. `sampler` None: no
    page is taken out; one may be out all the same, because its client unmapped it or has not touched it yet.
    """

    __slots__ = ("_at", "_continue_pages", "_descriptor", "_patiently", "sampler")

    def __init__(self, descriptor: int, at: RegionAddresses, patiently: Callable[..., uffd.Drained]) -> None:
        self._descriptor = descriptor
        self._at = at
        self._patiently = patiently
        self._continue_pages = uffd.ContinuePages(descriptor)
        self.sampler: ReferenceSampler | None = None

    def stop(self) -> None:
        """Take no page out from now on."""
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None

    def take_out(self, region_id: int, runs: Sequence[Run]) -> str:
        """Take ranges of a region out of the page table; returns why no page can be, empty if it went well."""
        if self.sampler is None:
            return ""
        found = self._at.maps[region_id]
        return self.sampler.take_out(
            [(address, count) for offset, length in runs for _, count, address in found.locate(offset, length)]
        )

    def map_again(self, region_id: int, offset: int, length: int, *, writable: bool) -> None:
        """Put present bytes back into the page table, and wake the threads that wait for them.

        Bytes that are not present stay out: their threads fault again, and the kernel reports those as missing.
        """
        mode = 0 if writable else uffd.CONTINUE_WRITE_PROTECTED
        found = self._at.maps[region_id]
        if found.whole is not None and self._continue_pages(found.whole + offset, length, mode):
            return
        for _, count, address in found.locate(offset, length):
            self._map_again_at(address, count, mode)

    def _map_again_at(self, address: int, length: int, mode: int) -> None:
        while length > 0:
            done, error = self._patiently(uffd.continue_, address, length, mode=mode)
            address, length = address + done, length - done
            if not error:
                return
            if error == errno.EEXIST and not mode:  # perhaps write-protected
                ranges.unprotect(self._descriptor, address, HARDWARE_PAGE)
            elif error not in _NOT_THERE:
                ranges.refused("continue", error)
            ranges.wake(self._descriptor, address, HARDWARE_PAGE)  # a thread that cannot resume yet faults again
            address, length = address + HARDWARE_PAGE, length - HARDWARE_PAGE
