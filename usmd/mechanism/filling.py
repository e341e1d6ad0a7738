"""Brings staged pages of real memory to where clients see them: copied by a client's userfaultfd, else to the memfd."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Mapping
from typing import Final

from usm_wire.residency import RESIDENT, RESIDENT_BYTE
from usmd.core.region import PAGE_BITS, PAGE_MASK
from usmd.errors import SwapIOError, Unmapped, UsmdError
from usmd.mechanism.base import Busy, Errors
from usmd.mechanism.client_memory import ClientMemory
from usmd.mechanism.real_region import RealRegion
from usmd.mechanism.releasing import Releasing
from usmd.mechanism.staging import MemfdStage

IN_PLACE_AFTER: Final = 3
"""Tries after which a page is filled in place, if it cannot be made missing because something holds its folio."""
MAX_BUSY: Final = 1000
"""How often the daemon tries to fill a page while its client interferes."""


class Filling:
    """Fills pages of `regions`, the ones that are not gone.

    `releasing` may still have to empty what a page that left had there.
    """

    __slots__ = ("_page_size", "_regions", "_releasing")

    def __init__(self, page_size: int, regions: Mapping[int, RealRegion], releasing: Releasing) -> None:
        self._page_size = page_size
        self._regions = regions
        self._releasing = releasing

    def run(self, stage: MemfdStage, indexes: list[int], results: Errors) -> None:
        """Fill the pages of a stage at `indexes`, neighbours in one region; sets why a page cannot come in `results`.

        Busy: try again. `stage.done` gets how many bytes of each page are filled.
        """
        size = self._page_size
        first = stage.pages[indexes[0]]
        region = self._regions.get(first.page >> PAGE_BITS)
        if region is None:
            return  # the core knows, and frees frame and slot
        page, count = first.page & PAGE_MASK, len(indexes)
        self._releasing.settle_for(region, page * size, count * size)
        if region.unfreed:
            region.wanted(page * size, count * size)
        if region.client is None:
            for number, index in enumerate(indexes):
                start = (page + number) * size
                region.mapping[start : start + size] = stage.buffers[index]
                stage.done[index] = size
            region.residency[page : page + count] = RESIDENT_BYTE * count
            return
        skip = stage.done[indexes[0]]
        done, error = region.client.copy(
            region.region_id, page * size + skip, count * size - skip,
            stage.block.address + indexes[0] * size + skip, writable=first.writable,
        )  # fmt: skip
        done += skip
        if done == size and count == 1:
            stage.done[indexes[0]] = size
            region.residency[page] = RESIDENT
            return
        whole, part = divmod(done, size)
        for index in indexes[:whole]:
            stage.done[index] = size
        region.residency[page : page + whole] = RESIDENT_BYTE * whole
        if error == 0:
            return
        stage.done[indexes[whole]] = part
        if error == errno.EEXIST:
            # The client has written to the memfd where the page was missing. The bytes from swap count, not these.
            position = (page * size + done) & -mmap.PAGESIZE
            if region.has_folios and stage.tries > IN_PLACE_AFTER:
                start = indexes[0] * size + position - page * size
                data = stage.block.view[start : start + mmap.PAGESIZE]
                _in_place(region, region.client, position, data, writable=first.writable)
                stage.done[indexes[whole]] = part + mmap.PAGESIZE
                if stage.done[indexes[whole]] == size:
                    region.residency[page + whole] = RESIDENT
                    whole += 1
            else:
                self._releasing.punch(region, [(position, mmap.PAGESIZE)])
        if error in (errno.EEXIST, errno.EAGAIN) and stage.tries < MAX_BUSY:
            for index in indexes[whole:]:
                results[index] = Busy("a page cannot be brought in just now")
        elif count > 1:
            for index in indexes[whole:]:  # the client has split its mapping: one by one
                self.run(stage, [index], results)
        else:
            results[indexes[0]] = _why(error)


def _in_place(region: RealRegion, client: ClientMemory, position: int, data: memoryview, *, writable: bool) -> None:
    """Fill a page of the memfd that cannot be made missing: something holds the folio that it is part of.

    No page table has the page before it is filled, so no thread sees a part of it: a touch is a MINOR fault.
    """
    region.mapping[position : position + len(data)] = data
    client.sampled.map_again(region.region_id, position, len(data), writable=writable)


def _why(error: int) -> UsmdError:
    if error in (errno.ENOENT, errno.ESRCH):
        return Unmapped("its client has unmapped the page")
    return SwapIOError(f"the page cannot be brought in: {os.strerror(error)}")
